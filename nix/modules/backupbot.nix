# The backup bot: restic snapshots of what recipes label for it, of the apps that stay on
# this machine. Runs bring their own.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.backupbot = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether this machine has the backup bot.";
    };

    repository = mkOption {
      type = types.str;
      default = "/var/lib/cc-ci-backups";
      description = "restic's repository: a folder of this machine, or an address that restic knows.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.backupbot.enable) {
    services.cc-ci.secrets.restic_password = { };

    systemd.tmpfiles.rules = lib.optional (lib.hasPrefix "/" cfg.backupbot.repository) "d ${cfg.backupbot.repository} 0700 root root -";

    services.cc-ci.reconcile.backupbot = {
      description = "the backup bot";
      credentials = [ "restic_password" ];
      environment.CC_CI_RESTIC_REPOSITORY = cfg.backupbot.repository;
    };
  };
}
