# The sweep: recipes whose newest release was not tested yet are, one after the other.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.sweep = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether new releases are tested without being asked.";
    };

    onCalendar = mkOption {
      type = types.str;
      default = "Sun 03:00";
      description = "When, as systemd.time(7) writes it.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.sweep.enable) {
    systemd.timers.cc-ci-sweep = {
      description = "cc-ci: when new releases are tested";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.sweep.onCalendar;
        RandomizedDelaySec = "15min";
        Persistent = true;
      };
    };

    systemd.services.cc-ci-sweep = {
      description = "cc-ci: tests new releases";
      requires = [ "docker.service" ];
      after = [ "docker.service" ];
      environment = {
        CC_CI_CONFIG = "%d/cc-ci.yml";
        DOCKER_CONFIG = lib.mkIf (cfg.docker.registryAuth != null) "%d";
      };
      path = [ cfg.environmentPackage ];
      serviceConfig = hardened (import ../run-gaps.nix) // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci sweep";
        User = "cc-ci";
        SupplementaryGroups = [ "docker" ];
        # It asks the forges what is enrolled, and the engine for runs, as the bridge does.
        LoadCredential = cfg.credentials (cfg.reconcile.bridge.credentials or [ ]);
        ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" "/tmp" ];
        TimeoutStartSec = "infinity";
        TimeoutStopSec = "10min"; # runs are torn down first
      };
    };
  };
}
