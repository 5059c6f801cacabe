# The janitor: what killed runs left behind goes, on an idle machine too.
import ../timed.nix {
  name = "janitor";
  enable = {
    default = true;
    description = "Whether what dead runs left is removed now and then.";
  };
  onCalendar = "hourly";
  timer = {
    description = "cc-ci: when the janitor comes";
    spread = "5min";
  };
  description = "cc-ci: removes what dead runs left";
  service = {
    command = "janitor";
    gaps.PrivateTmp = {
      to = false;
      because = "killed runs leave their files in the machine's own /tmp";
    };
    writes = [ "/tmp" ];
    serviceConfig = {
      User = "cc-ci";
      SupplementaryGroups = [ "docker" ];
      TimeoutStartSec = "30min";
    };
  };
}
