package browser

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launcherName is what the process is called that becomes Chromium.
const launcherName = "cc-ci-browser-launcher"

// controlFD is the launcher's end of the socket pair to the process that started it.
// 3 and 4 are Chromium's DevTools pipes.
const controlFD = 5

// gateAddr is where Chromium finds its proxy, in its own network namespace.
var gateAddr = netip.MustParseAddrPort("127.0.0.1:3128")

// ready is what the launcher sends together with the listener; any other message is the
// reason why it gave up.
const ready = "ready"

// os/exec runs nothing of ours between fork and exec: this program therefore starts
// itself under launcherName, in new namespaces, furnishes them and becomes Chromium.
func init() {
	if len(os.Args) == 0 || os.Args[0] != launcherName {
		return
	}
	if len(os.Args) == 1 { // mayNest asks only whether it starts
		os.Exit(0)
	}
	runtime.LockOSThread() // capabilities and seccomp filters are this thread's
	err := launch(os.Args[1], os.Args[1:])
	_ = unix.Send(controlFD, []byte(err.Error()), 0)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// launch confines this process and becomes the program. It returns only with an error.
func launch(program string, args []string) error {
	unix.CloseOnExec(controlFD)
	listener, err := listenInside()
	if err != nil {
		return err
	}
	if err := makeRoot(program); err != nil {
		return err
	}
	if err := limit(); err != nil {
		return err
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := refuseNetlink(); err != nil {
		return err
	}
	if !mayNest() {
		args = append(args, "--no-sandbox")
	}
	if err := unix.Sendmsg(controlFD, []byte(ready), unix.UnixRights(listener), nil, 0); err != nil {
		return fmt.Errorf("passing the proxy's socket on: %w", err)
	}
	return fmt.Errorf("starting %s: %w", program, syscall.Exec(program, args, os.Environ()))
}

// listenInside brings up the loopback interface of this network namespace, which has no
// other, and returns a listening socket there. Whoever gets it answers from another
// network namespace.
func listenInside() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("making the proxy's socket: %w", err)
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
		return 0, fmt.Errorf("reading the state of the loopback interface: %w", err)
	}
	// The namespace is new: an interface that is up belongs to the machine.
	if lo.Uint16()&unix.IFF_UP != 0 {
		return 0, fmt.Errorf("the browser has no network namespace of its own")
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return 0, fmt.Errorf("bringing the loopback interface up: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: gateAddr.Addr().As4(), Port: int(gateAddr.Port())}); err != nil {
		return 0, fmt.Errorf("binding %s: %w", gateAddr, err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		return 0, fmt.Errorf("listening on %s: %w", gateAddr, err)
	}
	return fd, nil
}

// limits are ceilings of each process of Chromium; its files are in memory that
// [makeRoot] bounds. An address space limit would not do: Chromium reserves terabytes.
var limits = map[int]uint64{
	unix.RLIMIT_CORE:  0,
	unix.RLIMIT_FSIZE: 512 << 20,
	unix.RLIMIT_DATA:  4 << 30, // private memory that can be written
	unix.RLIMIT_NPROC: 1024,    // threads count; a page takes about 100
}

func limit() error {
	for resource, n := range limits {
		var old unix.Rlimit
		if err := unix.Getrlimit(resource, &old); err != nil {
			return fmt.Errorf("reading the limit %d: %w", resource, err)
		}
		n = min(n, old.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("setting the limit %d: %w", resource, err)
		}
	}
	// When memory runs out, the kernel ends the browser first. It may be less already.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("800"), 0)
	return nil
}

// dropPrivileges leaves this thread without capabilities, also for programs that it
// starts, and without root's user.
func dropPrivileges() error {
	for c := uintptr(0); ; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL {
			break // there is no such capability
		} else if err != nil {
			return fmt.Errorf("dropping capabilities: %w", err)
		}
	}
	if os.Geteuid() == 0 { // only where there is no user namespace
		err := syscall.Setgroups(nil)
		if err == nil {
			err = syscall.Setresgid(guestID, guestID, guestID)
		}
		if err == nil {
			err = syscall.Setresuid(guestID, guestID, guestID)
		}
		if err != nil {
			return fmt.Errorf("becoming user %d: %w", guestID, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("dropping ambient capabilities: %w", err)
	}
	header, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	// A change of user clears it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tying the browser to its parent: %w", err)
	}
	return nil
}

// mayNest reports whether Chromium can make the namespaces of its own sandbox inside
// these. Where it cannot, it would refuse to start: a kernel may allow user namespaces to
// root alone.
func mayNest() bool {
	try := exec.Command("/proc/self/exe")
	try.Args = []string{launcherName} // without a program: ends at once
	try.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	return try.Run() == nil
}

// Offsets in the kernel's struct seccomp_data, see seccomp(2). The value of a socket's
// family fits the lower half of its argument, which comes first on both machines.
const nrOffset, archOffset, familyOffset = 0, 4, 16

// refuseNetlink lets socket(2) fail with EAFNOSUPPORT for netlink, in this thread and
// all that comes of it. Chromium asks the kernel for interfaces through such a socket, and
// takes a machine that has none but loopback for offline; without the socket it takes the
// network for one that is there and never changes.
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
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("refusing netlink sockets: %w", err)
	}
	return nil
}
