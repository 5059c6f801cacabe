package socketproxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// Traefik itself: after a service with a hostile label has been there, an app that comes up later is served.
// Without the socket proxy's filter it is not, until Traefik is restarted.
func TestN3_TraefikReadsOnAfterHostileLabels(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Traefik")
	}
	for name, labels := range map[string][]string{
		"a bracket":         {"middlewares.hostile-h.headers.customrequestheaders.a]=1"},
		"basicauth, nobody": {"routers.hostile.middlewares=hostile-b", "middlewares.hostile-b.basicauth.realm=a"},
	} {
		t.Run(name, func(t *testing.T) { readsOn(t, labels) })
	}
}

func readsOn(t *testing.T, hostile []string) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "app of "+r.Host) }))
	t.Cleanup(backend.Close)
	_, port, err := net.SplitHostPort(backend.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	app := func(name string, further ...string) map[string]any {
		labels := map[string]string{
			"traefik.enable": "true", "traefik.docker.lbswarm": "true", "traefik.http.routers." + name + ".rule": "Host(`" + name + ".test`)",
			"traefik.http.services." + name + ".loadbalancer.server.port": port,
		}
		for _, label := range further {
			key, value, _ := strings.Cut(label, "=")
			labels["traefik.http."+key] = value
		}
		return map[string]any{
			"ID": name, "Spec": map[string]any{"Name": name, "Labels": labels, "EndpointSpec": map[string]any{"Mode": "vip"}},
			"Endpoint": map[string]any{"Spec": map[string]any{"Mode": "vip"}, "VirtualIPs": []map[string]string{{"NetworkID": "n", "Addr": "127.0.0.1/8"}}},
		}
	}
	var services atomic.Value // of []map[string]any
	services.Store([]map[string]any{app("first")})
	var lists atomic.Int64 // answers with services
	docker := listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		var answer any
		switch path := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/'):]; path {
		case "/version":
			answer = map[string]string{"Version": "28.5.2", "ApiVersion": "1.41", "MinAPIVersion": "1.24"}
		case "/services":
			answer = services.Load()
			defer lists.Add(1)
		case "/networks":
			answer = []map[string]string{{"Id": "n", "Name": "proxy", "Scope": "swarm", "Driver": "overlay"}}
		case "/tasks":
			answer = []string{}
		default:
			answer = map[string]string{}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	socket := filepath.Join(t.TempDir(), "t")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: Handler(docker, slog.New(slog.DiscardHandler))}
	go proxy.Serve(listener)
	t.Cleanup(func() { proxy.Close() })

	free, err := child.Port()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", free)
	cmd := exec.Command(peers.Binary(t, peers.Traefik), "--entrypoints.web.address="+address, "--providers.providersThrottleDuration=10ms",
		"--providers.swarm.endpoint=unix://"+socket, "--providers.swarm.exposedbydefault=false", "--providers.swarm.network=proxy", "--providers.swarm.refreshseconds=100ms")
	cmd.Env = []string{"HOME=" + t.TempDir()} // to Traefik, DOCKER_HOST goes before its endpoint
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	ended, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = cmd.Process.Kill(); <-ended }
	await := func(what string, met func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !met(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				stop()
				t.Fatalf("%s: not within 20 s\n%s", what, log.String())
			}
		}
	}
	serves := func(name string) func() bool {
		return func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
			if err != nil {
				return false
			}
			req.Host = name + ".test"
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			return err == nil && string(text) == "app of "+req.Host
		}
	}
	await("the first app", serves("first"))
	services.Store([]map[string]any{app("first"), app("hostile", hostile...)})
	seen := lists.Load() + 2
	await("Traefik asks twice while the hostile service is there", func() bool { return lists.Load() >= seen })
	services.Store([]map[string]any{app("first"), app("late")})
	await("an app that comes up later", serves("late"))
	stop()
	if strings.Contains(log.String(), "panic(") {
		t.Errorf("Traefik says\n%s", &log)
	}
}
