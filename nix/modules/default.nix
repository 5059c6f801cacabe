# services.cc-ci: the whole appliance. One file per service, each after those that it
# depends on.
{
  imports = [
    ./cc-ci.nix
    ./secrets.nix
    ./host.nix
    ./docker.nix
    ./redis.nix
    ./reconcile.nix
    ./firewall.nix
    ./proxy.nix
    ./drone.nix
    ./runner.nix
    ./bridge.nix
    ./dashboard.nix
    ./backupbot.nix
    ./backup.nix
    ./drift.nix
    ./janitor.nix
    ./sweep.nix
    ./prune.nix
  ];
}
