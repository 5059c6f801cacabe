// Package dockerd starts a Docker daemon of a test's own, in a network namespace of
// its own, so that neither the machine's daemon nor another test is in its way: its
// networks, published ports and firewall rules are in there and end with it.
//
// The namespace has no way out. A look-up of an image in a registry fails at
// once instead of waiting for a name server.
package dockerd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
)

// Server is a running daemon.
type Server struct {
	Docker *client.Client
	Socket string // path

	// Settings are those of daemon.json, which the next start reads.
	Settings string
	// Cgroup is a folder of a control group of version 2 in which the next start puts the daemon and what it
	// starts but containers. Default is this process's.
	Cgroup string

	env       []string
	dir       string
	namespace string
	process   *exec.Cmd
	ended     <-chan struct{}
}

// Start starts a daemon that lives as long as the test. It needs root, dockerd and
// iproute2: under -short the test is skipped; where they are missing it fails in
// CI and is skipped elsewhere. The daemon's environment is this process's with env.
func Start(t testing.TB, env ...string) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("a Docker daemon is a real server")
	}
	if why := missing(); why != "" {
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	s, err := Open(env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dockerd's log ends\n%s", s.log())
		}
		s.Close()
	})
	return s
}

func missing() string {
	if os.Geteuid() != 0 {
		return "a Docker daemon of the test's own needs root"
	}
	for _, program := range []string{"dockerd", "containerd", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return "a Docker daemon of the test's own needs " + program
		}
	}
	return ""
}

// startLimit bounds the time until a new daemon answers.
const startLimit = time.Minute

// Open starts a daemon that the caller closes: what tests of one package share.
func Open(env ...string) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "cc-ci-dockerd-")
	if err != nil {
		return nil, err
	}
	s := &Server{env: env, dir: dir, namespace: filepath.Base(dir), Socket: filepath.Join(dir, "docker.sock")}
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting dockerd: %w\n%s", err, s.log())
			s.Close()
		}
	}()
	if err := ip("netns", "add", s.namespace); err != nil {
		return s, err
	}
	if err := ip("-n", s.namespace, "link", "set", "lo", "up"); err != nil {
		return s, err
	}
	if err := s.Restart(); err != nil {
		return s, err
	}
	return s, nil
}

// Restart starts the daemon, after ending the one before. What runs in containers of a swarm
// ends with it and starts again.
func (s *Server) Restart() error {
	s.stop()
	// The machine's own settings are not for this one.
	settings := filepath.Join(s.dir, "daemon.json")
	if err := os.WriteFile(settings, []byte(cmp.Or(s.Settings, "{}")), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// Not "ip netns exec": it mounts another /sys, which lacks the control groups.
	cmd := exec.Command("nsenter", "--net=/var/run/netns/"+s.namespace, "nice", "dockerd",
		"--config-file", settings, "--data-root", filepath.Join(s.dir, "data"), "--exec-root", filepath.Join(s.dir, "exec"),
		"--pidfile", filepath.Join(s.dir, "pid"), "--host", "unix://"+s.Socket, "--bip", Address+"/16", "--log-level", "warn")
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if s.Cgroup != "" {
		group, err := os.Open(s.Cgroup)
		if err != nil {
			return err
		}
		defer group.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	if s.ended, err = child.Start(cmd); err != nil {
		return err
	}
	s.process = cmd
	if s.Docker == nil {
		if s.Docker, err = client.NewClientWithOpts(client.WithHost("unix://"+s.Socket), client.WithAPIVersionNegotiation()); err != nil {
			return err
		}
	}
	return s.await()
}

func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		_, err := s.Docker.Info(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// log returns the end of the daemon's log.
func (s *Server) log() []byte {
	text, _ := os.ReadFile(s.logFile())
	return text[max(0, len(text)-3000):]
}

// Address is the daemon's own in its namespace: published ports are there too.
const Address = "172.31.0.1"

// Env is what a program needs to find this daemon.
func (s *Server) Env() string { return "DOCKER_HOST=unix://" + s.Socket }

// Namespace is the file of the daemon's network namespace.
func (s *Server) Namespace() string { return "/var/run/netns/" + s.namespace }

// Command is a program run in the daemon's network, and told of the daemon.
func (s *Server) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/var/run/netns/" + s.namespace, name}, args...)...)
	cmd.Env = append(os.Environ(), s.Env())
	return cmd
}

// Dial reaches an address of the daemon's namespace, where published ports are. It
// must be numeric.
func (s *Server) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	inside := Within("/var/run/netns/"+s.namespace, func() { conn, err = (&net.Dialer{}).DialContext(ctx, network, address) })
	return conn, errors.Join(inside, err)
}

// Listen listens at an address of the daemon's namespace.
func (s *Server) Listen(network, address string) (listener net.Listener, err error) {
	inside := Within("/var/run/netns/"+s.namespace, func() { listener, err = net.Listen(network, address) })
	return listener, errors.Join(inside, err)
}

// Within calls do in the network namespace of that path, as /proc/PID/ns/net. Sockets that it opens
// stay there.
func Within(namespace string, do func()) error {
	done := make(chan error, 1)
	go func() {
		// A socket belongs to the namespace of the thread that makes it. The thread is not
		// unlocked where it could not be brought back: it ends with this goroutine.
		runtime.LockOSThread()
		done <- within(namespace, do)
	}()
	return <-done
}

func within(namespace string, do func()) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network %s: %w", namespace, err)
	}
	do()
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return nil
}

// Close ends the daemon and all that ran in it, and removes its files. Legal twice.
func (s *Server) Close() {
	s.stop()
	if s.Docker != nil {
		_ = s.Docker.Close()
	}
	_ = ip("netns", "del", s.namespace)
	s.unmount()
	_ = os.RemoveAll(s.dir)
}

// stop ends the daemon and the containers that it leaves behind.
func (s *Server) stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		_ = s.process.Process.Kill()
		<-s.ended
	}
	s.process = nil
	for range 50 {
		left := s.processes()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processes are those whose command line names this daemon's folder: its containerd and
// the shims of its containers.
func (s *Server) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(s.dir+"/")) {
			found = append(found, pid)
		}
	}
	return found
}

// unmount takes off what the daemon has mounted below its folder, the deepest first.
func (s *Server) unmount() {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], s.dir+"/") {
			points = append(points, fields[4])
		}
	}
	for _, point := range slices.Backward(points) {
		_ = syscall.Unmount(point, syscall.MNT_DETACH)
	}
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Import makes an image of programs: paths in the image and where they are on this machine. The image has
// /tmp besides, and changes, as ENTRYPOINT ["/app"].
func (s *Server) Import(ctx context.Context, reference string, programs map[string]string, changes ...string) error {
	return ImportImage(ctx, s.Docker, reference, programs, changes)
}

// answerError finds the error in the stream of a call that has begun to answer.
func answerError(decoder *json.Decoder) error {
	for decoder.More() {
		var line struct{ Error string }
		if err := decoder.Decode(&line); err != nil {
			return err
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
	}
	return nil
}
