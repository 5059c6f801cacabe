# The swarm, its overlay network, and Traefik on it with the wildcard certificate. There is
# no ACME and no DNS token: the certificate comes from the secrets.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
in
{
  options.services.cc-ci.proxy = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether this machine's proxy is reconciled.";
    };

    subnet = mkOption {
      type = types.strMatching "([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}";
      default = "10.10.0.0/16";
      description = "Of the overlay network. A /16: removed apps give addresses back late, and 254 were used up within days.";
    };

    certificates = mkOption {
      type = types.path;
      default = "/var/lib/ci-certs/live";
      description = "Folder with fullchain.pem and privkey.pem, of the domain and its wildcard.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.proxy.enable) {
    assertions = [{
      assertion = lib.hasSuffix "/16" cfg.proxy.subnet;
      message = "services.cc-ci.proxy.subnet is ${cfg.proxy.subnet}: it must be a /16.";
    }];

    services.cc-ci.secrets = {
      wildcard_certificate.path = "${cfg.proxy.certificates}/fullchain.pem";
      wildcard_key.path = "${cfg.proxy.certificates}/privkey.pem";
    };

    services.cc-ci.reconcile.proxy = {
      description = "the swarm and its proxy";
      credentials = [ "wildcard_certificate" "wildcard_key" ];
      environment = {
        CC_CI_PROXY_SUBNET = cfg.proxy.subnet;
        CC_CI_PROXY_CERTIFICATES = cfg.proxy.certificates;
      };
    };
  };
}
