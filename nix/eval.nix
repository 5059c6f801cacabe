# Renders what the hosts come to: assertions that fail, cc-ci.yml, units, and the rest that
# tests look at, as JSON.
#
#     nix-instantiate --eval --strict --json nix/eval.nix \
#       --argstr nixpkgs /path/to/nixpkgs --argstr sops-nix /path/to/sops-nix
#
# nixpkgs is a checkout of nix-community/nixpkgs.lib or NixOS/nixpkgs. Only its lib is used,
# and the options of NixOS come from eval/nixos.nix, unless `full` asks for NixOS itself.
# `change` is one more module: a file with a mistake, whose refusal a test looks for.
{ nixpkgs, sops-nix, change ? null, full ? false }:
let
  lib = import (nixpkgs + "/lib");
  changes = lib.optional (change != null) (/. + change);

  # What flake.nix is given in place of its inputs; so it is itself evaluated.
  flake = (import ../flake.nix).outputs {
    self = flake;
    sops-nix.nixosModules.sops = sops-nix + "/modules/sops";
    nixpkgs = {
      outPath = if full then nixpkgs else toString ./eval/pkgs.nix;
      lib = lib // {
        nixosSystem = { modules }:
          if full then import (nixpkgs + "/nixos/lib/eval-config.nix") { system = null; modules = modules ++ changes; }
          else
            let pkgs = import ./eval/pkgs.nix { system = "x86_64-linux"; }; in
            lib.evalModules { modules = modules ++ changes ++ [ ./eval/nixos.nix ]; specialArgs = { inherit pkgs; }; } // { inherit pkgs; };
      };
    };
  };

  result = host:
    let
      inherit (flake.nixosConfigurations.${host}) config;
      failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
    in
    # As NixOS does: where an assertion fails, nothing else is looked at.
    if failed != [ ] then { inherit failed; } else {
      inherit failed;
      config = config.services.cc-ci.rendered;
      units = lib.mapAttrs (_: u: u.text) (lib.filterAttrs (name: _: lib.hasPrefix "cc-ci" name) config.systemd.units);
      machine = {
        inherit (config.networking.firewall) allowedTCPPorts;
        docker = config.virtualisation.docker.daemon.settings;
        dockerSlice = config.systemd.services.docker.serviceConfig.Slice or null;
        watchdog = config.systemd.settings.Manager.RuntimeWatchdogSec or null;
        kernel = { modules = config.boot.kernelModules; settings = config.boot.kernel.sysctl; };
        redis = lib.mapAttrs
          (name: server:
            let unit = config.systemd.services."redis-${name}".serviceConfig; in {
              inherit (server) port unixSocket unixSocketPerm;
              inherit (unit) Group RuntimeDirectoryMode;
              members = lib.attrNames (lib.filterAttrs (_: user: lib.elem unit.Group ([ user.group ] ++ user.extraGroups)) config.users.users);
            })
          config.services.redis.servers;
        etc = lib.mapAttrs (_: file: file.text) (lib.filterAttrs (name: _: name == "timezone" || lib.hasPrefix "cc-ci/" name) config.environment.etc);
        secrets = lib.mapAttrs (_: secret: { inherit (secret) key path; }) config.sops.secrets;
        secretsFile = lib.removePrefix (toString ../.) (toString config.sops.defaultSopsFile);
        tmpfiles = lib.filter (lib.hasInfix "cc-ci") config.systemd.tmpfiles.rules;
      };
    };

  told = value: if value._type or "" == "literalMD" then value.text else "`${value.text}`";
  documented = lib.filter (o: o.visible && !o.internal && lib.hasPrefix "services.cc-ci." o.name)
    (lib.optionAttrSetToDocList flake.nixosConfigurations.cc-ci.options);
in
{
  hosts = lib.genAttrs (if change == null then lib.attrNames flake.nixosConfigurations else [ "cc-ci" ]) result;
  # What the flake offers.
  flake = {
    nixosModules = lib.attrNames flake.nixosModules;
    nixosConfigurations = lib.attrNames flake.nixosConfigurations;
    apps = lib.mapAttrs (_: app: app.program) flake.apps.x86_64-linux;
    formatter = flake.formatter.x86_64-linux.name;
  } // lib.genAttrs [ "packages" "checks" "devShells" ] (output: lib.mapAttrs (_: built: built.name) flake.${output}.x86_64-linux);
  options = map (o: {
    inherit (o) name type description;
    default = if o ? default then told o.default else null;
    example = if o ? example then told o.example else null;
  }) (lib.optionals (change == null) documented);
}
