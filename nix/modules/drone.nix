# The Drone server, behind the proxy at drone.<domain>, with the forge's single sign-on.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.drone.enable = mkOption {
    type = types.bool;
    default = cfg.settings.engine.kind == "drone";
    defaultText = lib.literalMD "true with settings.engine.kind drone";
    description = "Whether this machine has the Drone server.";
  };

  config = lib.mkIf (cfg.enable && cfg.drone.enable) {
    assertions = [
      {
        assertion = cfg.settings.engine.kind == "drone";
        message = "services.cc-ci.drone.enable is true and services.cc-ci.settings.engine.kind is ${cfg.settings.engine.kind}: nobody would use the server.";
      }
      {
        assertion = cfg.proxy.enable;
        message = "services.cc-ci.drone.enable needs services.cc-ci.proxy.enable: nobody could reach the server.";
      }
    ];

    services.cc-ci.secrets = {
      drone_token = { };
      drone_rpc_secret = { };
      drone_gitea_client_id = { };
      drone_gitea_client_secret = { };
    };

    services.cc-ci.reconcile.drone = {
      description = "the Drone server";
      credentials = [ "drone_token" "drone_rpc_secret" "drone_gitea_client_id" "drone_gitea_client_secret" ];
    };
  };
}
