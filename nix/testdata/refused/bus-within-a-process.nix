# refused by evaluation: services.cc-ci.settings.processes is apart and services.cc-ci.settings.bus.kind is inproc
{ ... }:
{
  services.cc-ci.settings.bus.kind = "inproc";
}
