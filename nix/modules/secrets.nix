# Secrets: files of sops-nix, decrypted at activation with the one age key of the machine.
# A unit gets those that it names, by LoadCredential, in its own $CREDENTIALS_DIRECTORY.
#
# cc-ci.yml is loaded as a credential too. It names secrets by relative paths, which
# start at its own folder: the same text holds for every unit, and for people in /etc/cc-ci.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  set = lib.filter (name: name != null);

  named = lib.concatLists (lib.imap0 (i: forge:
    map (secret: { key = "services.cc-ci.settings.forges[${toString i}]"; inherit secret; })
      (set ([ forge.token_file (forge.app or { }).key_file or null ] ++ forge.hook_secret_files))
  ) cfg.settings.forges)
  ++ map (secret: { key = "services.cc-ci.settings.engine.drone.token_file"; inherit secret; })
    (set [ (cfg.settings.engine.drone or { }).token_file or null ])
  ++ map (secret: { key = "services.cc-ci.settings.bus.redis.url_file"; inherit secret; })
    (set [ (cfg.settings.bus.redis or { }).url_file or null ]);
in
{
  options.services.cc-ci = {
    secretsFile = mkOption {
      type = types.path;
      description = "The sops file with every secret.";
    };

    ageKeyFile = mkOption {
      type = types.nullOr types.path;
      default = "/var/lib/sops-nix/key.txt";
      description = "The machine's bootstrap age key: the one secret outside git.";
    };

    secrets = mkOption {
      default = { };
      example = { gitea_token = { }; };
      description = "Secrets of secretsFile that units use, by name.";
      type = types.attrsOf (types.submodule ({ name, ... }: {
        options = {
          key = mkOption {
            type = types.str;
            default = name;
            description = "Its key in secretsFile; a / stands between nested keys.";
          };
          path = mkOption {
            type = types.str;
            default = "/etc/cc-ci/${name}";
            description = "Where a link to the decrypted file is.";
          };
        };
      }));
    };
  };

  config = lib.mkIf cfg.enable {
    sops = {
      defaultSopsFile = cfg.secretsFile;
      age.keyFile = cfg.ageKeyFile;
      age.sshKeyPaths = [ "/etc/ssh/ssh_host_ed25519_key" ];
      gnupg.sshKeyPaths = [ ];
      secrets = lib.mapAttrs (_: secret: { inherit (secret) key path; }) cfg.secrets;
    };

    assertions = [
      {
        assertion = cfg.ageKeyFile != null;
        message = "services.cc-ci.ageKeyFile is null: without the bootstrap key a machine that was made anew cannot read its secrets.";
      }
    ] ++ map (use: {
      assertion = lib.hasPrefix "/" use.secret || cfg.secrets ? ${use.secret};
      message = "${use.key} names the secret ${use.secret}, and there is no services.cc-ci.secrets.${use.secret}: declare it, and put its key into ${toString cfg.secretsFile}.";
    }) named;
  };
}
