# refused by the program: bus.redis.url_file
{ lib, ... }:
{
  services.cc-ci.settings.bus.redis.url_file = lib.mkForce null;
}
