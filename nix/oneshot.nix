# What every oneshot of cc-ci has: Docker before it, the configuration and its secrets as
# credentials, the fences, and the folders that it writes to.
#
#     oneshot { command = "janitor"; gaps = { ... }; writes = [ "/tmp" ]; }
{ config, lib }:
let
  cfg = config.services.cc-ci;
  hardened = import ./hardening.nix { inherit lib; };
in
{ command, gaps ? { }, credentials ? [ ], writes ? [ ], serviceConfig }:
{
  requires = [ "docker.service" ];
  after = [ "docker.service" ];
  environment = {
    CC_CI_CONFIG = "%d/cc-ci.yml";
    DOCKER_CONFIG = lib.mkIf (cfg.docker.registryAuth != null) "%d";
  };
  path = [ cfg.environmentPackage ];
  serviceConfig = hardened gaps // {
    Type = "oneshot";
    ExecStart = "${cfg.package}/bin/cc-ci ${command}";
    LoadCredential = cfg.credentials credentials;
    ReadWritePaths = [ cfg.settings.data "/run/lock/cc-ci" ] ++ writes;
  } // serviceConfig;
}
