package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// scripted is a machine that changes as it is told, and writes down how.
type scripted struct {
	Facts
	self      Daemon
	running   []Daemon
	services  bool   // in the swarm
	broken    string // an action that has no effect
	failing   string // an action that fails
	performed []string
}

func (s *scripted) step(name string, change func()) error {
	s.performed = append(s.performed, name)
	if s.failing == name {
		return errors.New("it is raining")
	}
	if s.broken != name {
		change()
	}
	return nil
}

func (s *scripted) Look(context.Context) (Facts, error) { return s.Facts, nil }
func (s *scripted) Install(_ context.Context, packages []string) error {
	return s.step("install", func() { s.Dockerd, s.Restic, s.Chromium, s.Git = true, "r", "c", "g" })
}
func (s *scripted) StartDocker(context.Context, string) (Daemon, error) {
	d := Daemon{PID: 77, Start: "1"}
	s.running = append(s.running, d)
	return d, s.step("start", func() { s.Docker, s.Swarm.State = DockerUp, "inactive" })
}
func (s *scripted) StopDocker(_ context.Context, d Daemon) error {
	return s.step("stop", func() {
		s.Docker = DockerDown
		s.running = slices.DeleteFunc(s.running, func(o Daemon) bool { return o == d })
	})
}
func (s *scripted) Started(d Daemon) bool { return slices.Contains(s.running, d) }
func (s *scripted) Self() Daemon          { return s.self }
func (s *scripted) WriteTimezone() error  { return s.step("timezone", func() { s.Timezone = true }) }
func (s *scripted) InitSwarm(context.Context) (string, error) {
	return "new", s.step("init", func() { s.Swarm = Swarm{State: "active", Manager: true, Cluster: "new"} })
}
func (s *scripted) LeaveSwarm(context.Context) (bool, error) {
	return !s.services, s.step("leave", func() { s.Swarm = Swarm{State: "inactive"} })
}
func (s *scripted) Client() (*client.Client, error) { return client.NewClientWithOpts() }

func blank() *scripted {
	self := Daemon{PID: 1, Start: "0"}
	return &scripted{Facts: Facts{Root: true, Apt: true, Docker: DockerDown}, self: self, running: []Daemon{self}}
}

