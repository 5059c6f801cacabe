# Everything that developing and the whole test suite need: Go, and each server or
# program that a test starts. Gitea, Drone and its runner are built by the tests.
{ pkgs }:
pkgs.mkShell {
  packages = with pkgs; [
    go_1_26
    gnumake
    gcc
    git
    docker
    restic
    chromium
    redis
    traefik
    nix
    sops
    age
    systemd
    util-linux
    iproute2
    debootstrap
    mmdebstrap
  ];
  CGO_ENABLED = "0";
}
