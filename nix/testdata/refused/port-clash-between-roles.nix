# refused by evaluation: port 8480 is asked for by services.cc-ci.settings.listen and by services.cc-ci.settings.bridge.listen
{ ... }:
{
  services.cc-ci.settings.bridge.listen = "127.0.0.1:8480";
}
