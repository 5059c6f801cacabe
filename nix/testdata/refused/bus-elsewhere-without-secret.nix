# refused by evaluation: services.cc-ci.settings.bus.redis.url_file names the secret redis_url
{ ... }:
{
  services.cc-ci.redis.enable = false;
}
