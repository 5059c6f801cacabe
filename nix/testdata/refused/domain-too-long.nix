# refused by the program: domain
{ lib, ... }:
{
  services.cc-ci.settings.domain = lib.mkForce "continuous-integration.example.org";
}
