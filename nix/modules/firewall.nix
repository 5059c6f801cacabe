# The firewall between apps and everything that is none of theirs, and between dockerd and what
# a registry could lead it to: two tables of nftables that the reconciler keeps, beside
# whatever Docker and NixOS' own firewall have.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  hardened = import ../hardening.nix { inherit lib; };
  gaps.CapabilityBoundingSet = {
    to = "CAP_NET_ADMIN";
    because = "the kernel's firewall is changed by nothing less";
  };
  # The kernel knows a control group by a number, and each start of docker.service makes a new group. That of a
  # slice stays.
  slice = "dockerd.slice";
in
{
  options.services.cc-ci.firewall.enable = mkOption {
    type = types.bool;
    default = cfg.proxy.enable;
    defaultText = lib.literalMD "as proxy.enable";
    description = "Whether apps are kept from the host, from each other and from private networks, and dockerd from this host and private networks. What they may reach besides is in settings.reconcile.firewall.allow and docker_allow.";
  };

  config = lib.mkIf (cfg.enable && cfg.firewall.enable) {
    services.cc-ci.reconcile.firewall = {
      description = "the firewall between apps and the host";
      inherit gaps;
    };

    services.cc-ci.settings.reconcile.firewall = {
      docker_cgroup = slice;
      docker_allow = cfg.docker.registryMirrors;
    };
    systemd.services.docker.serviceConfig.Slice = slice;

    # Two apps on Docker's bridge would otherwise reach each other past every rule.
    # The table of connections is large enough for what internal/firewall lets each app have, also on a small machine.
    boot.kernelModules = [ "br_netfilter" "nf_conntrack" ];
    boot.kernel.sysctl = {
      "net.netfilter.nf_conntrack_max" = 262144;
      "net.netfilter.nf_conntrack_tcp_timeout_time_wait" = 30;
      "net.bridge.bridge-nf-call-iptables" = 1;
      "net.bridge.bridge-nf-call-ip6tables" = 1;
    };

    # Docker starts containers again before anything is reconciled. Without these rules it does not start.
    # There is no RemainAfterExit: each start of Docker runs it.
    systemd.services.cc-ci-firewall = {
      description = "cc-ci: the firewall before Docker";
      requiredBy = [ "docker.service" ];
      before = [ "docker.service" ];
      wants = [ "network-online.target" ]; # name servers and mirrors are part of the rules
      requires = [ slice ];
      after = [ "network-online.target" slice ];
      environment.CC_CI_CONFIG = "/etc/cc-ci/cc-ci.yml";
      serviceConfig = hardened gaps // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/cc-ci firewall";
      };
    };
  };
}
