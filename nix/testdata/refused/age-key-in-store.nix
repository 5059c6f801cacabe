# refused by evaluation: sops.age.keyFile' is not of type
{ ... }:
{
  services.cc-ci.ageKeyFile = "/nix/store/00000000000000000000000000000000-key/key.txt";
}
