# The live host, at Hetzner. Its names and keys are the operator's own.
{
  imports = [ ../common.nix ./hardware.nix ];

  networking.hostName = "cc-ci";
  services.cc-ci.settings.domain = "ci.example.org";

  users.users.root.openssh.authorizedKeys.keys = [
    # "ssh-ed25519 AAAA... operator"
  ];
}
