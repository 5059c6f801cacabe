# refused by evaluation: A definition for option 'services.cc-ci.settings.engine.kind' is not of type
{ ... }:
{
  services.cc-ci.settings.engine.kind = "jenkins";
}
