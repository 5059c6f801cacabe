package nix

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/doctor"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
)

// lines returns the values of a key of a unit, in order.
func lines(unit, key string) []string {
	var found []string
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), key+"="); ok {
			found = append(found, value)
		}
	}
	return found
}

// words returns the words of a key that stands once.
func words(unit, key string) []string {
	return strings.Fields(strings.Join(lines(unit, key), " "))
}

// A32, A33: six oneshots that every switch and boot runs, one after the other.
func TestA32_A33_Chain(t *testing.T) {
	order := []string{"firewall", "proxy", "drone", "bridge", "dashboard", "backupbot"}
	for name, h := range hosts(t) {
		for i, service := range order {
			unit := h.Units["cc-ci-reconcile-"+service+".service"]
			command := words(unit, "ExecStart")
			if len(command) != 3 || command[1] != "reconcile" || command[2] != service || !strings.HasSuffix(command[0], "/bin/cc-ci") {
				t.Errorf("%s: %s runs %q", name, service, command)
			}
			if got := lines(unit, "Type"); !slices.Equal(got, []string{"oneshot"}) {
				t.Errorf("%s: %s is of type %q", name, service, got)
			}
			// Either would make a switch skip it, or try it behind the process's back.
			for _, key := range []string{"RemainAfterExit", "Restart", "ConditionPathExists"} {
				if got := lines(unit, key); got != nil {
					t.Errorf("%s: %s has %s=%q", name, service, key, got)
				}
			}
			if got := words(unit, "WantedBy"); !slices.Equal(got, []string{"cc-ci.target", "multi-user.target"}) {
				t.Errorf("%s: %s is wanted by %q", name, service, got)
			}
			needs := []string{"docker.service", "cc-ci-image.service"}
			if i > 0 {
				needs[1] = "cc-ci-reconcile-" + order[i-1] + ".service"
			}
			for _, need := range needs {
				if !slices.Contains(words(unit, "Requires"), need) || !slices.Contains(words(unit, "After"), need) {
					t.Errorf("%s: %s does not wait for %s", name, service, need)
				}
			}
		}
		if got := words(h.Units["cc-ci.target"], "WantedBy"); !slices.Equal(got, []string{"multi-user.target"}) {
			t.Errorf("%s: cc-ci.target is wanted by %q", name, got)
		}
	}
}

// A14, A15: the exec runner is a service of the machine that a switch does not end, takes
// as many builds as the engine, and sees no secret but its own and the registries'.
func TestA14_A15_Runner(t *testing.T) {
	for name, h := range hosts(t) {
		unit := h.Units["cc-ci-runner.service"]
		if !strings.Contains(unit, `-cc-ci-run/bin:`) { // A23
			t.Errorf("%s: runs see other programs than those of cc-ci-run", name)
		}
		if command := words(unit, "ExecStart"); len(command) != 3 || command[1] != "daemon" {
			t.Errorf("%s: the runner is %q", name, command)
		}
		if !strings.Contains(unit, `Environment="DRONE_RUNNER_CAPACITY=1"`) {
			t.Errorf("%s: the runner's capacity is not 1:\n%s", name, unit)
		}
		if got := lines(unit, "LoadCredential"); len(got) != 2 || !strings.HasPrefix(got[0], "runner.env:") || !strings.HasPrefix(got[1], "config.json:") {
			t.Errorf("%s: the runner is given %q", name, got)
		}
		c, err := config.Parse("cc-ci.yml", []byte(h.Config))
		if err != nil {
			t.Fatal(err)
		}
		// N3: it takes builds of the one repository, and those alone that cc-ci starts.
		repo, err := ccci.ParseRepoRef(c.Engine.Drone.Repo)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range dronelimits.Runner(repo) {
			if line := fmt.Sprintf("Environment=%q\n", key+"="+value); !strings.Contains(unit, line) {
				t.Errorf("%s: the runner has no %s in\n%s", name, line, unit)
			}
		}
		if limit := fmt.Sprintf("limit: %d\n", c.Engine.Capacity); !strings.Contains(read(t, "../.drone.yml"), limit) {
			t.Errorf("%s: engine.capacity is %d, and .drone.yml has another limit", name, c.Engine.Capacity)
		}
		if got := lines(unit, "X-RestartIfChanged"); !slices.Equal(got, []string{"false"}) {
			t.Errorf("%s: a switch kills the build that runs", name)
		}
	}
}

