package ingress

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// ghostly is a client of a real daemon that lists, besides what it has, an overlay network
// that its swarm does not know, until that is removed. stays: no removal helps.
func ghostly(t *testing.T, docker *client.Client, name string, stays bool) *client.Client {
	t.Helper()
	const id = "gh0stgh0stgh0stgh0stgh0st"
	ghost := network.Inspect{ID: id, Name: name, Driver: "overlay", Scope: "swarm", Attachable: true, Labels: map[string]string{NetworkLabel: "made"}}
	var gone atomic.Bool
	daemon := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	daemon.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", strings.TrimPrefix(docker.DaemonHost(), "unix://"))
	}}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		about := strings.Contains(r.URL.Path, "/networks/") && (last == id || last == name)
		switch {
		case gone.Load() || !about:
			daemon.ServeHTTP(w, r)
		case r.Method == http.MethodDelete && stays:
			http.Error(w, `{"message":"network `+id+` not found"}`, http.StatusNotFound)
		case r.Method == http.MethodDelete:
			gone.Store(true)
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(ghost)
		}
	})
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	through, err := client.NewClientWithOpts(client.WithHost("unix://"+listener.Addr().String()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { through.Close(); server.Close() })
	return through
}

// A24: a network that the daemon lists and the swarm does not know is made again, or the
// error names the cure.
func TestA24_AGhostNetworkIsHealedOrNamed(t *testing.T) {
	docker := dockerd.Start(t).Docker
	if _, err := docker.SwarmInit(t.Context(), swarm.InitRequest{ListenAddr: "127.0.0.1:2377", AdvertiseAddr: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	const name = "cc-ci-ghost"
	through := ghostly(t, docker, name, false)
	made, err := EnsureNetwork(t.Context(), through, name)
	if err != nil || !made {
		t.Fatalf("EnsureNetwork = %t, %v", made, err)
	}
	n, err := docker.NetworkInspect(t.Context(), name, network.InspectOptions{})
	if err != nil || usable(n) != nil {
		t.Errorf("the daemon has %+v, %v", n, err)
	}
	if there, err := known(t.Context(), docker, n.ID); !there || err != nil {
		t.Errorf("the swarm knows the new network: %t, %v", there, err)
	}
	short, cancel := context.WithTimeoutCause(t.Context(), forgetLimit/10, context.DeadlineExceeded)
	defer cancel()
	_, err = EnsureNetwork(short, ghostly(t, docker, "cc-ci-stays", true), "cc-ci-stays")
	if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(ccci.HintOf(err), "restart Docker") {
		t.Errorf("a ghost that stays: %v, hint %q", err, ccci.HintOf(err))
	}
}
