# refused by evaluation: port 443 is asked for by the proxy (HTTPS) and by services.cc-ci.settings.listen
{ ... }:
{
  services.cc-ci.settings.listen = "127.0.0.1:443";
}
