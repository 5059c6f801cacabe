# refused by evaluation: A definition for option 'services.cc-ci.settings.engine.capacity' is not of type
{ ... }:
{
  services.cc-ci.settings.engine.capacity = "one";
}
