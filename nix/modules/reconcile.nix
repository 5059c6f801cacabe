# What brings a service to what the flake declares: `cc-ci reconcile NAME`, one oneshot
# each, one after the other, at every boot and every switch.
#
# There is no RemainAfterExit, and it must stay so: a finished oneshot is inactive, and
# the next switch, which starts its targets again, runs it once more (A32). What
# can fail for a while is tried again inside the process, which knows what failed.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  oneshot = import ../oneshot.nix { inherit config lib; };
  order = [ "firewall" "proxy" "drone" "bridge" "dashboard" "backupbot" ];
  enabled = lib.filter (name: cfg.reconcile ? ${name}) order;
  unit = name: service:
    let
      place = lib.lists.findFirstIndex (other: other == name) 0 enabled;
      base = oneshot {
        command = "reconcile ${name}";
        inherit (service) credentials writes gaps;
        serviceConfig = {
          # root, whose files the certificate and the credentials are, without any capability but
          # for the gaps.
          SupplementaryGroups = [ "cc-ci" "docker" ];
          TimeoutStartSec = "30min"; # the process gives up sooner, and says why
        };
      };
      previous = if place == 0 then [ "cc-ci-image.service" ] else [ "cc-ci-reconcile-${lib.elemAt enabled (place - 1)}.service" ];
    in
    base // {
      description = "cc-ci: ${service.description}";
      # Of both: a switch starts the active targets again, and each pulls in what it wants
      # itself, not what a target wants that is active already (seen with systemd 252).
      wantedBy = [ "cc-ci.target" "multi-user.target" ];
      requires = base.requires ++ previous;
      wants = [ "network-online.target" ];
      after = base.after ++ [ "network-online.target" ] ++ previous;
    };
in
{
  options.services.cc-ci = {
    reconcile = mkOption {
      internal = true;
      visible = false; # nor what is in it
      default = { };
      description = "Services that are reconciled.";
      type = types.attrsOf (types.submodule {
        options = {
          description = mkOption {
            type = types.singleLineStr;
            description = "What is brought up, for journal and systemctl.";
          };
          credentials = mkOption {
            type = types.listOf types.str;
            default = [ ];
            description = "Names of the secrets that the reconciler hands to the service.";
          };
          gaps = mkOption {
            type = types.attrsOf types.anything;
            default = { };
            description = "Gaps in the fences, as hardening.nix takes them.";
          };
          writes = mkOption {
            type = types.listOf types.path;
            default = [ ];
            description = "Folders that the reconciler itself writes to.";
          };
        };
      });
    };

    credentials = mkOption {
      internal = true;
      readOnly = true;
      type = types.functionTo (types.listOf types.str);
      description = "LoadCredential of a unit that uses the named secrets: cc-ci.yml, registry credentials, and those.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.cc-ci.credentials = names:
      [ "cc-ci.yml:${cfg.configFile}" ]
      ++ lib.optional (cfg.docker.registryAuth != null) "config.json:${config.sops.secrets.${cfg.docker.registryAuth}.path}"
      ++ map (name: "${name}:${config.sops.secrets.${name}.path}") names;

    assertions = lib.concatLists (lib.mapAttrsToList (name: service: [
      {
        assertion = lib.elem name order;
        message = "services.cc-ci.reconcile.${name} has no place in the order ${lib.concatStringsSep ", " order}.";
      }
    ] ++ map (secret: {
      assertion = cfg.secrets ? ${secret};
      message = "services.cc-ci.${name} uses the secret ${secret}, and there is no services.cc-ci.secrets.${secret}.";
    }) service.credentials) cfg.reconcile);

    systemd.services = lib.mapAttrs' (name: service: lib.nameValuePair "cc-ci-reconcile-${name}" (unit name service)) cfg.reconcile;
  };
}
