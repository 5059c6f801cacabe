# refused by the program: reconcile.proxy.entrypoints[0]
{ ... }:
{
  services.cc-ci.settings.reconcile.proxy.entrypoints = [ "gitea-ssh:443" ];
}
