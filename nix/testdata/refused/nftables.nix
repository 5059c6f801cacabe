# refused by evaluation: networking.nftables.enable is true
{ ... }:
{
  networking.nftables.enable = true;
}
