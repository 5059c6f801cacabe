{
  description = "cc-ci: tests recipes of Co-op Cloud by really deploying them";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  inputs.sops-nix.url = "github:Mic92/sops-nix";
  inputs.sops-nix.inputs.nixpkgs.follows = "nixpkgs";

  outputs = { self, nixpkgs, sops-nix }:
    let
      each = make: nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make (import nixpkgs {
        inherit system;
        config.allowUnfreePredicate = import ./nix/unfree.nix;
      }));
      host = module: nixpkgs.lib.nixosSystem { modules = [ self.nixosModules.default module ]; };
      app = package: args: {
        type = "app";
        program = "${package.writeShellScript "cc-ci-${args}" "exec ${package.cc-ci}/bin/cc-ci ${args} \"$@\""}";
        meta.description = "cc-ci ${args}";
      };
    in
    {
      packages = each (pkgs: import ./nix/packages.nix { inherit pkgs; });

      nixosModules.default.imports = [ sops-nix.nixosModules.sops ./nix/modules ];

      nixosConfigurations = rec {
        cc-ci = host ./nix/hosts/cc-ci;
        cc-ci-hetzner = cc-ci; # another name for the same closure
        cc-ci-incus = host ./nix/hosts/cc-ci-incus;
      };

      checks = each (pkgs: import ./nix/checks.nix { inherit (nixpkgs) lib; inherit pkgs self; });
      devShells = each (pkgs: { default = import ./nix/shell.nix { inherit pkgs; }; });
      formatter = each (pkgs: pkgs.nixfmt-tree);

      apps = each (pkgs:
        let package = pkgs // { inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) cc-ci; };
        in {
          demo = app package "demo";
          doctor = app package "doctor";
        });
    };
}
