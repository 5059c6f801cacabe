# refused by the program: reconcile.proxy.gateways[0]: 0.0.0.0/0 is too wide
{ ... }:
{
  services.cc-ci.settings.reconcile.proxy.gateways = [ "0.0.0.0/0" ];
}
