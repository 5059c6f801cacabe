# The program, its account, and its one configuration file: rendered from the options
# and judged by the program itself, so that a wrong host fails the build and not the boot.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;

  # null stands for "not set": the program has its own default.
  withoutNull = value:
    if builtins.isAttrs value then lib.filterAttrs (_: v: v != null && v != { }) (lib.mapAttrs (_: withoutNull) value)
    else if builtins.isList value then map withoutNull value
    else value;

  isDrone = cfg.settings.engine.kind == "drone";

  text = kind: description: mkOption {
    type = types.nullOr kind;
    default = null;
    inherit description;
  };

  repository.options = {
    repo = mkOption {
      type = types.str;
      example = "recipes/wiki";
      description = "owner/name on the forge.";
    };
    recipe = text types.str "Recipe that it holds; the repository's name unless set.";
  };

  forge = {
    freeformType = types.attrsOf types.anything;
    options = {
      kind = mkOption {
        type = types.enum [ "gitea" "github" "local" ];
        description = "gitea (Forgejo too), github, or local.";
      };
      name = text types.str "What runs of this forge are remembered by; must never change. The host of url unless set.";
      url = text types.str "Where the forge is, as https://git.example.org.";
      org = mkOption {
        type = types.str;
        description = "Organisation whose members may trigger runs.";
      };
      token_file = text types.str "Name of the secret with the token of cc-ci's own account.";
      hook_secret_files = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Names of the secrets that webhooks are signed with: none, one, or two while it is changed.";
      };
      repositories = mkOption {
        type = types.listOf (types.submodule repository);
        default = [ ];
        description = "Enrolled repositories.";
      };
      discover = text types.str "Repositories found besides: none, org, topic:NAME or team:NAME.";
      poll = text types.str "How often a repository is asked for new comments; at most 30s.";
    };
  };
