# The legacy virtual machine on Incus. Its hardware differs from the live host's: a
# switch with the wrong name leaves either without a root file system.
{
  imports = [ ../common.nix ];

  networking.hostName = "cc-ci-incus";
  services.cc-ci.settings.domain = "ci-incus.example.org";

  nixpkgs.hostPlatform = "x86_64-linux";
  boot.initrd.availableKernelModules = [ "virtio_pci" "virtio_scsi" "sd_mod" ];
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/ESP";
    fsType = "vfat";
  };
  networking.useDHCP = true;

  users.users.root.openssh.authorizedKeys.keys = [
    # "ssh-ed25519 AAAA... operator"
  ];
}
