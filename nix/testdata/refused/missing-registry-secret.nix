# refused by evaluation: services.cc-ci.docker.registryAuth names the secret hub_auth
{ lib, ... }:
{
  services.cc-ci.docker.registryAuth = lib.mkForce "hub_auth";
}
