# The module of something that is done now and then: services.cc-ci.NAME with enable and
# onCalendar, a timer cc-ci-NAME, and the oneshot (oneshot.nix) that it starts.
{
  name,
  enable, # what the option of this name is made of, besides its type; may ask for cfg
  onCalendar, # by default, as systemd.time(7) writes it
  timer, # its description, its RandomizedDelaySec, and whether it catches up
  description, # of the service
  after ? [ ], # besides Docker; may ask for cfg
  service, # the rest of it, for oneshot.nix; may ask for cfg
}:
{ config, lib, ... }:
let
  inherit (lib) mkOption toFunction types;
  cfg = config.services.cc-ci;
  oneshot = import ./oneshot.nix { inherit config lib; };
  base = oneshot (toFunction service { inherit cfg lib; });
in
{
  options.services.cc-ci.${name} = {
    enable = mkOption ({ type = types.bool; } // toFunction enable { inherit cfg lib; });

    onCalendar = mkOption {
      type = types.str;
      default = onCalendar;
      description = "When, as systemd.time(7) writes it.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.${name}.enable) {
    systemd.timers."cc-ci-${name}" = {
      inherit (timer) description;
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.${name}.onCalendar;
        RandomizedDelaySec = timer.spread;
        Persistent = timer.persistent or true;
      };
    };

    systemd.services."cc-ci-${name}" = base // {
      inherit description;
      after = base.after ++ toFunction after { inherit cfg lib; };
    };
  };
}
