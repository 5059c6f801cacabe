# refused by evaluation: kind' is not of type
{ lib, ... }:
{
  services.cc-ci.settings.forges = lib.mkForce [{
    kind = "gitlab";
    url = "https://git.example.org";
    org = "recipe-maintainers";
    token_file = "gitea_token";
    discover = "topic:cc-ci";
  }];
}
