# refused by evaluation: A definition for option 'services.cc-ci.settings.domain' is not of type
{ lib, ... }:
{
  services.cc-ci.settings.domain = lib.mkForce null;
}
