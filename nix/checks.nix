# What `nix flake check` builds: the program, and every host's configuration as the
# program itself judges it.
{ lib, pkgs, self }:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  configs = lib.mapAttrs' (name: host: {
    name = "config-${name}";
    value = host.config.services.cc-ci.configFile;
  }) (lib.filterAttrs (_: host: host.pkgs.stdenv.hostPlatform.system == system) self.nixosConfigurations);
in
configs // {
  inherit (self.packages.${system}) cc-ci drone-runner-exec;
}
