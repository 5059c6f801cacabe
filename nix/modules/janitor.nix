# The janitor: what killed runs left behind goes, on an idle machine too.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.janitor = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether what dead runs left is removed now and then.";
    };

    onCalendar = mkOption {
      type = types.str;
      default = "hourly";
      description = "When, as systemd.time(7) writes it.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.janitor.enable) {
    systemd.timers.cc-ci-janitor = {
      description = "cc-ci: when the janitor comes";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.janitor.onCalendar;
        RandomizedDelaySec = "5min";
        Persistent = true;
      };
    };

    systemd.services.cc-ci-janitor = {
      description = "cc-ci: removes what dead runs left";
      requires = [ "docker.service" ];
      after = [ "docker.service" ];
      environment = {
        CC_CI_CONFIG = "%d/cc-ci.yml";
        DOCKER_CONFIG = lib.mkIf (cfg.docker.registryAuth != null) "%d";
      };
      path = [ cfg.environmentPackage ];
      serviceConfig = hardened {
        PrivateTmp = {
          to = false;
          because = "killed runs leave their files in the machine's own /tmp";
        };
      } // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci janitor";
        User = "cc-ci";
        SupplementaryGroups = [ "docker" ];
        LoadCredential = cfg.credentials [ ];
        ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" "/tmp" ];
        TimeoutStartSec = "30min";
      };
    };
  };
}
