# refused by the program: forges[0].hook_secret_files
{ lib, ... }:
{
  services.cc-ci.settings.forges = lib.mkForce [{
    kind = "gitea";
    url = "https://git.example.org";
    org = "recipe-maintainers";
    token_file = "gitea_token";
    discover = "topic:cc-ci";
    hook_secret_files = [ "gitea_hook_secret" "gitea_hook_secret" "gitea_hook_secret" ];
  }];
}
