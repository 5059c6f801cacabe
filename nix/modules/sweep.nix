# The sweep: recipes whose newest release was not tested yet are, one after the other.
import ../timed.nix {
  name = "sweep";
  enable = {
    default = true;
    description = "Whether new releases are tested without being asked.";
  };
  onCalendar = "03:00";
  timer = {
    description = "cc-ci: when new releases are tested";
    spread = "15min";
  };
  description = "cc-ci: tests new releases";
  service = { cfg, ... }: {
    command = "sweep";
    gaps = import ../run-gaps.nix;
    # It asks the forges what is enrolled, and the engine for runs, as the bridge does.
    credentials = cfg.reconcile.bridge.credentials or [ ];
    writes = [ "/tmp" ];
    serviceConfig = {
      User = "cc-ci";
      SupplementaryGroups = [ "docker" ];
      TimeoutStartSec = "infinity";
      TimeoutStopSec = "10min"; # runs are torn down first
    };
  };
}