in
{
  options.services.cc-ci = {
    enable = lib.mkEnableOption "cc-ci, which tests recipes of Co-op Cloud by deploying them";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = lib.literalMD "cc-ci of this flake";
      description = "The program.";
    };

    environmentPackage = mkOption {
      type = types.package;
      default = pkgs.callPackage ../run-env.nix { cc-ci = cfg.package; };
      defaultText = lib.literalMD "cc-ci-run of this flake";
      description = "Every program that a run starts; the PATH of runs.";
    };

    image = mkOption {
      type = types.package;
      default = pkgs.callPackage ../image.nix { cc-ci-run = cfg.environmentPackage; };
      defaultText = lib.literalMD "image of this flake";
      description = "The image of bridge and dashboard, tagged by its content.";
    };

    settings = mkOption {
      default = { };
      description = "cc-ci.yml, as docs/settings.md lists it. A key without an option of its own is passed on, and judged by cc-ci config check during the build.";
      type = types.submodule {
        freeformType = types.attrsOf types.anything;
        options = {
          domain = mkOption {
            type = types.str;
            example = "ci.example.org";
            description = "The CI domain: the dashboard is there, the apps under test one label under it.";
          };
          data = mkOption {
            type = types.path;
            default = "/var/lib/cc-ci";
            description = "Folder for everything that lasts.";
          };
          tests = mkOption {
            type = types.path;
            default = "${cfg.package}/share/cc-ci/tests";
            defaultText = lib.literalMD "the tests/ of the program's own source";
            description = "Folder with one enrolment folder per recipe.";
          };
          url = mkOption {
            type = types.str;
            default = "https://${cfg.settings.domain}";
            defaultText = lib.literalMD "https:// and the domain";
            description = "Where people reach the dashboard; goes into comments.";
          };
          network = mkOption {
            type = types.str;
            default = "proxy";
            description = "Overlay network that the proxy and apps deployed by hand share.";
          };
          listen = mkOption {
            type = types.str;
            default = "0.0.0.0:8480";
            description = "Address of the dashboard, inside its container.";
          };
          bridge.listen = mkOption {
            type = types.str;
            default = "0.0.0.0:8481";
            description = "Address of /hook, /healthz and /metrics, inside the bridge's container.";
          };
          ingress.kind = mkOption {
            type = types.enum [ "embedded" "traefik" ];
            default = if cfg.proxy.enable then "traefik" else "embedded";
            defaultText = lib.literalMD "traefik, where proxy.enable is true";
            description = "The proxy that runs reach their apps through: this host's, or a small one of their own.";
          };
          processes = mkOption {
            type = types.enum [ "together" "apart" ];
            default = "apart";
            description = "apart: bridge and dashboard are two services. Needs a bus between processes.";
          };
          bus.kind = mkOption {
            type = types.enum [ "inproc" "redis" ];
            default = "redis";
            description = "What carries hints between the parts of cc-ci.";
          };
          bus.redis.url_file = mkOption {
            type = types.nullOr types.str;
            default = if cfg.settings.bus.kind == "redis" then "redis_url" else null;
            defaultText = lib.literalMD "`redis_url` with bus.kind redis";
            description = "Name of the secret with the address of Redis.";
          };
          reconcile = {
            images.cc_ci = mkOption {
              type = types.str;
              default = "${cfg.image.imageName}:${cfg.image.imageTag}";
              defaultText = lib.literalMD "the image, tagged by its content";
              description = "The image of cc-ci itself. The tag has to change with the content.";
            };
            subnet = mkOption {
              type = types.str;
              default = "10.10.0.0/16";
              description = "Of the overlay network. A /16: removed apps give addresses back late, and 254 were used up within days.";
            };
            firewall.docker_cgroup = mkOption {
              type = types.str;
              default = "";
              description = "Control group of docker.service, by which the firewall knows what dockerd asks. The firewall's module sets it.";
            };
            firewall.docker_allow = mkOption {
              type = types.listOf types.str;
              default = [ ];
              example = [ "10.1.2.3:5000" ];
              description = "What dockerd may reach of this host and of private networks. docker.registryMirrors are added.";
            };
            drone.host = mkOption {
              type = types.str;
              default = "drone.${cfg.settings.domain}";
              defaultText = lib.literalMD "drone. and the domain";
              description = "Where the Drone server of this host is reached.";
            };
            backup.repository = mkOption {
              type = types.path;
              default = "/var/lib/cc-ci-backups";
              description = "Folder with the restic repository of the apps that stay on this host.";
            };
            proxy.certificates = mkOption {
              type = types.path;
              default = "/var/lib/ci-certs/live";
              description = "Folder with fullchain.pem and privkey.pem, of the domain and its wildcard.";
            };
            proxy.gateways = mkOption {
              type = types.listOf types.str;
              default = [ ];
              example = [ "198.51.100.9" ];
              description = "IPv4 addresses of hosts that pass visitors' connections on and name the visitor with the PROXY protocol in every one.";
            };
          };
          forges = mkOption {
            type = types.listOf (types.submodule forge);
            default = [ ];
            description = "Where pull requests are.";
          };
          engine = {
            kind = mkOption {
              type = types.enum [ "drone" "local" ];
              default = "drone";
              description = "drone: builds of a Drone server; local: processes of the bridge.";
            };
            capacity = mkOption {
              type = types.ints.between 1 64;
              default = 1;
              description = "How many runs at a time (MAX_TESTS). .drone.yml has the same number.";
            };
            deadline = mkOption {
              type = types.str;
              default = "60m";
              description = "A run that takes longer is ended and torn down.";
            };
            # Without drone these stay away: the program refuses them beside another engine.
            drone = {
              url = mkOption {
                type = types.nullOr types.str;
                default = if isDrone then "https://${cfg.settings.reconcile.drone.host}" else null;
                defaultText = lib.literalMD "https:// and `settings.reconcile.drone.host`";
                description = "The Drone server.";
              };
              token_file = mkOption {
                type = types.nullOr types.str;
                default = if isDrone then "drone_token" else null;
                defaultText = lib.literalMD "drone_token";
                description = "Name of the secret with the token of a Drone user who may start builds of repo.";
              };
              repo = text types.str "owner/name of cc-ci's own repository, which holds .drone.yml.";
              commit = text types.str "Full hash of the commit of repo whose .drone.yml is used, so that no later push changes what runs on the host. Default: the head of its default branch.";
            };
          };
        };
      };
    };

    rendered = mkOption {
      type = types.str;
      readOnly = true;
      internal = true;
      description = "cc-ci.yml, as JSON.";
    };

    configFile = mkOption {
      type = types.package;
      readOnly = true;
      internal = true;
      description = "cc-ci.yml after cc-ci config check.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.cc-ci.rendered = builtins.toJSON (withoutNull cfg.settings);
    services.cc-ci.configFile = pkgs.runCommand "cc-ci.yml"
      {
        inherit (cfg) rendered;
        passAsFile = [ "rendered" ];
        nativeBuildInputs = [ cfg.package ];
      } ''
      cp "$renderedPath" "$out"
      cc-ci --config "$out" config check
    '';

    assertions = [
      {
        assertion = cfg.settings.forges != [ ];
        message = "services.cc-ci.settings.forges is empty: name the forge where the recipes' pull requests are.";
      }
      {
        assertion = cfg.settings.processes == "together" || cfg.settings.bus.kind != "inproc";
        message = "services.cc-ci.settings.processes is apart and services.cc-ci.settings.bus.kind is inproc: such a bus ends at the process. Write bus.kind = \"redis\", or processes = \"together\".";
      }
    ];

    # One account for whatever drives Docker. Its number is fixed: files of the data folder
    # belong to it inside of containers too.
    users.users.cc-ci = {
      isSystemUser = true;
      uid = 848;
      group = "cc-ci";
      extraGroups = [ "docker" ];
      home = cfg.settings.data;
    };
    users.groups.cc-ci.gid = 848;

    environment.etc."cc-ci/cc-ci.yml".source = cfg.configFile;
    environment.systemPackages = [ cfg.environmentPackage ];

    systemd.tmpfiles.rules = [
      "d ${cfg.settings.data} 0750 cc-ci cc-ci -"
      "d /run/lock 0755 root root -"
      # Locks of runs: every cc-ci on the machine takes them here, whatever its user.
      "d /run/lock/cc-ci 1777 root root -"
    ];

    systemd.targets.cc-ci = {
      description = "cc-ci, as the flake declares it";
      wantedBy = [ "multi-user.target" ];
    };
  };
}
