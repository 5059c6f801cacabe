# refused by evaluation: Redis listens at /run/redis-cc-ci/redis.sock alone
{ ... }:
{
  services.cc-ci.redis.port = 6379;
}
