# refused by evaluation: services.cc-ci.settings.forges is empty
{ lib, ... }:
{
  services.cc-ci.settings.forges = lib.mkForce [ ];
}
