# Backups of the apps that stay on this machine, every night, into the repository that
# the reconciler of backupbot made.
{ config, lib, ... }:
let
  cfg = config.services.cc-ci;
in
{
  imports = [
    (import ../timed.nix {
      name = "backup";
      enable = { cfg, lib }: {
        default = cfg.backupbot.enable;
        defaultText = lib.literalMD "as backupbot.enable";
        description = "Whether the apps that stay on this machine are backed up.";
      };
      onCalendar = "*-*-* 01:00";
      timer = {
        description = "cc-ci: when apps are backed up";
        spread = "30min";
      };
      description = "cc-ci: backs up apps that stay";
      after = [ "cc-ci-reconcile-backupbot.service" ];
      service = {
        command = "backup";
        credentials = [ "restic_password" ];
        serviceConfig = {
          User = "cc-ci"; # as runs, whose locks it respects; Docker lays the repository into a container
          SupplementaryGroups = [ "docker" ];
          TimeoutStartSec = "6h";
        };
      };
    })
  ];

  config = lib.mkIf (cfg.enable && cfg.backup.enable) {
    assertions = [{
      assertion = cfg.backupbot.enable;
      message = "services.cc-ci.backup.enable needs services.cc-ci.backupbot.enable: there would be no repository.";
    }];
  };
}
