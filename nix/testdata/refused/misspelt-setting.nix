# refused by the program: badg
{ ... }:
{
  services.cc-ci.settings.badg.stale = "24h";
}
