package browser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// guestID is the user and group that root's Chromium runs as: one that nobody has, since
// distributions and systemd hand out nothing from 1879048192 on
// (https://systemd.io/UIDS-GIDS).
const guestID = 2_000_000_000

// ownNamespaces are new for each browser. It sees no interface but loopback, no process, no
// file and no memory of the machine.
const ownNamespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNS

// guest is the confinement of one Chromium as seen from outside.
type guest struct {
	users  bool // with a user namespace
	ours   *net.UnixConn
	theirs *os.File
}

// newGuest prepares a confinement. Without users, only root can make one.
func newGuest(users bool) (*guest, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "browser control")
	defer ours.Close() // FileConn takes a copy
	g := &guest{users: users, theirs: os.NewFile(uintptr(fds[1]), "browser control")}
	conn, err := net.FileConn(ours)
	if err != nil {
		g.theirs.Close()
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	g.ours = conn.(*net.UnixConn)
	return g, nil
}

func (g *guest) close() {
	g.theirs.Close()
	g.ours.Close()
}

// confine has cmd start by way of the launcher, in namespaces of its own. A browser never
// outlives the process that started it: the first process of a process namespace takes all
// others with it.
func (g *guest) confine(cmd *exec.Cmd) {
	cmd.Args = append([]string{launcherName, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Err = "/proc/self/exe", nil
	cmd.Dir = "/"
	cmd.ExtraFiles = append(cmd.ExtraFiles, g.theirs)
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: ownNamespaces}
	cmd.SysProcAttr = attr
	if !g.users {
		return
	}
	uid, gid := os.Geteuid(), os.Getegid()
	root := uid == 0
	if root {
		uid, gid = guestID, guestID
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	// Only root may leave its other groups. Those that stay open no file in there.
	attr.GidMappingsEnableSetgroups = root
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: !root}
	// Of its own namespaces alone, and only until the launcher has furnished them.
	attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
}

// explain says why Chromium did not start: the kernel refused the namespaces, the launcher
// gave up, or Chromium did.
func (g *guest) explain(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errors.Is(err, errno) { // of clone
		return fmt.Errorf("%w: %w", errNoNamespaces, err)
	}
	message, _, received := g.receive()
	if received != nil {
		return err
	}
	if message == ready { // and not able to become Chromium
		if message, _, received = g.receive(); received != nil {
			return err
		}
		return errors.New(message)
	}
	return fmt.Errorf("%w: %s", errNoNamespaces, message)
}

// receive returns what the launcher said next. It is called after the launcher became
// Chromium or ended, when there is nothing to wait for.
func (g *guest) receive() (message string, rights []byte, err error) {
	g.theirs.Close() // what was not sent never comes
	if err := g.ours.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return "", nil, err
	}
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := g.ours.ReadMsgUnix(text, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return "", nil, fmt.Errorf("the browser's launcher said nothing: %w", err)
	}
	return string(text[:n]), rights[:rn], nil
}

// listener returns the socket in the browser's network namespace that the launcher sent.
func (g *guest) listener() (net.Listener, error) {
	message, rights, err := g.receive()
	if err != nil {
		return nil, err
	}
	if message != ready {
		return nil, errors.New(message)
	}
	parsed, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(parsed) != 1 {
		return nil, fmt.Errorf("reading the browser's socket: %d messages, %w", len(parsed), err)
	}
	fds, err := unix.ParseUnixRights(&parsed[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("reading the browser's socket: %d sockets, %w", len(fds), err)
	}
	file := os.NewFile(uintptr(fds[0]), "browser proxy")
	defer file.Close() // FileListener takes a copy
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listening for the browser: %w", err)
	}
	return listener, nil
}

// unconfined is the error of a machine on which a browser would not be confined.
func unconfined(err error) error {
	return ccci.Errorf(ccci.CodeInfra, "starting the browser in namespaces of its own: %w", err).
		WithHint("allow user namespaces (sysctl user.max_user_namespaces; on Debian kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0) or run cc-ci as root")
}
