# refused by the program: engine.drone.repo
{ lib, ... }:
{
  services.cc-ci.settings.engine.drone.repo = lib.mkForce null;
}
