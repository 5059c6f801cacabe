package browser

import (
	"bytes"
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
	theirs []*os.File // of the launcher
}

// newGuest prepares a confinement. Without users, only root can make one.
func newGuest(users bool) (*guest, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "browser control")
	defer ours.Close() // FileConn takes a copy
	g := &guest{users: users, theirs: []*os.File{os.NewFile(uintptr(fds[1]), "browser control")}}
	conn, err := net.FileConn(ours)
	if err != nil {
		g.closeTheirs()
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	g.ours = conn.(*net.UnixConn)
	return g, nil
}

func (g *guest) close() {
	g.closeTheirs()
	g.ours.Close()
}

// closeWith closes what the launcher has a copy of as soon as chromedp closes such a file of its
// own: when the launcher was started, or not. An end that stayed open here would hide the
// launcher's.
func (g *guest) closeWith(file *os.File) {
	conn, err := file.SyscallConn()
	for err == nil {
		time.Sleep(time.Millisecond)
		err = conn.Control(func(uintptr) {})
	}
	g.closeTheirs()
}

func (g *guest) closeTheirs() {
	for _, file := range g.theirs {
		file.Close()
	}
}

// confine has cmd start by way of the launcher, in namespaces of its own. A browser never
// outlives the process that started it: the first process of a process namespace takes all
// others with it.
func (g *guest) confine(cmd *exec.Cmd) {
	cmd.Args = append([]string{launcherName, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Err = "/proc/self/exe", nil
	cmd.Dir = "/"
	devtools := cmd.ExtraFiles[1]
	if cmd.ExtraFiles[1], cmd.Err = g.bounded(devtools); cmd.Err != nil {
		return
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, g.theirs[0])
	go g.closeWith(devtools)
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

// maxMessage bounds one message of DevTools, in bytes. A picture of noise has 6 MiB; a page can
// have its whole memory sent, by an exception or a line on its console.
const maxMessage = 32 << 20

// bounded returns a pipe in front of the one that DevTools writes to. It ends at a message that
// is too long, and with it the connection to the browser.
func (g *guest) bounded(to *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(to.Fd(), unix.F_DUPFD_CLOEXEC, 0) // chromedp closes its own
	if err != nil {
		return nil, fmt.Errorf("making a pipe for DevTools: %w", err)
	}
	out := os.NewFile(uintptr(fd), "devtools")
	r, w, err := os.Pipe()
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("making a pipe for DevTools: %w", err)
	}
	g.theirs = append(g.theirs, w)
	go func() {
		defer out.Close()
		defer r.Close()
		_ = copyMessages(out, r)
	}()
	return w, nil
}

var errLongMessage = errors.New("the browser sent a message that is too long")

// copyMessages copies messages that end with a zero byte, until one is too long.
func copyMessages(w io.Writer, r io.Reader) error {
	buf, length := make([]byte, 64<<10), 0
	for {
		n, err := r.Read(buf)
		if end := bytes.LastIndexByte(buf[:n], 0); end >= 0 {
			length = n - end - 1
		} else {
			length += n
		}
		if length > maxMessage {
			return errLongMessage
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
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
	g.closeTheirs() // what was not sent never comes
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
