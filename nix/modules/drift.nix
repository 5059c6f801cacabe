# Drift: what somebody changed by hand is put back, without waiting for a switch.
import ../timed.nix {
  name = "drift";
  enable = {
    default = true;
    description = "Whether every service is reconciled now and then.";
  };
  onCalendar = "*:0/15";
  timer = {
    description = "cc-ci: when drift is looked for";
    spread = "2min";
    persistent = false;
  };
  description = "cc-ci: every service as the flake declares it";
  after = { cfg, lib }: map (name: "cc-ci-reconcile-${name}.service") (lib.attrNames cfg.reconcile);
  service = { cfg, lib }: {
    # By name: "all" would bring up again what is disabled. They are put in order there.
    command = "reconcile swarm ${lib.concatStringsSep " " (lib.attrNames cfg.reconcile)}";
    credentials = lib.unique (lib.concatMap (service: service.credentials) (lib.attrValues cfg.reconcile));
    gaps = lib.mergeAttrsList (map (service: service.gaps) (lib.attrValues cfg.reconcile));
    writes = lib.concatMap (service: service.writes) (lib.attrValues cfg.reconcile);
    serviceConfig = {
      SupplementaryGroups = [ "cc-ci" "docker" ]; # root, as the oneshots that it repeats
      TimeoutStartSec = "30min";
    };
  };
}
