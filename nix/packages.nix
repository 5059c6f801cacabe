# Everything that this repository builds, for one system.
{ pkgs }:
rec {
  default = cc-ci;
  cc-ci = pkgs.callPackage ./package.nix { };
  cc-ci-run = pkgs.callPackage ./run-env.nix { inherit cc-ci; };
  drone-runner-exec = pkgs.callPackage ./drone-runner-exec.nix { };
  # One image: which of them a container is, its command says.
  image = pkgs.callPackage ./image.nix { inherit cc-ci-run; };
  bridge-image = image;
  dashboard-image = image;
}
