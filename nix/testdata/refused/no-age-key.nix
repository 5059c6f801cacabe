# refused by evaluation: services.cc-ci.ageKeyFile is null
{ ... }:
{
  services.cc-ci.ageKeyFile = null;
}