func TestEnsureDoesAndTakesBack(t *testing.T) {
	s, dir := blank(), t.TempDir()
	var said []string
	h, err := Ensure(t.Context(), Options{DataDir: dir, AllowInstall: true, System: s, Out: func(line string) { said = append(said, line) }})
	if err != nil {
		t.Fatal(err)
	}
	if !h.MadeSwarm() || !h.StartedDocker() || h.Restic != "r" || len(said) != 4 || len(h.Done) != 4 {
		t.Errorf("host %+v said %q", h, said)
	}
	for range 2 {
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(s.performed, " "); got != "install start timezone init leave stop" {
		t.Errorf("performed %s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, recordName)); !os.IsNotExist(err) {
		t.Errorf("the record is still there: %v", err)
	}
}

func TestEnsureLeavesWhatWasThere(t *testing.T) {
	s := blank()
	s.Facts = ready()
	h, err := Ensure(t.Context(), Options{DataDir: t.TempDir(), System: s})
	if err != nil || h.Close(t.Context()) != nil || len(s.performed) != 0 {
		t.Errorf("%v, performed %q", err, s.performed)
	}
}

func TestEnsureTakesOverFromAKilledProcess(t *testing.T) {
	s, dir := blank(), t.TempDir()
	if _, err := Ensure(t.Context(), Options{DataDir: dir, AllowInstall: true, System: s}); err != nil {
		t.Fatal(err)
	}
	// A second process, while the first one lives, takes nothing back.
	second := *s
	second.self = Daemon{PID: 2, Start: "9"}
	second.performed = nil
	h, err := Ensure(t.Context(), Options{DataDir: dir, System: &second})
	if err != nil || h.MadeSwarm() || h.StartedDocker() || h.Close(t.Context()) != nil || len(second.performed) != 0 {
		t.Errorf("%v, performed %q beside a living owner", err, second.performed)
	}
	// The first one is killed; the next one finds and ends what it left.
	third := second
	third.self = Daemon{PID: 3, Start: "10"}
	third.running = []Daemon{{PID: 77, Start: "1"}, third.self}
	h, err = Ensure(t.Context(), Options{DataDir: dir, System: &third})
	if err != nil || h.Close(t.Context()) != nil {
		t.Fatal(err)
	}
	if got := strings.Join(third.performed, " "); got != "leave stop" {
		t.Errorf("performed %s after a kill", got)
	}
	// Had the swarm been made anew by somebody, it would not be ours.
	if err := writeRecord(dir, record{Swarm: "old"}); err != nil {
		t.Fatal(err)
	}
	fourth := *s
	fourth.Facts, fourth.performed = ready(), nil
	h, err = Ensure(t.Context(), Options{DataDir: dir, System: &fourth})
	if err != nil || h.MadeSwarm() || h.Close(t.Context()) != nil || len(fourth.performed) != 0 {
		t.Errorf("%v, performed %q on a foreign swarm", err, fourth.performed)
	}
}

func TestEnsureFailures(t *testing.T) {
	s := blank()
	s.failing = "init"
	_, err := Ensure(t.Context(), Options{DataDir: t.TempDir(), AllowInstall: true, System: s})
	if err == nil || !strings.Contains(err.Error(), "it is raining") || s.performed[len(s.performed)-1] != "stop" {
		t.Errorf("%v after %q; want the daemon stopped again", err, s.performed)
	}
	s = blank()
	s.broken = "install"
	if _, err = Ensure(t.Context(), Options{DataDir: t.TempDir(), AllowInstall: true, System: s}); err == nil || !strings.Contains(err.Error(), "did not help") {
		t.Errorf("an installation without effect gives %v", err)
	}
	s = blank()
	if _, err = Ensure(t.Context(), Options{DataDir: t.TempDir(), System: s}); ccci.HintOf(err) == "" || len(s.performed) != 0 {
		t.Errorf("not allowed: %v, performed %q", err, s.performed)
	}
	s = blank()
	h, err := Ensure(t.Context(), Options{DataDir: t.TempDir(), AllowInstall: true, System: s})
	if err != nil {
		t.Fatal(err)
	}
	s.services = true
	if err := h.Close(t.Context()); err != nil || slices.Contains(s.performed, "stop") {
		t.Errorf("%v, performed %q; want a swarm that is in use left alone", err, s.performed)
	}
}

func TestDebianLike(t *testing.T) {
	for text, want := range map[string]bool{
		"NAME=x\nID=debian\n": true, "ID=ubuntu\nID_LIKE=debian\n": true, "ID=\"raspbian\"\nID_LIKE=\"ubuntu debian\"\n": true,
		"ID=nixos\n": false, "VERSION=debian\n": false, "": false,
	} {
		name := filepath.Join(t.TempDir(), "os-release")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := debianLike(name); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

// The facts of the machine that runs the tests, against the tools themselves.
func TestA24_LookAtThisMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a Docker daemon")
	}
	f, err := NewSystem().Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Docker != DockerUp {
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs Docker: it is %s", f.Docker)
		}
		t.Skipf("this test needs Docker: it is %s", f.Docker)
	}
	out, err := exec.Command("docker", "info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}").Output()
	if err != nil {
		t.Skipf("there is no docker command to compare with: %v", err)
	}
	if got := fmt.Sprintln(f.Swarm.State, f.Swarm.Manager); got != string(out) {
		t.Errorf("swarm is %s, docker info says %s", got, out)
	}
	if f.DiskTotal < f.DiskFree || (f.DiskPath != "" && f.DiskTotal == 0) {
		t.Errorf("disk %s has %d of %d bytes free", f.DiskPath, f.DiskFree, f.DiskTotal)
	}
}

// A24: a daemon of the test's own, in a network of its own: started, made a
// swarm, left and stopped, and nothing of it stays.
func TestA24_PrivateDaemon(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Docker daemon")
	}
	skip := func(format string, args ...any) {
		if os.Getenv("CI") != "" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	for _, program := range []string{"dockerd", "unshare", "ip"} {
		if path(program) == "" || os.Geteuid() != 0 {
			skip("this test needs root and %s", program)
		}
	}
	// Sockets have short paths only.
	dir, err := os.MkdirTemp("", "ccci-host-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := "unix://" + dir + "/sock"
	m := &machine{
		pidFile: dir + "/pid",
		docker:  []client.Opt{client.WithHost(sock), client.WithAPIVersionNegotiation()},
		// The namespace's loopback is down at first; exec keeps the process ID.
		dockerd: []string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec dockerd "$@"`, "sh",
			"--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid", "-H", sock, "--bip", "172.31.0.1/16"},
	}
	ctx := t.Context()
	daemon, err := m.StartDocker(ctx, dir)
	if err != nil {
		log, _ := os.ReadFile(dir + "/dockerd.log")
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() { _ = m.StopDocker(context.WithoutCancel(ctx), daemon) })
	if !m.Started(daemon) || readPID(m.pidFile) != daemon.PID {
		t.Errorf("daemon %+v; the pid file says %d", daemon, readPID(m.pidFile))
	}
	if second, err := m.StartDocker(ctx, dir); err != nil || second != (Daemon{}) {
		t.Errorf("starting where one runs = %+v, %v; want none of ours", second, err)
	}
	docker, err := m.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	for _, want := range []bool{true, false} {
		if made, err := EnsureSwarm(ctx, docker); err != nil || made != want {
			t.Fatalf("EnsureSwarm = %t, %v; want %t", made, err, want)
		}
	}
	wantSwarmLog(t, docker, "a swarm of ours")
	other, err := docker.SwarmInspect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	many := int64(-1)
	other.Spec.Raft.SnapshotInterval, other.Spec.Orchestration.TaskHistoryRetentionLimit, other.Spec.Raft.ElectionTick = 10000, &many, 20
	if err := docker.SwarmUpdate(ctx, other.Version, other.Spec, swarm.UpdateFlags{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := BoundSwarmLog(ctx, docker); err != nil {
			t.Fatal(err)
		}
	}
	wantSwarmLog(t, docker, "a swarm of others")
	// N3: a container can name 1022 neighbours, and the swarm uses the network.
	gateway, err := docker.NetworkInspect(ctx, Gateway, network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(gateway.IPAM.Config) != 1 || !strings.HasSuffix(gateway.IPAM.Config[0].Subnet, fmt.Sprint("/", GatewayBits)) {
		t.Errorf("%s has %+v", Gateway, gateway.IPAM)
	}
	if has, _, err := WideGateway(ctx, docker); err != nil || has.IsValid() {
		t.Errorf("%s has more addresses than it should: %v, %v", Gateway, has, err)
	}
	if gateway.Options["com.docker.network.bridge.enable_icc"] != "false" || gateway.Options["com.docker.network.bridge.enable_ip_masquerade"] != "true" {
		t.Errorf("%s has the options %v", Gateway, gateway.Options)
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for len(gateway.Containers) == 0 && waiting.Err() == nil { // swarm joins it some time later
		if gateway, err = docker.NetworkInspect(waiting, Gateway, network.InspectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range gateway.Containers {
		if of.Name != "gateway_ingress-sbox" || !strings.HasSuffix(of.IPv4Address, fmt.Sprint("/", GatewayBits)) {
			t.Errorf("on %s is %+v", Gateway, of)
		}
	}
	if len(gateway.Containers) == 0 {
		t.Errorf("swarm does not use %s", Gateway)
	}
	f := Facts{}
	if err := m.lookAtDocker(ctx, &f); err != nil || !f.Swarm.Manager || f.Swarm.Cluster == "" || f.DiskPath != dir+"/data" {
		t.Errorf("facts %+v, %v", f, err)
	}
	for range 2 {
		if left, err := m.LeaveSwarm(ctx); err != nil || !left {
			t.Fatalf("LeaveSwarm = %t, %v", left, err)
		}
	}
	// What an earlier version had: Docker's choice. It is named and stays.
	if err := docker.NetworkRemove(ctx, Gateway); err != nil {
		t.Fatal(err)
	}
	if err := makeGateway(ctx, docker, nil); err != nil {
		t.Fatal(err)
	}
	if err := ensureGateway(ctx, docker); err != nil {
		t.Fatal(err)
	}
	if has, should, err := WideGateway(ctx, docker); err != nil || has.Bits() != 16 || should != netip.PrefixFrom(has.Addr(), GatewayBits) {
		t.Errorf("Docker's own %s has %v, and should have %v: %v", Gateway, has, should, err)
	}
	for range 2 {
		if err := m.StopDocker(ctx, daemon); err != nil {
			t.Fatal(err)
		}
	}
	if m.Started(daemon) {
		t.Error("the daemon runs after StopDocker")
	}
	m.dockerd = []string{"sh", "-c", "echo no such option; exit 1"}
	if _, err := m.StartDocker(ctx, dir); err == nil || !strings.Contains(err.Error(), "no such option") {
		t.Errorf("a daemon that ends at once gives %v", err)
	}
}

// wantSwarmLog compares the settings of a swarm with those that bound its log.
func wantSwarmLog(t *testing.T, docker *client.Client, what string) {
	t.Helper()
	have, err := docker.SwarmInspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if limit := have.Spec.Orchestration.TaskHistoryRetentionLimit; have.Spec.Raft.SnapshotInterval != 500 || limit == nil || *limit != 5 {
		t.Errorf("%s: snapshot interval %d, task history limit %v", what, have.Spec.Raft.SnapshotInterval, limit)
	}
}
