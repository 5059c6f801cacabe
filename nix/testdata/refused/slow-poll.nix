# refused by the program: forges[0].poll
{ lib, ... }:
{
  services.cc-ci.settings.forges = lib.mkForce [{
    kind = "gitea";
    url = "https://git.example.org";
    org = "recipe-maintainers";
    token_file = "gitea_token";
    discover = "topic:cc-ci";
    poll = "45s";
  }];
}
