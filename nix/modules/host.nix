# The machine around the services.
{ config, lib, ... }:
let
  cfg = config.services.cc-ci;
  port = address: lib.toInt (lib.last (lib.splitString ":" address));
  taken = [
    { port = 80; by = "the proxy (HTTP)"; }
    { port = 443; by = "the proxy (HTTPS)"; }
    { port = 22; by = "services.openssh"; }
    { port = port cfg.settings.listen; by = "services.cc-ci.settings.listen"; }
    { port = port cfg.settings.bridge.listen; by = "services.cc-ci.settings.bridge.listen"; }
  ];
  clashes = lib.filterAttrs (_: uses: lib.length uses > 1) (lib.groupBy (use: toString use.port) taken);
in
{
  config = lib.mkIf cfg.enable {
    assertions = lib.mapAttrsToList (number: uses: {
      assertion = false;
      message = "port ${number} is asked for by ${lib.concatMapStringsSep " and by " (use: use.by) uses}: give one of them another.";
    }) clashes;

    networking.firewall.allowedTCPPorts = [ 80 443 ];

    # Recipes mount it, and NixOS has no such file: without it their containers do not start.
    environment.etc.timezone.text = "${if config.time.timeZone == null then "UTC" else config.time.timeZone}\n";
  };
}