type machineFacts struct {
	AllowedTCPPorts []int
	Docker          map[string]any
	DockerSlice     string
	Etc             map[string]*string
	Kernel          struct{ Settings map[string]any }
	Redis           map[string]struct {
		Port, UnixSocketPerm        int
		UnixSocket                  string
		Group, RuntimeDirectoryMode string
		Members                     []string // accounts in Group
	}
	Secrets     map[string]struct{ Key, Path string }
	SecretsFile string // from the repository's root
	Tmpfiles    []string
	Watchdog    string // RuntimeWatchdogSec of systemd
}

func machine(t *testing.T, h host) machineFacts {
	t.Helper()
	var m machineFacts
	if err := json.Unmarshal(h.Machine, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// The hosts have the settings of the kernel that the doctor looks for, and the doctor looks at all such settings of the hosts.
func TestN3_SharedTablesAreAsTheDoctorWantsThem(t *testing.T) {
	want := map[string]any{}
	for _, table := range doctor.SharedTables {
		want[table.Setting] = float64(table.Least) // as JSON has numbers
	}
	for name, h := range hosts(t) {
		got := machine(t, h).Kernel.Settings
		maps.DeleteFunc(got, func(setting string, _ any) bool {
			return !strings.HasPrefix(setting, "fs.") && !strings.Contains(setting, ".neigh.")
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-doctor +host):\n%s", name, diff)
		}
	}
}

// N3: on the hosts no crash of an app starts systemd-coredump, whose file in sysctl.d NixOS's own settings replace.
func TestN3_CoreDumpsStayInTheContainer(t *testing.T) {
	for name, h := range hosts(t) {
		if got := machine(t, h).Kernel.Settings["kernel.core_pattern"]; got != "core" {
			t.Errorf("%s: kernel.core_pattern is %v", name, got)
		}
	}
}

// N3: systemd holds the hosts' watchdog, which dockerd would start where an app has it open the device.
func TestN3_SystemdHoldsTheWatchdog(t *testing.T) {
	for name, h := range hosts(t) {
		if got := machine(t, h).Watchdog; got != "1min" {
			t.Errorf("%s: RuntimeWatchdogSec is %q", name, got)
		}
	}
}

// N3: Redis answers at a socket that only a group of its own opens. No account and no unit of the host is in that
// group, the runner least of all: cc-ci reconcile gives it to the containers of bridge and dashboard.
func TestN3_RedisHasAGroupOfItsOwn(t *testing.T) {
	for name, h := range hosts(t) {
		redis, ok := machine(t, h).Redis["cc-ci"]
		if !ok || redis.Port != 0 || redis.UnixSocket != "/run/redis-cc-ci/redis.sock" {
			t.Errorf("%s: Redis is at %+v", name, redis)
		}
		if redis.UnixSocketPerm != 660 || redis.RuntimeDirectoryMode != "0750" {
			t.Errorf("%s: others reach its socket: %+v", name, redis)
		}
		if redis.Group != "cc-ci-redis" || len(redis.Members) > 0 {
			t.Errorf("%s: %q are in its group %s", name, redis.Members, redis.Group)
		}
		for unit, text := range h.Units {
			if groups := append(words(text, "Group"), words(text, "SupplementaryGroups")...); slices.Contains(groups, redis.Group) {
				t.Errorf("%s: %s is in the groups %q", name, unit, groups)
			}
		}
	}
}

// A30, A37: secrets come from sops-nix alone, and reach units as credentials.
func TestA30_A37_Secrets(t *testing.T) {
	for name, h := range hosts(t) {
		m := machine(t, h)
		at := map[string]bool{}
		for _, secret := range m.Secrets {
			at[secret.Path] = true
		}
		given := map[string]bool{}
		for unit, text := range h.Units {
			for _, credential := range lines(text, "LoadCredential") {
				file, path, _ := strings.Cut(credential, ":")
				given[file] = true
				// The configuration names secrets and holds none; sops renders the runner's file.
				if !at[path] && file != "cc-ci.yml" && path != "/run/secrets/rendered/cc-ci-runner.env" {
					t.Errorf("%s: %s is given %s, which is no secret of sops", name, unit, path)
				}
			}
			for _, variable := range lines(text, "Environment") {
				if strings.Contains(variable, "SECRET=") || strings.Contains(variable, "TOKEN=") || strings.Contains(variable, "PASSWORD=") {
					t.Errorf("%s: the unit file of %s, which everybody may read, has %s", name, unit, variable)
				}
			}
		}
		for _, file := range []string{"gitea_token", "drone_rpc_secret", "wildcard_certificate", "wildcard_key", "config.json"} {
			if !given[file] {
				t.Errorf("%s: no unit is given %s; units get %q", name, file, slices.Sorted(maps.Keys(given)))
			}
		}
	}
}

// Everybody can build every host: the placeholders have each key that a host names, or
// sops-nix would refuse the build.
func TestA29_Placeholders(t *testing.T) {
	has := map[string]bool{}
	for line := range strings.Lines(read(t, "../examples/secrets/secrets.yaml")) {
		if key, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(key, " ") {
			has[key] = true
		}
	}
	for name, h := range hosts(t) {
		if got := machine(t, h).SecretsFile; got != "/examples/secrets/secrets.yaml" {
			t.Errorf("%s: without the private repository the secrets are those of %s", name, got)
		}
		for secret, at := range machine(t, h).Secrets {
			if !has[at.Key] {
				t.Errorf("%s: the secret %s is not in examples/secrets/secrets.yaml", name, secret)
			}
		}
	}
}

// A25, A35, A37, U22: ports, Docker and /etc/timezone.
func TestA25_A35_A37_U22_Machine(t *testing.T) {
	for name, h := range hosts(t) {
		m := machine(t, h)
		if !slices.Equal(m.AllowedTCPPorts, []int{80, 443}) {
			t.Errorf("%s: open are %v", name, m.AllowedTCPPorts)
		}
		if m.Docker["live-restore"] != false {
			t.Errorf("%s: live-restore is %v, and no swarm would start", name, m.Docker["live-restore"])
		}
		if limits, ok := m.Docker["log-opts"].(map[string]any); !ok || limits["max-size"] != "10m" || limits["max-file"] != "3" {
			t.Errorf("%s: logs grow without bound: %v", name, m.Docker["log-opts"])
		}
		if zone := m.Etc["timezone"]; zone == nil || *zone != "Etc/UTC\n" {
			t.Errorf("%s: /etc/timezone is %v", name, zone)
		}
		if got := m.Secrets["wildcard_certificate"].Path; got != "/var/lib/ci-certs/live/fullchain.pem" {
			t.Errorf("%s: the certificate is at %s", name, got)
		}
		c, err := config.Parse("cc-ci.yml", []byte(h.Config))
		if err != nil {
			t.Fatal(err)
		}
		if c.Ingress.Kind != config.IngressTraefik { // A24
			t.Errorf("%s: runs reach their apps by the proxy %q", name, c.Ingress.Kind)
		}
		if c.Reconcile.Subnet != "10.10.0.0/16" || c.Reconcile.Proxy.Certificates != "/var/lib/ci-certs/live" {
			t.Errorf("%s: the proxy is told %+v", name, c.Reconcile)
		}
	}
}

// N3: Docker starts in the slice by which the firewall knows it, and not without the firewall's rules.
func TestN3_DockerStartsBehindTheFirewall(t *testing.T) {
	for name, h := range hosts(t) {
		c, err := config.Parse("cc-ci.yml", []byte(h.Config))
		if err != nil {
			t.Fatal(err)
		}
		if slice := machine(t, h).DockerSlice; slice != "dockerd.slice" || c.Reconcile.Firewall.DockerCgroup != slice {
			t.Errorf("%s: Docker is in %q, and the firewall judges %q", name, slice, c.Reconcile.Firewall.DockerCgroup)
		}
		unit := h.Units["cc-ci-firewall.service"]
		for key, want := range map[string]string{"RequiredBy": "docker.service", "Before": "docker.service", "Requires": "dockerd.slice", "After": "dockerd.slice"} {
			if got := words(unit, key); !slices.Contains(got, want) {
				t.Errorf("%s: the firewall before Docker has %s=%q", name, key, got)
			}
		}
		if got := lines(unit, "RemainAfterExit"); got != nil {
			t.Errorf("%s: the firewall before Docker is not started with it each time", name)
		}
	}
}

// Every timer has its service, and each does its one thing.
func TestTimers(t *testing.T) {
	commands := map[string]string{"drift": "reconcile swarm backupbot bridge dashboard drone firewall proxy", "janitor": "janitor", "sweep": "sweep", "prune": "prune", "backup": "backup"}
	for name, h := range hosts(t) {
		for timer, command := range commands {
			if lines(h.Units["cc-ci-"+timer+".timer"], "OnCalendar") == nil {
				t.Errorf("%s: the timer of %s has no time", name, timer)
			}
			got := lines(h.Units["cc-ci-"+timer+".service"], "ExecStart")
			if len(got) != 1 || !strings.HasSuffix(got[0], "/bin/cc-ci "+command) {
				t.Errorf("%s: %s runs %q", name, timer, got)
			}
		}
	}
}

// Every service stands behind the shared fences; gaps are few and known.
func TestHardening(t *testing.T) {
	fences := map[string]string{
		"NoNewPrivileges": "true", "ProtectSystem": "strict", "ProtectHome": "true", "CapabilityBoundingSet": "",
		"RestrictSUIDSGID": "true", "LockPersonality": "true", "SystemCallArchitectures": "native", "UMask": "0027",
		"PrivateTmp": "true", "MemoryDenyWriteExecute": "true", "RestrictNamespaces": "true", "ProtectProc": "invisible",
	}
	gaps := map[string][]string{
		"cc-ci-runner.service":  {"PrivateTmp", "MemoryDenyWriteExecute", "RestrictNamespaces", "ProtectProc"},
		"cc-ci-sweep.service":   {"PrivateTmp", "MemoryDenyWriteExecute", "RestrictNamespaces", "ProtectProc"},
		"cc-ci-janitor.service": {"PrivateTmp"},
		"cc-ci-drift.service":   {"CapabilityBoundingSet"},

		"cc-ci-reconcile-firewall.service": {"CapabilityBoundingSet"},
		"cc-ci-firewall.service":           {"CapabilityBoundingSet"},
	}
	for name, h := range hosts(t) {
		for unit, text := range h.Units {
			if !strings.HasSuffix(unit, ".service") {
				continue
			}
			if got := lines(text, "CapabilityBoundingSet"); slices.Contains(gaps[unit], "CapabilityBoundingSet") && !slices.Equal(got, []string{"CAP_NET_ADMIN"}) {
				t.Errorf("%s: %s has the capabilities %q", name, unit, got)
			}
			for fence, want := range fences {
				got := lines(text, fence)
				if closed := slices.Equal(got, []string{want}); closed == slices.Contains(gaps[unit], fence) {
					t.Errorf("%s: %s has %s=%q", name, unit, fence, got)
				}
			}
			// N3: a browser that could not make its namespaces and mounts would not start.
			runs := slices.Contains(gaps[unit], "RestrictNamespaces")
			if calls := lines(text, "SystemCallFilter"); runs && !slices.Equal(calls, []string{"@system-service", "@mount"}) {
				t.Errorf("%s: %s, which runs browsers, has SystemCallFilter=%q", name, unit, calls)
			}
		}
	}
}

var inStore = regexp.MustCompile(`/nix/store/0{32}-\S*/bin/\S*`)

// systemd itself reads the units: no key or value is unknown to it, and what it reckons
// of their fences stays below a bound (0 is the best, 10 the worst).
func TestSystemdReadsUnits(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	for name, h := range hosts(t) {
		dir := t.TempDir()
		h.Units["docker.service"] = "[Service]\nExecStart=/bin/true\n"
		var files []string
		for unit, text := range h.Units {
			path := filepath.Join(dir, unit)
			if err := os.WriteFile(path, []byte(inStore.ReplaceAllString(text, "/bin/true")), 0o644); err != nil {
				t.Fatal(err)
			}
			files = append(files, path)
		}
		if out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		for _, path := range files {
			unit, bound := filepath.Base(path), "20"
			if unit == "docker.service" || filepath.Ext(unit) != ".service" {
				continue
			}
			if unit == "cc-ci-runner.service" || unit == "cc-ci-sweep.service" {
				bound = "33" // its gaps are Chromium's
			}
			if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+bound, path).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", name, unit, err, out)
			}
		}
	}
}
