# The gaps in the fences that a unit needs which runs harnesses: see hardening.nix.
{
  PrivateTmp = {
    to = false;
    because = "the janitor finds what a killed run left in the machine's own /tmp";
  };
  PrivateDevices = {
    to = false;
    because = "Chromium's sandbox opens devices that the fence hides";
  };
  MemoryDenyWriteExecute = {
    to = false;
    because = "Chromium compiles JavaScript";
  };
  RestrictNamespaces = {
    to = false;
    because = "Chromium's sandbox is made of namespaces";
  };
  ProtectProc = {
    to = "default";
    because = "a harness looks whether the step that started it still lives";
  };
  SystemCallFilter = {
    to = [ "@system-service" "@mount" ];
    because = "Chromium's sandbox needs its own system calls";
  };
}
