package swarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

// guardDaemon is a Docker that has one task of run "r", and the helper containers that it is asked for.
type guardDaemon struct {
	said     chan string // what the helper prints: one text for each helper, "" ends it
	refuses  bool        // to start helpers
	mu       sync.Mutex
	asked    []string
	mounts   string
	helper   string // id, "" while there is none
	task     bool
	made     int
	attached net.Conn
}

func (g *guardDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1.41")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case path == "/containers/create":
		body, _ := io.ReadAll(r.Body)
		g.made++
		g.helper, g.mounts = fmt.Sprintf("helper%06d0", g.made), string(body)
		fmt.Fprintf(w, `{"Id": %q}`, g.helper)
	case strings.HasSuffix(path, "/attach"):
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		g.attached = conn
	case strings.HasSuffix(path, "/start"):
		g.asked = append(g.asked, "start")
		if g.refuses {
			http.Error(w, `{"message": "no such image"}`, http.StatusNotFound)
			return
		}
		conn := g.attached
		go func() {
			out := stdcopy.NewStdWriter(conn, stdcopy.Stdout)
			for text := range g.said {
				if text == "" {
					conn.Close()
					return
				}
				fmt.Fprintln(out, text)
			}
		}()
		w.WriteHeader(http.StatusNoContent)
	case path == "/containers/json":
		var list []map[string]any
		add := func(id, name string, labels map[string]string) {
			labels[LabelRun] = "r"
			list = append(list, map[string]any{"Id": id, "Names": []string{"/" + name}, "State": "running", "Labels": labels})
		}
		if g.task {
			add("task00000000", "s_app.1", map[string]string{labelServiceName: "s_app"})
		}
		if g.helper != "" && !strings.Contains(r.URL.RawQuery, "swarm.service") {
			add(g.helper, guardName("r"), map[string]string{})
		}
		if list == nil {
			list = []map[string]any{}
		}
		_ = json.NewEncoder(w).Encode(list)
	case r.Method == http.MethodDelete:
		id := strings.TrimPrefix(path, "/containers/")
		g.asked = append(g.asked, "remove "+id)
		g.task = g.task && id != "task00000000"
		if id == g.helper {
			g.helper = ""
		}
		w.WriteHeader(http.StatusNoContent)
	case strings.HasSuffix(path, "/pause"):
		g.asked = append(g.asked, "pause "+strings.Split(path, "/")[2])
		w.WriteHeader(http.StatusNoContent)
	case path == "/volumes":
		fmt.Fprint(w, "{}")
	default:
		fmt.Fprint(w, "[]")
	}
}

func (g *guardDaemon) did() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

func (g *guardDaemon) deployer(t *testing.T) *Deployer {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	box := Box{Image: "box", Logs: "/logs", Guard: func(run string) []string { return []string{"guard", run} }}
	d, err := New(Options{RunID: "r", Docker: cli, Box: box})
	if err != nil {
		t.Fatal(err)
	}
	d.ready, d.dockerRoot = true, "/var/lib/docker"
	t.Cleanup(func() { d.guard.stop() })
	return d
}

// An app makes /etc/hosts, which dockerd reads when the app ends, larger than it may be.
func TestN3_AHugeHostsFileEndsTheRun(t *testing.T) {
	g := &guardDaemon{said: make(chan string), task: true}
	d := g.deployer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d.guard.start()
	d.guard.start()
	early, soon := context.WithTimeout(ctx, 50*time.Millisecond)
	defer soon()
	if err := d.guard.await(early); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an app starts before the helper looks: %v", err)
	}
	g.said <- "ready"
	if err := d.guard.await(ctx); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"Cmd":null`, `"Entrypoint":["guard","r"]`, `"Source":"/var/lib/docker/containers","Target":"/logs","BindOptions":{"NonRecursive":true}`, `"NetworkMode":"none"`, `"CapAdd":["CAP_DAC_OVERRIDE"]`} {
		if !strings.Contains(g.mounts, part) {
			t.Errorf("the helper is made without %s: %s", part, g.mounts)
		}
	}
	g.said <- "over 629145600 1048576 /etc/hosts s_app"
	select {
	case err := <-d.Exceeded():
		if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "disk limit: /etc/hosts of service s_app has 600MiB, at most 1MiB is allowed") || ccci.HintOf(err) == "" {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("the run goes on")
	}
	if did := g.did(); !slices.Contains(did, "pause task00000000") {
		t.Errorf("the app runs on: %v", did)
	}

	// It looks until the last container of the run has gone, and ends nothing any more.
	removed, err := d.Remove(ctx, harness.App{RunID: "r", StackName: "s"})
	if err != nil || removed[kindContainer] != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	did := g.did()
	if want := []string{"remove task00000000", "remove helper0000010"}; !slices.Equal(did[len(did)-2:], want) || g.made != 1 {
		t.Errorf("%v, want %v at the end", did, want)
	}
}

// A helper that ends is replaced, and one that does not start keeps the run from starting.
func TestN3_NoRunWithoutTheGuardOfHostsFiles(t *testing.T) {
	g := &guardDaemon{said: make(chan string)}
	d := g.deployer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d.guard.start()
	g.said <- "ready"
	if err := d.guard.await(ctx); err != nil {
		t.Fatal(err)
	}
	g.said <- "" // it is killed
	g.said <- "ready"
	g.mu.Lock()
	g.refuses = true
	g.mu.Unlock()
	g.said <- ""
	select {
	case err := <-d.Exceeded():
		if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "no such image") {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("the run goes on without it")
	}

	refused := &guardDaemon{refuses: true}
	d = refused.deployer(t)
	d.guard.start()
	if err := d.guard.await(ctx); ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	refused.mu.Lock()
	defer refused.mu.Unlock()
	if refused.helper != "" || refused.made != guardTries {
		t.Errorf("%d were made, and %q is left", refused.made, refused.helper)
	}
}
