# The exec runner: steps of builds run on this machine, because they drive its Docker.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  auth = cfg.docker.registryAuth != null;
  hardened = import ../hardening.nix { inherit lib; };
in
{
  options.services.cc-ci.runner = {
    enable = mkOption {
      type = types.bool;
      default = cfg.drone.enable;
      defaultText = lib.literalMD "as drone.enable";
      description = "Whether this machine runs builds of Drone.";
    };

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../drone-runner-exec.nix { };
      defaultText = lib.literalMD "drone-runner-exec of this flake";
      description = "The runner.";
    };

    server = mkOption {
      type = types.str;
      default = cfg.settings.reconcile.drone.host;
      defaultText = lib.literalMD "`settings.reconcile.drone.host`";
      description = "Host name of the Drone server.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.runner.enable) {
    assertions = [{
      assertion = cfg.settings.engine.kind == "drone";
      message = "services.cc-ci.runner.enable is true and services.cc-ci.settings.engine.kind is ${cfg.settings.engine.kind}: no build would ever come.";
    }];

    nixpkgs.config.allowUnfreePredicate = import ../unfree.nix;
    services.cc-ci.secrets.drone_rpc_secret = { };

    # The runner takes secrets from its environment or from a file of that form, not from
    # a file with the bare value.
    sops.templates."cc-ci-runner.env".content = "DRONE_RPC_SECRET=${config.sops.placeholder.drone_rpc_secret}";

    # Steps get this and the PATH. cc-ci.yml names secrets beside it, which only root may read.
    environment.etc."cc-ci/steps.env".text = "CC_CI_CONFIG=/etc/cc-ci/cc-ci.yml\n"
      + lib.optionalString auth "DOCKER_CONFIG=/run/credentials/cc-ci-runner.service\n";

    systemd.services.cc-ci-runner = {
      description = "cc-ci: Drone's exec runner";
      wantedBy = [ "cc-ci.target" ];
      requires = [ "docker.service" ];
      wants = [ "network-online.target" "cc-ci-reconcile-drone.service" ];
      after = [ "docker.service" "network-online.target" "cc-ci-reconcile-drone.service" ];
      # A switch in the middle of a build would kill it: the new runner is that of the next boot, or
      # of a restart by hand when nothing runs.
      restartIfChanged = false;
      path = [ cfg.environmentPackage ];
      environment = {
        DRONE_RPC_PROTO = "https";
        DRONE_RPC_HOST = cfg.runner.server;
        DRONE_RUNNER_CAPACITY = toString cfg.settings.engine.capacity;
        DRONE_RUNNER_NAME = config.networking.hostName;
        DRONE_RUNNER_ROOT = "/var/lib/cc-ci-runner";
        DRONE_RUNNER_ENVFILE = "/etc/cc-ci/steps.env";
        DRONE_HTTP_BIND = "127.0.0.1:3000";
        # Builds that cc-ci starts through Drone's API, of the one repository: a build that a push or
        # another repository brings is refused before its pipeline is read (decision record 0008).
        DRONE_LIMIT_REPOS = cfg.settings.engine.drone.repo;
        DRONE_LIMIT_EVENTS = "custom";
      };
      serviceConfig = hardened (import ../run-gaps.nix) // {
        ExecStart = "${lib.getExe cfg.runner.package} daemon %d/runner.env";
        User = "cc-ci";
        SupplementaryGroups = [ "docker" ];
        # The runner's own secret and the registries', none of cc-ci's: a run handles files of
        # strangers.
        LoadCredential = [ "runner.env:${config.sops.templates."cc-ci-runner.env".path}" ]
          ++ lib.optional auth "config.json:${config.sops.secrets.${cfg.docker.registryAuth}.path}";
        StateDirectory = "cc-ci-runner";
        ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" "/tmp" ];
        Restart = "always";
        RestartSec = 10;
        # Told to end, every harness tears its app down first; systemd waits for them all.
        TimeoutStopSec = "10min";
      };
    };
  };
}
