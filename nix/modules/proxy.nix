# The swarm, its overlay network, and Traefik on it with the wildcard certificate. There is
# no ACME and no DNS token: the certificate comes from the secrets.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.proxy.enable = mkOption {
    type = types.bool;
    default = true;
    description = "Whether this machine's proxy is reconciled.";
  };

  config = lib.mkIf (cfg.enable && cfg.proxy.enable) {
    services.cc-ci.secrets = {
      wildcard_certificate.path = "${cfg.settings.reconcile.proxy.certificates}/fullchain.pem";
      wildcard_key.path = "${cfg.settings.reconcile.proxy.certificates}/privkey.pem";
    };

    services.cc-ci.reconcile.proxy = {
      description = "the swarm and its proxy";
      credentials = [ "wildcard_certificate" "wildcard_key" ];
    };
  };
}
