# refused by evaluation: services.cc-ci.proxy.subnet is 10.10.0.0/24
{ ... }:
{
  services.cc-ci.proxy.subnet = "10.10.0.0/24";
}
