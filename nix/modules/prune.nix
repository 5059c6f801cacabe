# The prune: dangling images older than 24 hours, on a disk that is four fifths full, while
# nothing runs. Never images that are used, never volumes: pulling them again costs more
# than it frees, and registries count pulls.
import ../timed.nix {
  name = "prune";
  enable = {
    default = true;
    description = "Whether dangling images are removed when the disk is nearly full.";
  };
  onCalendar = "daily";
  timer = {
    description = "cc-ci: when images are pruned";
    spread = "1h";
  };
  description = "cc-ci: frees the disk of dangling images";
  service = {
    command = "prune";
    serviceConfig = {
      User = "cc-ci";
      SupplementaryGroups = [ "docker" ];
      TimeoutStartSec = "30min";
    };
  };
}
