# refused by evaluation: The option 'services.cc-ci.doman' does not exist
{ ... }:
{
  services.cc-ci.doman = "ci.example.org";
}
