# refused by the program: forges[0].app
{ lib, ... }:
{
  services.cc-ci.settings.forges = lib.mkForce [{
    kind = "gitea";
    url = "https://git.example.org";
    org = "recipe-maintainers";
    token_file = "gitea_token";
    discover = "topic:cc-ci";
    app = { id = "1"; installation = 2; key_file = "/etc/cc-ci/gitea_token"; };
  }];
}
