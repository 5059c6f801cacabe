# The prune: dangling images older than 24 hours, on a disk that is four fifths full, while
# nothing runs. Never images that are used, never volumes: pulling them again costs more
# than it frees, and registries count pulls.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.prune = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether dangling images are removed when the disk is nearly full.";
    };

    onCalendar = mkOption {
      type = types.str;
      default = "daily";
      description = "When, as systemd.time(7) writes it.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.prune.enable) {
    systemd.timers.cc-ci-prune = {
      description = "cc-ci: when images are pruned";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.prune.onCalendar;
        RandomizedDelaySec = "1h";
        Persistent = true;
      };
    };

    systemd.services.cc-ci-prune = {
      description = "cc-ci: frees the disk of dangling images";
      requires = [ "docker.service" ];
      after = [ "docker.service" ];
      environment = {
        CC_CI_CONFIG = "%d/cc-ci.yml";
        DOCKER_CONFIG = lib.mkIf (cfg.docker.registryAuth != null) "%d";
      };
      path = [ cfg.environmentPackage ];
      serviceConfig = hardened { } // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci prune";
        User = "cc-ci";
        SupplementaryGroups = [ "docker" ];
        LoadCredential = cfg.credentials [ ];
        ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" ];
        TimeoutStartSec = "30min";
      };
    };
  };
}
