# The dashboard: a service of the swarm behind the proxy, at the CI domain. It reads only,
# and has no secret but the bus's address.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.dashboard.enable = mkOption {
    type = types.bool;
    default = true;
    description = "Whether this machine has the dashboard.";
  };

  config = lib.mkIf (cfg.enable && cfg.dashboard.enable) {
    assertions = [{
      assertion = cfg.proxy.enable;
      message = "services.cc-ci.dashboard.enable needs services.cc-ci.proxy.enable: nobody could reach it.";
    }];

    services.cc-ci.reconcile.dashboard = {
      description = "the dashboard";
      credentials = lib.filter (name: name != null && !lib.hasPrefix "/" name) [ (cfg.settings.bus.redis or { }).url_file or null ];
    };
  };
}
