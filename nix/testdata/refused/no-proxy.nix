# refused by evaluation: services.cc-ci.bridge.enable needs services.cc-ci.proxy.enable
{ ... }:
{
  services.cc-ci.proxy.enable = false;
}
