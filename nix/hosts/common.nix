# What every host of cc-ci has, whatever its hardware and its domain.
{ config, lib, ... }:
let
  private = ../../secrets/secrets.yaml;
in
{
  services.cc-ci = {
    enable = true;
    # secrets/ is a private submodule. Without it the placeholders let everybody evaluate
    # and build every host; no machine can decrypt anything of value from them.
    secretsFile = if builtins.pathExists private then private else ../../examples/secrets/secrets.yaml;
    secrets = {
      gitea_token = { };
      gitea_hook_secret = { };
      registry_auth = { };
    };
    docker.registryAuth = "registry_auth";
    settings = {
      engine.drone.repo = "recipe-maintainers/cc-ci";
      forges = [{
        kind = "gitea";
        url = "https://git.example.org";
        org = "recipe-maintainers";
        token_file = "gitea_token";
        hook_secret_files = [ "gitea_hook_secret" ];
        discover = "topic:cc-ci";
      }];
    };
  };

  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
    settings.PermitRootLogin = "prohibit-password";
  };
  warnings = lib.optional (config.users.users.root.openssh.authorizedKeys.keys == [ ])
    "users.users.root.openssh.authorizedKeys.keys is empty: nobody can log in to ${config.networking.hostName}.";
  networking.firewall.enable = true;
  time.timeZone = lib.mkDefault "Etc/UTC";

  nix.settings.experimental-features = [ "nix-command" "flakes" ];
  nix.gc = {
    automatic = true;
    options = "--delete-older-than 30d";
  };

  # The release that the machine was installed with. It stays when nixpkgs moves on.
  system.stateVersion = "26.05";
}
