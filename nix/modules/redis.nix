# The bus between bridge and dashboard. It carries hints and keeps nothing. It listens on a
# socket in the data folder, which both have: no port, no password.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  folder = "${cfg.settings.data}/bus";
in
{
  options.services.cc-ci.redis.enable = mkOption {
    type = types.bool;
    default = cfg.settings.bus.kind == "redis";
    defaultText = lib.literalMD "true with settings.bus.kind redis";
    description = "Whether this machine has the Redis of the bus. Without it settings.bus.redis.url_file names the secret with the address of one elsewhere.";
  };

  config = lib.mkIf (cfg.enable && cfg.redis.enable) {
    services.redis.servers.cc-ci = {
      enable = true;
      port = 0;
      group = "cc-ci";
      unixSocket = "${folder}/redis.sock";
      unixSocketPerm = 660;
      save = [ ];
      settings.maxmemory = "64mb";
    };
    systemd.services.redis-cc-ci.serviceConfig.ReadWritePaths = [ folder ];
    systemd.tmpfiles.rules = [ "d ${folder} 2770 redis-cc-ci cc-ci -" ];
  };
}
