package reconcile

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/traefik"
)

const (
	domain    = "ci.example.org"
	selfImage = "cc-ci:test"
	appImage  = "tinyapp:test"
	// guestImage is what a hostile image could hold.
	guestImage = "guest:test"
)

var programsDir string

// programs are built once.
var programs = sync.OnceValues(build)

func build() (map[string]string, error) {
	dir, err := os.MkdirTemp("", "cc-ci-reconcile-")
	if err != nil {
		return nil, err
	}
	programsDir = dir
	out := map[string]string{}
	for name, pkg := range map[string]string{"cc-ci": "../../cmd/cc-ci", "app": "../demoimages/tinyapp", "guest": "../testserver/guest"} {
		out[name] = filepath.Join(dir, name)
		compile := exec.Command("go", "build", "-trimpath", "-o", out[name], pkg)
		compile.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := compile.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
		}
	}
	return out, nil
}

// testHost is a machine with an empty Docker of its own, its images, and a certificate.
type testHost struct {
	*dockerd.Server
	certs string
	leaf  []byte
}

// TestMain is also what is killed: a run that ends by SIGKILL after its first change.
func TestMain(m *testing.M) {
	if text := os.Getenv(dieEnv); text != "" {
		os.Exit(runToDeath(text))
	}
	code := m.Run()
	if programsDir != "" {
		_ = os.RemoveAll(programsDir)
	}
	os.Exit(code)
}

const dieEnv = "CC_CI_TEST_RECONCILE"

// runToDeath returns 0 when there was nothing to do.
func runToDeath(text string) int {
	var o ProxyOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		panic(err)
	}
	o.Dial = nil
	units := unitsOf(o)
	units[1].Check = nil // from here the ports are out of reach
	runner := &Runner{Daemon: NewDaemon(docker), Applied: func(_ string, a Action) {
		fmt.Println(a)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}}
	if _, err := runner.Run(context.Background(), units...); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func newHost(t *testing.T, env ...string) *testHost {
	t.Helper()
	h := &testHost{Server: dockerd.Start(t, env...), certs: t.TempDir()}
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for image, program := range map[string]string{selfImage: "cc-ci", appImage: "app", guestImage: "guest"} {
		if err := h.Import(t.Context(), image, map[string]string{"/app": files[program]}, `ENTRYPOINT ["/app"]`, `ENV TINYAPP_DATA=/tmp`); err != nil {
			t.Fatal(err)
		}
	}
	traefik.Import(t, h.Server)
	h.certificate(t, domain, "*."+domain)
	return h
}

// certificate puts a new certificate for these names into the host's folder.
func (h *testHost) certificate(t *testing.T, names ...string) {
	t.Helper()
	h.leaf = writeCertificate(t, h.certs, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour), names...)
}

// writeCertificate makes a self-signed certificate, for this test alone.
func writeCertificate(t *testing.T, dir string, from, to time.Time, names ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: from, NotAfter: to}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, address)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{chainFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return der
}

func (h *testHost) options() ProxyOptions {
	return ProxyOptions{
		Domain: domain, Network: "proxy", Certificates: h.certs, Traefik: traefik.Image, CCCI: selfImage,
		Socket: h.Socket, HTTP: 80, HTTPS: 443, Dial: h.Dial, Entrypoints: []Entrypoint{{Name: "gitea-ssh", Port: 2222}, {Name: "mumble-udp", Port: 64738, UDP: true}},
	}
}

func unitsOf(o ProxyOptions) []Unit {
	return []Unit{Swarm(SwarmOptions{Network: "proxy", Subnet: "10.10.0.0/16"}), Proxy(o)}
}

func (h *testHost) runner(t *testing.T) *Runner {
	return &Runner{Daemon: NewDaemon(h.Docker), Began: func(unit string, a Action) { t.Logf("%s: %s", unit, a) }}
}

// converge runs all units and returns what was done.
func (h *testHost) converge(t *testing.T, o ProxyOptions) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	reports, err := h.runner(t).Run(ctx, unitsOf(o)...)
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, r := range reports {
		did = append(did, texts(r.Actions)...)
	}
	return did
}
