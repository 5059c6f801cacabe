// Package box boots the units of the host as they are evaluated, in a container of systemd-nspawn: a
// Debian root, a Docker of its own, a network with nobody else in it. From a blank box it
// comes to a green run, and again after a reboot.
package box

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// box is a machine: a root file system, and while it runs the processes on it.
type box struct {
	t    *testing.T
	dir  string // of all that is the box's own
	root string // its root file system

	placed map[string]string // the secrets it was given, by name

	process *exec.Cmd
	ended   <-chan struct{}
	init    int // its first process, as this machine numbers it
}

// needed are the programs besides root's rights; .ci/run installs them.
var needed = []string{"systemd-nspawn", "mmdebstrap", "nsenter", "dockerd", "ip"}

// newBox lays an empty layer over Debian.
func newBox(t *testing.T) *box {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root's rights"
	}
	for _, name := range needed {
		if _, err := exec.LookPath(name); err != nil {
			missing = name
		}
	}
	if missing != "" && os.Getenv("CI") != "" {
		t.Fatalf("a box needs %s: .ci/run installs what it takes", missing)
	} else if missing != "" {
		t.Skipf("a box needs %s", missing)
	}
	lower := debian(t)
	b := &box{t: t, dir: t.TempDir()}
	b.root = filepath.Join(b.dir, "root")
	// Docker's layers need a file system that is none of layers itself.
	for _, name := range []string{"root", "upper", "work", "docker"} {
		if err := os.Mkdir(filepath.Join(b.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(b.dir, "upper"), filepath.Join(b.dir, "work"))
	if err := unix.Mount("overlay", b.root, "overlay", 0, layers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && b.process != nil {
			t.Logf("the journal ends\n%s", b.ask("journalctl", "--boot", "--no-pager", "--lines=250", "--output=short-monotonic"))
			t.Logf("services\n%s", b.ask("docker", "service", "ls"))
			for _, name := range []string{"bridge", "drone", "traefik"} {
				t.Logf("%s says\n%s", name, b.ask("docker", "service", "logs", "--raw", "--tail", "40", "cc-ci_"+name))
			}
		}
		b.powerOff()
		if err := unix.Unmount(b.root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return b
}

// path is that of a file of the box on this machine.
func (b *box) path(name string) string { return filepath.Join(b.root, name) }

// write puts a file there.
func (b *box) write(name, text string, mode os.FileMode) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
}

// link makes a symbolic link of the box, to a path in the box.
func (b *box) link(to, name string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Symlink(to, b.path(name)); err != nil {
		b.t.Fatal(err)
	}
}

// powerOn boots and returns when systemd answers.
func (b *box) powerOn() {
	b.t.Helper()
	console, err := os.OpenFile(filepath.Join(b.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer console.Close()
	cmd := exec.Command("systemd-nspawn", "--quiet", "--boot", "--directory="+b.root, "--machine=cc-ci-box-"+strconv.Itoa(os.Getpid()), "--hostname=cc-ci",
		"--register=no", "--keep-unit", "--private-network", "--capability=all", "--system-call-filter=add_key keyctl bpf",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--bind="+filepath.Join(b.dir, "docker")+":/var/lib/docker")
	// Docker in it wants one hierarchy of control groups, whatever this machine has.
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if b.ended, err = child.Start(cmd); err != nil {
		b.t.Fatal(err)
	}
	b.process = cmd
	b.until("the box has a first process", 30*time.Second, func() bool { b.init = firstProcess(cmd.Process.Pid); return b.init > 0 })
	b.until("systemd answers", time.Minute, func() bool { return b.property("", "Version") != "" })
}

// numbersOf are those that a process has in each of its namespaces, this machine's first.
func numbersOf(pid int) []string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, numbers, _ := strings.Cut(string(status), "\nNSpid:")
	numbers, _, _ = strings.Cut(numbers, "\n")
	return strings.Fields(numbers)
}

// firstProcess finds the process below pid that is number 1 in a namespace of its own.
func firstProcess(pid int) int {
	if all := numbersOf(pid); len(all) > 1 && all[len(all)-1] == "1" {
		return pid
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // nspawn has one thread
	for _, text := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(text); err == nil {
			if found := firstProcess(child); found > 0 {
				return found
			}
		}
	}
	return 0
}

// powerOff shuts it down, and pulls the plug where that takes too long. Legal twice.
func (b *box) powerOff() {
	if b.process == nil {
		return
	}
	if b.init > 0 {
		b.ask("systemctl", "poweroff")
	}
	select {
	case <-b.ended:
	case <-time.After(time.Minute):
		b.t.Error("the box does not shut down")
		_ = b.process.Process.Kill()
		<-b.ended
	}
	b.process, b.init = nil, 0
}

// command is a program run in the box as root.
func (b *box) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target=" + strconv.Itoa(b.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"}
	return cmd
}

// ask returns what a program in the box prints, whatever becomes of it.
func (b *box) ask(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, _ := b.command(ctx, name, args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

// journal is what a unit has said since the boot. It comes a little after the unit has ended.
func (b *box) journal(unit string) string {
	return b.ask("journalctl", "--boot", "--no-pager", "--output=cat", "--unit="+unit) + "\n"
}

// property is one of a unit, or of systemd itself.
func (b *box) property(unit, name string) string {
	args := []string{"show", "--value", "--property=" + name}
	if unit != "" {
		args = append(args, unit)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := b.command(ctx, "systemctl", args...).Output()
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(out))
}

// settle waits until systemd has nothing left to do.
func (b *box) settle() {
	b.t.Helper()
	b.until("systemd has no job left", 5*time.Minute, func() bool { return b.property("", "NJobs") == "0" })
}

// until asks again and again whether something has come to be.
func (b *box) until(what string, limit time.Duration, is func() bool) {
	b.t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-b.ended:
			console, _ := os.ReadFile(filepath.Join(b.dir, "console"))
			b.t.Fatalf("%s: the box is off\n%s", what, console[max(0, len(console)-3000):])
		default:
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// network is that of the box while it runs.
func (b *box) network() string { return fmt.Sprintf("/proc/%d/ns/net", b.init) }

// dial reaches a port of the box, as whoever is in front of it.
func (b *box) dial(ctx context.Context, port string) (conn net.Conn, err error) {
	inside := dockerd.Within(b.network(), func() {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	})
	if inside != nil {
		return nil, inside
	}
	return conn, err
}

// order says what became of units, which have to have run one after the other.
func (b *box) order(units ...string) {
	b.t.Helper()
	var before uint64
	for _, unit := range units {
		result := b.property(unit, "Result") + " " + b.property(unit, "ExecMainStatus")
		begin, _ := strconv.ParseUint(b.property(unit, "ExecMainStartTimestampMonotonic"), 10, 64)
		end, _ := strconv.ParseUint(b.property(unit, "ExecMainExitTimestampMonotonic"), 10, 64)
		if result != "success 0" || begin == 0 || begin < before || end < begin {
			b.t.Errorf("%s: %s, from %d to %d, and the one before ended at %d", unit, result, begin, end, before)
		}
		b.t.Logf("%s took %s", unit, time.Duration(end-begin)*time.Microsecond)
		before = end
	}
}

// kept are the objects of the swarm, each with its number.
func (b *box) kept() string {
	var all []string
	for kind, format := range map[string]string{"service": "{{.ID}} {{.Name}} {{.Image}}", "secret": "{{.ID}} {{.Name}}", "config": "{{.ID}} {{.Name}}"} {
		all = append(all, strings.Split(b.ask("docker", kind, "ls", "--format", kind+" "+format), "\n")...)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
