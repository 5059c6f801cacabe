# One set of fences for every unit of cc-ci. A unit that needs a gap names the fence and
# says why:
#
#     hardened { PrivateTmp = { to = false; because = "..."; }; }
#
# A name that is no fence, or a gap without a reason, stops the evaluation. What the set
# has no word for (ReadWritePaths, say) is no fence and is set beside it.
{ lib }:
let
  fences = {
    CapabilityBoundingSet = "";
    AmbientCapabilities = "";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateTmp = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = [ "AF_INET" "AF_INET6" "AF_NETLINK" "AF_UNIX" ]; # addresses are asked by netlink
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [ "@system-service" "~@privileged" "~@resources" ];
    UMask = "0027"; # its own group reads: the parts of cc-ci share a folder
  };
  gap = name: { to, because }:
    if ! fences ? ${name} then throw "nix/hardening.nix has no fence ${name}"
    else if lib.trim because == "" then throw "the gap in ${name} needs a reason"
    else to;
in
gaps: fences // lib.mapAttrs gap gaps
