# Drift: what somebody changed by hand is put back, without waiting for a switch.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.drift = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether every service is reconciled now and then.";
    };

    onCalendar = mkOption {
      type = types.str;
      default = "*:0/15";
      description = "When, as systemd.time(7) writes it.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.drift.enable) {
    systemd.timers.cc-ci-drift = {
      description = "cc-ci: when drift is looked for";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.drift.onCalendar;
        RandomizedDelaySec = "2min";
        Persistent = false;
      };
    };

    systemd.services.cc-ci-drift = {
      description = "cc-ci: every service as the flake declares it";
      requires = [ "docker.service" ];
      after = [ "docker.service" ] ++ map (name: "cc-ci-reconcile-${name}.service") (lib.attrNames cfg.reconcile);
      environment = {
        CC_CI_CONFIG = "%d/cc-ci.yml";
        DOCKER_CONFIG = lib.mkIf (cfg.docker.registryAuth != null) "%d";
      };
      path = [ cfg.environmentPackage ];
      serviceConfig = hardened { } // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci reconcile all";
        SupplementaryGroups = [ "cc-ci" "docker" ]; # root, as the oneshots that it repeats
        LoadCredential = cfg.credentials (lib.unique (lib.concatMap (service: service.credentials) (lib.attrValues cfg.reconcile)));
        ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" ] ++ lib.concatMap (service: service.writes) (lib.attrValues cfg.reconcile);
        TimeoutStartSec = "30min";
      };
    };
  };
}
