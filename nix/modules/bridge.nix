# The bridge: a service of the swarm behind the proxy. Pull requests' comments come in here.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  set = lib.filter (name: name != null && !lib.hasPrefix "/" name);
in
{
  options.services.cc-ci.bridge.enable = mkOption {
    type = types.bool;
    default = true;
    description = "Whether this machine has the bridge.";
  };

  config = lib.mkIf (cfg.enable && cfg.bridge.enable) {
    assertions = [{
      assertion = cfg.proxy.enable;
      message = "services.cc-ci.bridge.enable needs services.cc-ci.proxy.enable: webhooks could not reach it, nor apps each other.";
    }];

    services.cc-ci.reconcile.bridge = {
      description = "the bridge";
      credentials = lib.unique (set (
        lib.concatMap (forge: [ forge.token_file (forge.app or { }).key_file or null ] ++ forge.hook_secret_files) cfg.settings.forges
        ++ [ (cfg.settings.engine.drone or { }).token_file or null (cfg.settings.bus.redis or { }).url_file or null ]
      ));
    };
  };
}
