package browser

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launcherName is what the process is called that becomes Chromium.
const launcherName = "cc-ci-browser-launcher"

// Chromium asks the kernel, through a netlink socket, to be told of interfaces that
// come and go, and breaks off what it is loading when one does (ERR_NETWORK_CHANGED).
// Docker makes one for each container of any run, so that a page of one run would come
// to pieces because another run began. Chromium has no option against it, but takes a
// kernel that gives it no such socket as one on which nothing ever changes.
//
// The refusal must be in force when Chromium begins, and os/exec runs nothing of ours
// between fork and exec: this program therefore starts itself under launcherName,
// refuses itself the socket and becomes Chromium.
func init() {
	if len(os.Args) == 0 || os.Args[0] != launcherName {
		return
	}
	if len(os.Args) == 1 {
		os.Exit(0)
	}
	runtime.LockOSThread() // the refusal is this thread's
	var err error
	if os.Geteuid() == 0 || mayMakeUserNamespace() { // root's has no sandbox
		err = refuseNetlink()
	}
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintf(os.Stderr, "starting %s: %v\n", os.Args[1], err)
	os.Exit(1)
}

// throughLauncher has cmd start by way of the launcher.
func throughLauncher(cmd *exec.Cmd) {
	cmd.Args = append([]string{launcherName, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Err = "/proc/self/exe", nil
}

// mayMakeUserNamespace tells whether Chromium can make its sandbox of user namespaces.
// Where it cannot, it needs a set-user-id program for that, which does nothing in a
// process that gave up new privileges, as the refusal demands. The sandbox counts for
// more.
func mayMakeUserNamespace() bool {
	try := exec.Command("/proc/self/exe")
	try.Args = []string{launcherName} // without a program: ends at once
	try.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	return try.Run() == nil
}

// Offsets in the kernel's struct seccomp_data, see seccomp(2). The value of a socket's
// family fits the lower half of its argument, which comes first on both machines.
const nrOffset, archOffset, familyOffset = 0, 4, 16

// refuseNetlink lets socket(2) fail with EAFNOSUPPORT for netlink, in this thread and
// all that comes of it.
func refuseNetlink() error {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return nil
	}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	answer := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	filter := []unix.SockFilter{
		load(archOffset), unless(arch, 5),
		load(nrOffset), unless(unix.SYS_SOCKET, 3),
		load(familyOffset), unless(unix.AF_NETLINK, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)),
		answer(unix.SECCOMP_RET_ALLOW),
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // the kernel's condition
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("refusing netlink sockets: %w", err)
	}
	return nil
}
