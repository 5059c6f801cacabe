# refused by evaluation: virtualisation.docker.daemon.settings.live-restore is true
{ lib, ... }:
{
  virtualisation.docker.daemon.settings.live-restore = lib.mkForce true;
}
