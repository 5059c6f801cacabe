# refused by evaluation: services.cc-ci.settings.forges[0] names the secret gitea_tokn
{ lib, ... }:
{
  services.cc-ci.settings.forges = lib.mkForce [{
    kind = "gitea";
    url = "https://git.example.org";
    org = "recipe-maintainers";
    token_file = "gitea_tokn";
    discover = "topic:cc-ci";
  }];
}
