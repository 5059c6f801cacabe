# The firewall between apps and everything that is none of theirs: a table of nftables that
# the reconciler keeps, beside whatever Docker and NixOS' own firewall have.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
  gaps.CapabilityBoundingSet = {
    to = "CAP_NET_ADMIN";
    because = "the kernel's firewall is changed by nothing less";
  };
in
{
  options.services.cc-ci.firewall.enable = mkOption {
    type = types.bool;
    default = cfg.proxy.enable;
    defaultText = lib.literalMD "as proxy.enable";
    description = "Whether apps are kept from the host, from each other and from private networks. What they may reach besides is in settings.reconcile.firewall.allow.";
  };

  config = lib.mkIf (cfg.enable && cfg.firewall.enable) {
    services.cc-ci.reconcile.firewall = {
      description = "the firewall between apps and the host";
      inherit gaps;
    };

    # Two apps on Docker's bridge would otherwise reach each other past every rule.
    boot.kernelModules = [ "br_netfilter" ];
    boot.kernel.sysctl = {
      "net.bridge.bridge-nf-call-iptables" = 1;
      "net.bridge.bridge-nf-call-ip6tables" = 1;
    };

    # At the start of the machine Docker starts containers again before anything is reconciled.
    systemd.services.cc-ci-firewall = {
      description = "cc-ci: the firewall before Docker";
      wantedBy = [ "docker.service" ];
      before = [ "docker.service" ];
      environment.CC_CI_CONFIG = "/etc/cc-ci/cc-ci.yml";
      serviceConfig = hardened gaps // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci firewall";
      };
    };
  };
}
