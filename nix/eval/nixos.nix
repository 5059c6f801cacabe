# The options of NixOS that cc-ci's modules and hosts set, under NixOS' own names and
# with its types, for an evaluation with nixpkgs' lib alone. What is not here stops that
# evaluation, so that a misspelt option of NixOS is found as well. Units are rendered as
# NixOS does. With a whole nixpkgs none of this is used.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  option = type: mkOption { inherit type; };
  optional = type: default: mkOption { inherit type default; };
  bool = optional types.bool false;
  text = optional (types.nullOr types.str) null;
  any = optional types.anything { };
  strings = optional (types.listOf types.str) [ ];
  setOf = options: optional (types.attrsOf (types.submodule { inherit options; })) { };

  unitName = types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)";
  units = optional (types.listOf unitName) [ ];
  atom = types.oneOf [ types.bool types.int types.float types.str types.path types.package ];
  section = optional (types.attrsOf (types.either atom (types.listOf atom))) { };

  unit = {
    description = optional types.singleLineStr "";
    documentation = strings;
    wantedBy = units;
    requiredBy = units;
    upheldBy = units;
    requires = units;
    wants = units;
    after = units;
    before = units;
    bindsTo = units;
    partOf = units;
    conflicts = units;
    onFailure = units;
    unitConfig = section;
    restartTriggers = optional (types.listOf types.unspecified) [ ];
  };
  service = unit // {
    environment = optional (types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ]))) { };
    path = optional (types.listOf (types.oneOf [ types.package types.str ])) [ ];
    serviceConfig = section;
    restartIfChanged = optional types.bool true;
  };

  inSection = name: value: lib.optionals (value != { } && value != [ ]) ([ "[${name}]" ] ++ lines value ++ [ "" ]);
  lines = lib.flip lib.pipe [
    (lib.mapAttrsToList (key: value: map (one: "${key}=${toText one}") (lib.toList value)))
    lib.concatLists
  ];
  toText = value: if builtins.isBool value then lib.boolToString value else toString value;
  head = u: inSection "Unit" (lib.filterAttrs (_: v: v != "" && v != [ ]) {
    Description = u.description;
    Requires = toString u.requires;
    Wants = toString u.wants;
    After = toString u.after;
    Before = toString u.before;
    BindsTo = toString u.bindsTo;
    PartOf = toString u.partOf;
    Conflicts = toString u.conflicts;
    OnFailure = toString u.onFailure;
  } // u.unitConfig);
  # NixOS makes links of these besides.
  tail = u: inSection "Install" (lib.filterAttrs (_: v: v != "") { WantedBy = toString u.wantedBy; RequiredBy = toString u.requiredBy; });
  environment = s: map (name: "Environment=${builtins.toJSON "${name}=${toString s.environment.${name}}"}")
    (lib.attrNames (lib.filterAttrs (_: v: v != null) s.environment))
    # NixOS adds the paths of coreutils, findutils, grep, sed and systemd.
    ++ lib.optional (s.path != [ ]) "Environment=\"PATH=${lib.makeBinPath s.path}:${lib.makeSearchPathOutput "bin" "sbin" s.path}\""
    ++ lib.optional (!s.restartIfChanged) "X-RestartIfChanged=false";
  render = parts: lib.concatStringsSep "\n" (lib.concatLists parts);
in
{
  options = {
    assertions = optional (types.listOf types.unspecified) [ ];
    warnings = strings;

    systemd.services = setOf service;
    systemd.targets = setOf unit;
    systemd.timers = setOf (unit // { timerConfig = section; });
    systemd.tmpfiles.rules = strings;
    systemd.settings.Manager = section;
    systemd.units = setOf { text = option types.str; };

    virtualisation.docker = {
      enable = bool;
      enableOnBoot = optional types.bool true;
      logDriver = optional (types.enum [ "none" "json-file" "syslog" "journald" "gelf" "fluentd" "awslogs" "splunk" "etwlogs" "gcplogs" "local" ]) "journald";
      autoPrune.enable = bool;
      daemon.settings = mkOption {
        default = { };
        type = types.submodule {
          freeformType = types.attrsOf types.anything;
          options.live-restore = bool;
        };
      };
    };

    users.users = setOf {
      isSystemUser = bool;
      uid = optional (types.nullOr types.int) null;
      group = optional types.str "";
      extraGroups = strings;
      home = optional types.path "/var/empty";
      openssh.authorizedKeys.keys = strings;
    };
    users.groups = setOf { gid = optional (types.nullOr types.int) null; };

    networking = {
      hostName = optional types.str "nixos";
      useDHCP = bool;
      nftables.enable = bool;
      firewall = {
        enable = optional types.bool true;
        allowedTCPPorts = optional (types.listOf types.port) [ ];
        interfaces = setOf { allowedTCPPorts = optional (types.listOf types.port) [ ]; };
      };
    };

    environment.systemPackages = optional (types.listOf types.package) [ ];
    environment.etc = setOf {
      text = optional (types.nullOr types.lines) null;
      source = optional types.path "/dev/null";
    };

    services.openssh = {
      enable = bool;
      hostKeys = optional (types.listOf types.attrs) [ ];
      settings = any;
    };
    services.redis.servers = setOf {
      enable = bool;
      port = optional types.port 0;
      bind = text;
      unixSocket = optional (types.nullOr types.path) null;
      unixSocketPerm = optional types.int 660;
      requirePassFile = optional (types.nullOr types.path) null;
      save = optional (types.listOf (types.listOf types.int)) [ ];
      settings = any;
    };

    boot.initrd.availableKernelModules = strings;
    boot.kernelModules = strings;
    boot.kernel.sysctl = any;
    boot.loader = {
      grub = { enable = bool; device = optional types.str ""; };
      systemd-boot.enable = bool;
      efi.canTouchEfiVariables = bool;
    };
    fileSystems = setOf { device = text; fsType = optional types.str "auto"; };
    swapDevices = optional (types.listOf types.attrs) [ ];
    time.timeZone = text;
    nix.settings = any;
    nix.gc = { automatic = bool; options = optional types.str ""; };
    nixpkgs.config = any;
    nixpkgs.hostPlatform = option types.anything;
    system.stateVersion = option types.str;
    system.activationScripts = optional (types.attrsOf types.anything) { };
    system.build = any;
  };

  config.systemd.units =
    lib.mapAttrs' (name: s: lib.nameValuePair "${name}.service" {
      text = render [ (head s) [ "[Service]" ] (environment s) (lines s.serviceConfig) [ "" ] (tail s) ];
    }) config.systemd.services
    // lib.mapAttrs' (name: t: lib.nameValuePair "${name}.timer" {
      text = render [ (head t) (inSection "Timer" t.timerConfig) (tail t) ];
    }) config.systemd.timers
    // lib.mapAttrs' (name: t: lib.nameValuePair "${name}.target" { text = render [ (head t) (tail t) ]; }) config.systemd.targets;
}
