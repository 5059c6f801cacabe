# The bus between bridge and dashboard. It carries hints and keeps nothing.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  socket = "/run/redis-cc-ci/redis.sock";
  group = "cc-ci-redis";
in
{
  imports = [
    (lib.mkRemovedOptionModule [ "services" "cc-ci" "redis" "port" ]
      "Redis listens at ${socket} alone: let the secret redis_url be unix://:PASSWORD@${socket}")
  ];

  options.services.cc-ci.redis = {
    enable = mkOption {
      type = types.bool;
      default = cfg.settings.bus.kind == "redis";
      defaultText = lib.literalMD "true with settings.bus.kind redis";
      description = "Whether this machine has the Redis of the bus. Without it settings.bus.redis.url_file names the secret with the address of one elsewhere.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.redis.enable) {
    services.cc-ci.secrets = {
      redis_password = { };
      redis_url = { };
    };

    users.groups.${group} = { };

    services.redis.servers.cc-ci = {
      enable = true;
      # No port: any container could reach it, and idle connections that never say a password
      # are connections too. Bridge and dashboard have the socket's folder mounted.
      port = 0;
      bind = null;
      unixSocket = socket;
      unixSocketPerm = 660;
      requirePassFile = config.sops.secrets.redis_password.path;
      save = [ ];
      settings.maxmemory = "64mb";
    };
    systemd.services = {
      redis-cc-ci.serviceConfig = {
        # Whose members open connections: none but the containers of bridge and dashboard, which
        # cc-ci reconcile gives the group of the socket's folder. Runs, which are cc-ci, are no members.
        Group = lib.mkForce group;
        RuntimeDirectoryMode = lib.mkForce "0750";
        # A folder that is made anew is another one than containers have mounted.
        RuntimeDirectoryPreserve = "yes";
      };
    } // lib.genAttrs (map (name: "cc-ci-reconcile-${name}") (lib.filter (name: cfg.${name}.enable) [ "bridge" "dashboard" ])) (_: {
      # The folder is there before containers mount it.
      wants = [ "redis-cc-ci.service" ];
      after = [ "redis-cc-ci.service" ];
    });
  };
}
