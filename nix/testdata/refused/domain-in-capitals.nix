# refused by the program: domain
{ lib, ... }:
{
  services.cc-ci.settings.domain = lib.mkForce "CI.example.org";
  services.cc-ci.settings.url = "https://ci.example.org";
}
