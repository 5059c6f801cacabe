# refused by evaluation: The option 'virtualisation.docker.enabel' does not exist
{ ... }:
{
  virtualisation.docker.enabel = true;
}
