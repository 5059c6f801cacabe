# Backups of the apps that stay on this machine, every night, into the repository that
# the reconciler of backupbot made.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.backup = {
    enable = mkOption {
      type = types.bool;
      default = cfg.backupbot.enable;
      defaultText = lib.literalMD "as backupbot.enable";
      description = "Whether the apps that stay on this machine are backed up.";
    };

    onCalendar = mkOption {
      type = types.str;
      default = "*-*-* 01:00";
      description = "When, as systemd.time(7) writes it.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.backup.enable) {
    assertions = [{
      assertion = cfg.backupbot.enable;
      message = "services.cc-ci.backup.enable needs services.cc-ci.backupbot.enable: there would be no repository.";
    }];

    systemd.timers.cc-ci-backup = {
      description = "cc-ci: when apps are backed up";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.backup.onCalendar;
        RandomizedDelaySec = "30min";
        Persistent = true;
      };
    };

    systemd.services.cc-ci-backup = {
      description = "cc-ci: backs up apps that stay";
      requires = [ "docker.service" ];
      after = [ "docker.service" "cc-ci-reconcile-backupbot.service" ];
      environment = {
        CC_CI_CONFIG = "%d/cc-ci.yml";
        DOCKER_CONFIG = lib.mkIf (cfg.docker.registryAuth != null) "%d";
      };
      path = [ cfg.environmentPackage ];
      serviceConfig = hardened { } // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci backup";
        User = "cc-ci"; # as runs, whose locks it respects; Docker lays the repository into a container
        SupplementaryGroups = [ "docker" ];
        LoadCredential = cfg.credentials [ "restic_password" ];
        ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" ];
        TimeoutStartSec = "6h";
      };
    };
  };
}
