# refused by the program: bus.redis.url_file
{ lib, ... }:
{
  services.cc-ci.settings.bus.redis = lib.mkForce { };
}
