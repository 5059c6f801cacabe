# A cloud server at Hetzner (x86-64): BIOS, one disk, addresses by DHCP.
{
  nixpkgs.hostPlatform = "x86_64-linux";

  boot.initrd.availableKernelModules = [ "ahci" "sd_mod" "virtio_pci" "virtio_scsi" "xhci_pci" ];
  boot.loader.grub = {
    enable = true;
    device = "/dev/sda";
  };

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  # Peaks of heavy recipes. A run that needs it all the time is slow, not killed.
  swapDevices = [{ device = "/var/swap"; size = 4096; }];

  networking.useDHCP = true;
}
