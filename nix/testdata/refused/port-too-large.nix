# refused by evaluation: services.cc-ci.redis.port' is not of type
{ ... }:
{
  services.cc-ci.redis.port = 70000;
}
