# Renders what the hosts come to: assertions that fail, cc-ci.yml, units, and the rest that
# tests look at, as JSON.
#
#     nix-instantiate --eval --strict --json nix/eval.nix \
#       --argstr nixpkgs /path/to/nixpkgs --argstr sops-nix /path/to/sops-nix
#
# nixpkgs is a checkout of NixOS/nixpkgs, or of nix-community/nixpkgs.lib: then the options
# of NixOS that are used come from eval/nixos.nix. `change` is one more module: a file
# with a mistake, whose refusal a test looks for.
{ nixpkgs, sops-nix, change ? null, full ? builtins.pathExists (nixpkgs + "/nixos/lib/eval-config.nix") }:
let
  lib = import (nixpkgs + "/lib");
  hosts = [ "cc-ci" "cc-ci-incus" ];
  modules = host: [ (sops-nix + "/modules/sops") ./modules (./hosts + "/${host}") ]
    ++ lib.optional (change != null) (/. + change);

  evaluate = host:
    if full then import (nixpkgs + "/nixos/lib/eval-config.nix") { system = null; modules = modules host; }
    else lib.evalModules {
      modules = modules host ++ [ ./eval/nixos.nix ];
      specialArgs = { pkgs = import ./eval/pkgs.nix { inherit lib; }; };
    };

  result = host:
    let
      inherit (evaluate host) config;
      failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
    in
    # As NixOS does: where an assertion fails, nothing else is looked at.
    if failed != [ ] then { inherit failed; } else {
      inherit failed;
      config = config.services.cc-ci.rendered;
      units = lib.mapAttrs (_: u: u.text) (lib.filterAttrs (name: _: lib.hasPrefix "cc-ci" name) config.systemd.units);
      machine = {
        inherit (config.networking.firewall) allowedTCPPorts;
        docker = config.virtualisation.docker.daemon.settings;
        etc = lib.mapAttrs (_: file: file.text) (lib.filterAttrs (name: _: name == "timezone" || lib.hasPrefix "cc-ci/" name) config.environment.etc);
        runnerRestarts = config.systemd.services.cc-ci-runner.restartIfChanged;
        secrets = lib.mapAttrs (_: secret: { inherit (secret) key path; }) config.sops.secrets;
        tmpfiles = lib.filter (lib.hasInfix "cc-ci") config.systemd.tmpfiles.rules;
      };
    };

  told = value: if value._type or "" == "literalMD" then value.text else "`${value.text}`";
  documented = lib.filter (o: o.visible && !o.internal && lib.hasPrefix "services.cc-ci." o.name)
    (lib.optionAttrSetToDocList (evaluate (lib.head hosts)).options);
in
{
  hosts = lib.genAttrs hosts result;
  options = map (o: {
    inherit (o) name type description;
    default = if o ? default then told o.default else null;
    example = if o ? example then told o.example else null;
  }) (lib.optionals (change == null) documented);
}
