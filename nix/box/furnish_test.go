package box

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/demoimages"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/traefik"
)

const (
	golden  = "../testdata/cc-ci" // what the modules come to
	store   = "/nix/store/00000000000000000000000000000000-"
	public  = "198.51.100.1" // of the box, where all names lead
	trusted = "/etc/ssl/certs/ca-certificates.crt"
)

// machine is what there is besides units and configuration.
type machine struct {
	Docker json.RawMessage

	DockerSlice string

	Etc      map[string]*string
	Secrets  map[string]struct{ Key, Path string }
	Tmpfiles []string
}

// world is what the operator of the box has around it.
type world struct {
	forge     string            // address of Gitea
	authority string            // whose certificates everybody trusts, as PEM
	secrets   map[string]string // instead of those of examples/secrets
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// furnish installs what nixos-rebuild switch would: the units and files as they are evaluated,
// the programs, the account, and what sops-nix decrypts.
func (b *box) furnish(w world) {
	t := b.t
	t.Helper()
	var m machine
	if err := json.Unmarshal([]byte(read(t, golden+"/machine.json")), &m); err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob(golden + "/units/*")
	if err != nil || len(units) < 10 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	for _, path := range units {
		b.unit(filepath.Base(path), read(t, path))
	}
	text := b.configuration(w)
	b.write(store+"cc-ci.yml", text, 0o644)
	b.link(store+"cc-ci.yml", "/etc/cc-ci/cc-ci.yml")
	for name, text := range m.Etc {
		if text != nil {
			b.write("/etc/"+name, *text, 0o644)
		}
	}
	b.write("/etc/docker/daemon.json", string(m.Docker), 0o644)
	b.write("/etc/systemd/system/docker.service.d/overrides.conf", "[Service]\nSlice="+m.DockerSlice+"\n", 0o644)
	b.write("/etc/tmpfiles.d/cc-ci.conf", strings.Join(append(m.Tmpfiles, "C /run/secrets/rendered/cc-ci-runner.env 0400 root root - /etc/cc-ci/runner.env", ""), "\n"), 0o644)
	b.account()
	b.write(trusted, read(t, b.path(trusted))+w.authority, 0o644)
	b.programs(text)
	secrets := b.secrets(m, w)
	b.placed = secrets
	b.write("/etc/cc-ci/runner.env", "DRONE_RPC_SECRET="+secrets["drone_rpc_secret"]+"\n", 0o400)
	b.around(secrets)
}

// configuration is the host's, with the address of the test's forge.
func (b *box) configuration(w world) string {
	b.t.Helper()
	var c map[string]any
	if err := json.Unmarshal([]byte(read(b.t, golden+"/cc-ci.json")), &c); err != nil {
		b.t.Fatal(err)
	}
	c["forges"].([]any)[0].(map[string]any)["url"] = w.forge
	text, err := json.Marshal(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// unit installs a unit, and the links that its [Install] asks for.
func (b *box) unit(name, text string) {
	b.t.Helper()
	b.write("/etc/systemd/system/"+name, text, 0o644)
	for line := range strings.Lines(text) {
		for key, folder := range map[string]string{"WantedBy=": ".wants/", "RequiredBy=": ".requires/"} {
			targets, ok := strings.CutPrefix(strings.TrimSpace(line), key)
			if !ok {
				continue
			}
			for _, target := range strings.Fields(targets) {
				b.link("/etc/systemd/system/"+name, "/etc/systemd/system/"+target+folder+name)
			}
		}
	}
}

// account makes the one of users.users.cc-ci.
func (b *box) account() {
	b.t.Helper()
	add := func(file, line string) { b.write(file, read(b.t, b.path(file))+line+"\n", 0o644) }
	add("/etc/passwd", "cc-ci:x:848:848::/var/lib/cc-ci:/usr/sbin/nologin")
	groups := strings.Split(strings.TrimSpace(read(b.t, b.path("/etc/group"))), "\n")
	for i, line := range groups {
		if strings.HasPrefix(line, "docker:") {
			groups[i] = line + "cc-ci"
		}
	}
	b.write("/etc/group", strings.Join(append(groups, "cc-ci:x:848:", "cc-ci-redis:x:849:", ""), "\n"), 0o644)
}

// programs are where the units expect them.
func (b *box) programs(configuration string) {
	t := b.t
	t.Helper()
	compiled := filepath.Join(b.dir, "cc-ci")
	build := exec.Command("go", "build", "-trimpath", "-o", compiled, "../../cmd/cc-ci")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	copied := func(from, to string) {
		t.Helper()
		b.write(to, read(t, from), 0o755)
	}
	copied(compiled, store+"cc-ci/bin/cc-ci")
	copied(peers.Binary(t, peers.Runner), store+"drone-runner-exec/bin/drone-runner-exec")
	if err := os.CopyFS(b.path(store+"cc-ci/share/cc-ci/tests"), os.DirFS("../../tests")); err != nil {
		t.Fatal(err)
	}
	b.link("/usr/bin/docker", store+"docker-client/bin/docker")
	run := store + "cc-ci-run/bin/"
	b.link(store+"cc-ci/bin/cc-ci", run+"cc-ci")
	b.link("/usr/bin/chromium-headless-shell", run+"chromium")
	for _, name := range []string{"bash", "docker", "git", "restic"} {
		b.link("/usr/bin/"+name, run+name)
	}
	// coreutils, and what NixOS puts on the PATH of every unit.
	for _, name := range []string{"coreutils", "findutils", "grep", "sed"} {
		for path := range strings.Lines(read(t, b.path("/var/lib/dpkg/info/"+name+".list"))) {
			if path = strings.TrimSpace(path); filepath.Base(filepath.Dir(path)) == "bin" {
				b.link(path, run+filepath.Base(path))
			}
		}
	}
	b.images(configuration, compiled)
}

// images are at hand as archives: that of cc-ci where its unit expects it, the others for a unit
// of the test's own, since the box has no registry.
func (b *box) images(configuration, program string) {
	t := b.t
	t.Helper()
	c, err := config.Parse("cc-ci.yml", []byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	docker := dockerd.Start(t)
	defer docker.Close()
	bundle := filepath.Join(b.dir, "bundle.crt")
	if err := os.WriteFile(bundle, []byte(read(t, b.path(trusted))), 0o644); err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"/bin/cc-ci": program, "/etc/ssl/certs/ca-bundle.crt": bundle}
	if err := docker.Import(t.Context(), c.Reconcile.Images.CCCI, own, `ENTRYPOINT ["/bin/cc-ci"]`, `ENV PATH=/bin SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt`); err != nil {
		t.Fatal(err)
	}
	traefik.Import(t, docker)
	drone.Import(t, docker, c.Reconcile.Images.Drone, map[string]string{trusted: bundle})
	apps := []string{"cc-ci.local/tinyapp:1.0.0", "cc-ci.local/tinyapp:1.1.0"}
	if err := demoimages.Ensure(t.Context(), docker.Docker, demoimages.Options{Only: apps}); err != nil {
		t.Fatal(err)
	}
	save := func(name string, references ...string) {
		t.Helper()
		archive, err := docker.Docker.ImageSave(context.WithoutCancel(t.Context()), references)
		if err != nil {
			t.Fatal(err)
		}
		defer archive.Close()
		b.write(name, "", 0o644)
		f, err := os.OpenFile(b.path(name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(f, archive); err != nil {
			t.Fatal(err)
		}
	}
	save(store+"cc-ci-image", c.Reconcile.Images.CCCI)
	save("/var/lib/box/images", append(apps, c.Reconcile.Images.Traefik, c.Reconcile.Images.Drone)...)
}

// secrets puts each where sops-nix would. The values are those of examples/secrets, decrypted by cc-ci's
// own reader, and where they are of another machine's making those of the world.
func (b *box) secrets(m machine, w world) map[string]string {
	t := b.t
	t.Helper()
	const file = "../../examples/secrets/secrets.yaml"
	ids, err := secretfile.Keys{Age: "../../examples/secrets/throw-away-host-key.txt"}.Identities()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := secretfile.Open(file, []byte(read(t, file)), ids)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for name, at := range m.Secrets {
		value, ok := w.secrets[name]
		if !ok {
			s, found := opened.Secret(at.Key)
			if !found {
				t.Fatalf("there is no secret %s", at.Key)
			}
			value = s.Reveal()
		}
		values[name] = value
		b.write(at.Path, value, 0o400)
	}
	return values
}

// around is what other modules of NixOS bring, and the world outside: Redis, the DNS, and that there are no
// units of Debian's in the way.
func (b *box) around(secrets map[string]string) {
	b.t.Helper()
	b.write("/etc/redis-cc-ci.conf", "port 0\nunixsocket /run/redis-cc-ci/redis.sock\nunixsocketperm 660\nsave \"\"\nmaxmemory 64mb\nrequirepass "+secrets["redis_password"]+"\n", 0o600)
	b.unit("redis-cc-ci.service", "[Service]\nGroup=cc-ci-redis\nRuntimeDirectory=redis-cc-ci\nRuntimeDirectoryMode=0750\nRuntimeDirectoryPreserve=yes\nExecStart=/usr/bin/redis-server /etc/redis-cc-ci.conf\n[Install]\nWantedBy=multi-user.target\n")
	b.unit("box-images.service", `[Unit]
Requires=docker.service
After=docker.service
Before=cc-ci-image.service
[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/usr/bin/docker load --quiet --input /var/lib/box/images
[Install]
WantedBy=multi-user.target
`)
	b.unit("box-network.service", `[Unit]
Before=network-online.target docker.service
[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/usr/sbin/ip address add `+public+`/32 dev lo
[Install]
WantedBy=multi-user.target
`)
	b.unit("box-names.service", `[Unit]
Requires=box-network.service
After=box-network.service
Before=network-online.target docker.service
[Service]
ExecStart=/usr/sbin/dnsmasq --keep-in-foreground --user=root --pid-file --no-resolv --no-hosts --bind-interfaces --listen-address=`+public+
		` --address=/ci.example.org/`+public+` --address=/git.example.org/`+public+`
[Install]
WantedBy=multi-user.target
`)
	if err := os.Remove(b.path("/etc/resolv.conf")); err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	b.write("/etc/resolv.conf", "nameserver "+public+"\n", 0o644)
	b.write("/etc/hosts", "127.0.0.1 localhost cc-ci\n", 0o644)
	b.write("/etc/hostname", "cc-ci\n", 0o644)
	b.write("/etc/machine-id", strings.Repeat("c", 32)+"\n", 0o444)
	// Settings of the kernel are this machine's too; nobody logs in at a console.
	for _, name := range []string{"systemd-sysctl.service", "systemd-modules-load.service", "console-getty.service", "getty.target", "redis-server.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"} {
		_ = os.Remove(b.path("/etc/systemd/system/" + name))
		b.link("/dev/null", "/etc/systemd/system/"+name)
	}
}
