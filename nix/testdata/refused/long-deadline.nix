# refused by the program: engine.deadline
{ ... }:
{
  services.cc-ci.settings.engine.deadline = "25h";
}
