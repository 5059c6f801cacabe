package recipe

// Capabilities are the kernel capabilities that a service of a run has unless it drops
// them, in the order of their names and without "CAP_". They are what ordinary images
// need: to give files to a user (CHOWN, DAC_OVERRIDE, FOWNER, FSETID), to become that
// user (SETGID, SETUID), to end processes of it (KILL), to listen below port 1024
// (NET_BIND_SERVICE), and to confine themselves (SYS_CHROOT: sshd, postfix, dovecot).
//
// Admission lets a recipe ask for these and for no other without a waiver, and the
// deployer drops the rest of Docker's defaults, [DroppedCapabilities].
var Capabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT",
}

// DroppedCapabilities are Docker's other defaults, which a service of a run has only
// when it adds them, with a waiver. NET_RAW forges packets of neighbours, MKNOD makes
// devices, AUDIT_WRITE writes into the host's audit log, SETFCAP and SETPCAP pass
// capabilities on.
var DroppedCapabilities = []string{"AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP"}
