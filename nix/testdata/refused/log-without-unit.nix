# refused by evaluation: services.cc-ci.docker.logSize' is not of type
{ ... }:
{
  services.cc-ci.docker.logSize = "10 megabytes";
}
