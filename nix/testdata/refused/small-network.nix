# refused by the program: reconcile.subnet
{ ... }:
{
  services.cc-ci.settings.reconcile.subnet = "10.10.0.0/24";
}
