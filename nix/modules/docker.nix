# Docker, as a single-node swarm needs it. The swarm itself and its networks are made by
# the reconciler of the proxy: NixOS has no option for them.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.docker = {
    registryMirrors = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "https://mirror.example.org" ];
      description = "Pull-through caches of Docker Hub.";
    };

    registryAuth = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "registry_auth";
      description = "Name of the secret with Docker's config.json, which has the registries' credentials.";
    };

    logSize = mkOption {
      type = types.strMatching "[1-9][0-9]*[kmg]";
      default = "10m";
      description = "How large one file of a container's log may become; three are kept.";
    };
  };

  config = lib.mkIf cfg.enable {
    virtualisation.docker = {
      enable = true;
      enableOnBoot = true;
      # Not in daemon.settings: NixOS hands it to dockerd as a flag, and dockerd refuses both.
      logDriver = "json-file";
      # Our own prune: NixOS's knows neither disk nor runs.
      autoPrune.enable = false;
      daemon.settings = {
        live-restore = false; # a swarm refuses it
        log-opts = { max-size = cfg.docker.logSize; max-file = "3"; };
        registry-mirrors = cfg.docker.registryMirrors;
      };
    };

    # Tables of the kernel that all containers and the host share. internal/doctor/tables.go says why they have
    # these values; a test keeps the two in agreement.
    boot.kernel.sysctl = {
      "fs.inotify.max_user_instances" = 4194304;
      "fs.inotify.max_user_watches" = 16777216;
      "fs.aio-max-nr" = 268435456;
      "fs.epoll.max_user_watches" = 268435456;
      "net.ipv4.neigh.default.gc_thresh1" = 4096;
      "net.ipv4.neigh.default.gc_thresh2" = 524288;
      "net.ipv4.neigh.default.gc_thresh3" = 1048576;
      "net.ipv6.neigh.default.gc_thresh1" = 4096;
      "net.ipv6.neigh.default.gc_thresh2" = 524288;
      "net.ipv6.neigh.default.gc_thresh3" = 1048576;
      # A crash of an app starts no program of the host; see internal/doctor/dumps.go.
      "kernel.core_pattern" = "core";
    };

    # A watchdog that nothing holds starts when it is opened, and then restarts the machine unless somebody
    # answers it. An app can have dockerd open files of the host; see internal/doctor/watchdogs.go. A device that
    # systemd holds cannot be opened again. Without a watchdog this does nothing.
    systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "1min";

    # Our image comes with the system and from no registry. What is there already is not
    # copied again, so this runs as often as the reconcilers that need it.
    systemd.services.cc-ci-image = {
      description = "cc-ci: the image of bridge and dashboard";
      wantedBy = [ "cc-ci.target" "multi-user.target" ];
      requires = [ "docker.service" ];
      after = [ "docker.service" ];
      serviceConfig = hardened { } // {
        Type = "oneshot";
        ExecStart = "${lib.getExe' pkgs.docker-client "docker"} load --quiet --input ${cfg.image}";
        SupplementaryGroups = [ "docker" ];
      };
    };

    assertions = [
      {
        assertion = !config.virtualisation.docker.daemon.settings.live-restore;
        message = "virtualisation.docker.daemon.settings.live-restore is true: Docker refuses to be a swarm's node with it.";
      }
      {
        assertion = !config.networking.nftables.enable;
        message = "networking.nftables.enable is true: Docker's swarm has no support for it yet.";
      }
      {
        assertion = cfg.docker.registryAuth == null || cfg.secrets ? ${cfg.docker.registryAuth};
        message = "services.cc-ci.docker.registryAuth names the secret ${toString cfg.docker.registryAuth}, and services.cc-ci.secrets has none of that name.";
      }
    ];
  };
}
