# refused by the program: forges[1].name
{ ... }:
{
  services.cc-ci.settings.forges = [{ kind = "gitea"; url = "https://git.example.org"; org = "others"; token_file = "gitea_token"; discover = "org"; }];
}
