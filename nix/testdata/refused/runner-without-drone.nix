# refused by evaluation: services.cc-ci.runner.enable is true and services.cc-ci.settings.engine.kind is local
{ lib, ... }:
{
  services.cc-ci.settings.engine.kind = "local";
  services.cc-ci.settings.engine.drone.repo = lib.mkForce null;
  services.cc-ci.runner.enable = true;
  services.cc-ci.secrets.drone_token = { };
}
