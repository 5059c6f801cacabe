# The bus between bridge and dashboard. It carries hints and keeps nothing.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.redis = {
    enable = mkOption {
      type = types.bool;
      default = cfg.settings.bus.kind == "redis";
      defaultText = lib.literalMD "true with settings.bus.kind redis";
      description = "Whether this machine has the Redis of the bus. Without it settings.bus.redis.url_file names the secret with the address of one elsewhere.";
    };

    port = mkOption {
      type = types.port;
      default = 6379;
      description = "Its port, open for containers of this machine alone. The secret with its address has it too.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.redis.enable) {
    services.cc-ci.secrets = {
      redis_password = { };
      redis_url = { };
    };

    services.redis.servers.cc-ci = {
      enable = true;
      inherit (cfg.redis) port;
      # Services of the swarm come in by Docker's bridge, whose address is not there
      # before Docker is. Nobody else is let in, see the firewall below.
      bind = "0.0.0.0";
      requirePassFile = config.sops.secrets.redis_password.path;
      save = [ ];
      settings.maxmemory = "64mb";
    };
    networking.firewall.interfaces.docker_gwbridge.allowedTCPPorts = [ cfg.redis.port ];
  };
}
