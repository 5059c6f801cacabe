package reconcile

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"github.com/recipe-maintainers/cc-ci/internal/firewall"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// cgroup makes a control group for a daemon that is started after it.
func cgroup(t *testing.T) string {
	t.Helper()
	root, err := firewall.Hierarchy()
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.MkdirTemp(root, "cc-ci-dockerd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 200 { // until the last process that was in it is gone
			if err = os.Remove(group); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Error(err)
	})
	return group
}

// registry is one that serves an image to whom it does not lead elsewhere.
type registry struct {
	mu       sync.Mutex
	realm    string // where a token is had
	redirect string // where manifests are
	blobs    map[string][]byte
	manifest []byte
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{blobs: map[string][]byte{}}
	layer := make([]byte, 1024) // an archive with nothing in it
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(layer)
	z.Close()
	digest := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	config, _ := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}}})
	part := func(kind string, b []byte) map[string]any {
		r.blobs[digest(b)] = b
		return map[string]any{"mediaType": "application/vnd.docker." + kind, "size": len(b), "digest": digest(b)}
	}
	r.manifest, _ = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": part("container.image.v1+json", config),
		"layers": []any{part("image.rootfs.diff.tar.gzip", packed.Bytes())}})
	return r
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, name, _ := strings.Cut(req.URL.Path, "/manifests/")
	_, digest, _ := strings.Cut(req.URL.Path, "/blobs/")
	switch {
	case r.realm != "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+r.realm+`",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	case name != "" && r.redirect != "":
		http.Redirect(w, req, r.redirect, http.StatusTemporaryRedirect)
	case name != "":
		w.Header().Set("Content-Type", manifestType)
		w.Write(r.manifest)
	case digest != "" && r.blobs[digest] == nil:
		w.WriteHeader(http.StatusNotFound)
	case digest != "":
		w.Write(r.blobs[digest])
	}
}

// canary notes who asks.
type canary struct {
	mu   sync.Mutex
	hits []string
}

func (c *canary) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hits = append(c.hits, r.Host+r.URL.Path)
}

func (c *canary) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.hits
	c.hits = nil
	return all
}

// serveIn serves in another network namespace until the test ends.
func serveIn(t *testing.T, namespace, address string, pair *tls.Certificate, h http.Handler) {
	t.Helper()
	var listener net.Listener
	var err error
	if inside := dockerd.Within(namespace, func() { listener, err = net.Listen("tcp", address) }); inside != nil || err != nil {
		t.Fatal(inside, err)
	}
	if pair != nil {
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{*pair}})
	}
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// TestN3_DockerdAsksTheInternetAlone pulls from a registry that leads dockerd to the host and to networks around
// it: without the firewall, where it gets there, and with it.
func TestN3_DockerdAsksTheInternetAlone(t *testing.T) {
	t.Parallel()
	group, again, certs := cgroup(t), cgroup(t), t.TempDir()
	leaf := writeCertificate(t, certs, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), internet, neighbor)
	authority := filepath.Join(certs, "authority.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, chainFile), filepath.Join(certs, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{testHost: &testHost{Server: dockerd.Start(t, "SSL_CERT_FILE="+authority)}}
	s.Cgroup, s.Settings = group, `{"registry-mirrors": ["http://`+neighbor+`:5000"]}`
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	s.link(t, "inet", publicHost, internet)
	s.link(t, "priv", privateHost, neighbor, nameServer)
	s.run(t, "ip", "route", "add", metadata, "via", neighbor)
	private := s.namespace("priv")
	s.outside(t, private, "ip", "addr", "add", metadata+"/32", "dev", "lo")

	hostile, mirror, reached := newRegistry(t), newRegistry(t), &canary{}
	serveIn(t, s.namespace("inet"), ":443", &pair, hostile)
	serveIn(t, private, ":5000", nil, mirror)
	serveIn(t, private, ":8080", nil, reached)
	serveIn(t, private, ":443", &pair, reached)
	serveIn(t, s.Namespace(), ":2019", nil, reached)

	s.firewall = FirewallOptions{Namespace: s.Namespace(), Bridges: Bridges(s.Docker), Resolvers: func() ([]netip.Addr, error) { return nil, nil }}
	s.firewall.Docker = DockerOptions{Cgroup: filepath.Base(group), Names: []Name{{neighbor, 5000}}, Resolvers: s.firewall.Resolvers}
	pull := func(reference string) error {
		stream, err := s.Docker.ImagePull(t.Context(), reference, image.PullOptions{})
		if err != nil {
			return err
		}
		defer stream.Close()
		text, err := io.ReadAll(stream)
		if err != nil {
			return err
		}
		_, _ = s.Docker.ImageRemove(t.Context(), reference, image.RemoveOptions{Force: true, PruneChildren: true})
		if bytes.Contains(text, []byte(`"error"`)) {
			return fmt.Errorf("%s", text)
		}
		return nil
	}
	own := internet + "/app:1"
	lead := func(realm, redirect, reference string) []string {
		hostile.mu.Lock()
		hostile.realm, hostile.redirect = realm, redirect
		hostile.mu.Unlock()
		defer func() { hostile.realm, hostile.redirect = "", "" }()
		begin := time.Now()
		if err := pull(reference); err == nil {
			t.Errorf("%s%s%s: it was pulled", realm, redirect, reference)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("%s%s%s: it took %v", realm, redirect, reference, took)
		}
		return reached.taken()
	}
	attacks := func(closed bool) {
		t.Helper()
		targets := []string{"127.0.0.1:2019", "[::1]:2019", publicHost + ":2019", privateHost + ":2019", dockerd.Address + ":2019", neighbor + ":8080", metadata + ":8080"}
		for _, target := range targets {
			for _, hits := range [][]string{lead("http://"+target+"/token", "", own), lead("", "http://"+target+"/manifest", own)} {
				if (len(hits) == 0) != closed {
					t.Errorf("%s: dockerd reached %q", target, hits)
				}
			}
		}
		if hits := lead("", "", neighbor+"/app:1"); (len(hits) == 0) != closed {
			t.Errorf("a registry at a private address: dockerd reached %q", hits)
		}
	}
	serves := func() {
		t.Helper()
		for _, reference := range []string{own, "docker.io/library/app:1"} { // the second by the mirror
			if err := pull(reference); err != nil {
				t.Errorf("%s: %v", reference, err)
			}
		}
	}
	attacks(false) // or the test would show nothing
	serves()
	if did := s.reconcile(t); len(did) != 3 || !strings.Contains(did[2], "the firewall for dockerd") {
		t.Errorf("did %v", did)
	}
	attacks(true)
	serves()

	// Docker starts again, in the same slice and then in one that was made again.
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if did := s.reconcile(t); len(did) != 0 {
		t.Errorf("after a restart of Docker it did %v", did)
	}
	attacks(true)
	s.Cgroup, s.firewall.Docker.Cgroup = again, filepath.Base(again)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if hits := lead("http://127.0.0.1:2019/token", "", own); len(hits) == 0 {
		t.Error("rules for another control group keep dockerd")
	}
	for _, want := range []bool{true, false} { // as before each start of Docker
		if raised, err := s.firewall.Raise(t.Context()); raised != want || err != nil {
			t.Errorf("%t, %v", raised, err)
		}
	}
	attacks(true)
	serves()

	s.firewall.Docker.Cgroup = ""
	if did := s.reconcile(t); len(did) != 1 {
		t.Errorf("did %v", did)
	}
	if hits := lead("http://127.0.0.1:2019/token", "", own); len(hits) == 0 {
		t.Error("rules are left")
	}
}
