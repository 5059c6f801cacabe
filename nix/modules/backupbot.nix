# The backup bot's repository: restic snapshots of what recipes label for it, of the apps
# that stay on this machine. Runs bring their own.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.backupbot.enable = mkOption {
    type = types.bool;
    default = true;
    description = "Whether this machine has a repository for backups.";
  };

  config = lib.mkIf (cfg.enable && cfg.backupbot.enable) {
    services.cc-ci.secrets.restic_password = { };

    systemd.tmpfiles.rules = [ "d ${cfg.settings.reconcile.backup.repository} 0700 root root -" ];

    services.cc-ci.reconcile.backupbot = {
      description = "the repository of backups";
      credentials = [ "restic_password" ];
      writes = [ cfg.settings.reconcile.backup.repository ];
    };
  };
}
