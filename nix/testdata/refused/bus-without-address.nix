# refused by the program: bus.redis.url_file
{ ... }:
{
  services.cc-ci.redis.enable = false;
}
