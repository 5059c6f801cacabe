# The bridge: a service of the swarm behind the proxy. Pull requests' comments come in here.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.cc-ci;
  set = lib.filter (name: name != null && !lib.hasPrefix "/" name);
in
{
  options.services.cc-ci.bridge = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether this machine has the bridge.";
    };

    image = mkOption {
      type = types.package;
      default = pkgs.callPackage ../image.nix { cc-ci = cfg.package; cc-ci-run = cfg.environmentPackage; role = "bridge"; };
      defaultText = lib.literalMD "bridge-image of this flake";
      description = "Its image, tagged by its content.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.bridge.enable) {
    assertions = [{
      assertion = cfg.proxy.enable;
      message = "services.cc-ci.bridge.enable needs services.cc-ci.proxy.enable: webhooks could not reach it, nor apps each other.";
    }];

    services.cc-ci.reconcile.bridge = {
      description = "the bridge";
      credentials = lib.unique (set (
        lib.concatMap (forge: [ forge.token_file (forge.app or { }).key_file or null ] ++ forge.hook_secret_files) cfg.settings.forges
        ++ [ (cfg.settings.engine.drone or { }).token_file or null (cfg.settings.bus.redis or { }).url_file or null ]
      ));
      environment = {
        CC_CI_IMAGE = "${cfg.bridge.image.imageName}:${cfg.bridge.image.imageTag}";
        CC_CI_IMAGE_ARCHIVE = "${cfg.bridge.image}";
      };
    };
  };
}
