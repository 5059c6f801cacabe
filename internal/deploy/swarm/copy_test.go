package swarm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/beneath"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// copyDaemon answers what a copy asks a daemon, and writes down what it was asked. It carries out the commands
// of the helper container in a folder of this machine.
type copyDaemon struct {
	dir string

	mu      sync.Mutex
	asked   []string
	created []container.CreateRequest
	command []string
	gone    int // how many of the next commands find no running container
}

func (c *copyDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		fmt.Fprint(w, `[{"Id": "theirs", "State": "running", "Mounts": [
			{"Type": "volume", "Name": "s_data", "Destination": "/data", "RW": true},
			{"Type": "volume", "Name": "s_inner", "Destination": "/data/inner", "RW": true},
			{"Type": "volume", "Name": "s_read", "Destination": "/read", "RW": false},
			{"Type": "volume", "Name": "`+strings.Repeat("a", 64)+`", "Destination": "/nameless", "RW": true},
			{"Type": "bind", "Source": "/etc", "Destination": "/data/bound", "RW": true}]}]`)
	case strings.HasSuffix(r.URL.Path, "/containers/create"):
		var made container.CreateRequest
		_ = json.NewDecoder(r.Body).Decode(&made)
		c.created = append(c.created, made)
		fmt.Fprintf(w, `{"Id": "ours%d"}`, len(c.created))
	case strings.HasSuffix(r.URL.Path, "/exec"):
		if c.gone > 0 {
			c.gone--
			http.Error(w, `{"message":"container is not running"}`, http.StatusConflict)
			return
		}
		var made container.ExecOptions
		_ = json.NewDecoder(r.Body).Decode(&made)
		c.command = made.Cmd
		fmt.Fprint(w, `{"Id": "exec"}`)
	case strings.HasSuffix(r.URL.Path, "/exec/exec/start"):
		_, _ = io.Copy(io.Discard, r.Body)
		conn, stream, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		args := slices.Clone(c.command[1:])
		args[1] = c.dir
		var out bytes.Buffer
		_ = beneath.Run(args, stream, &out)
		_, _ = stdcopy.NewStdWriter(conn, stdcopy.Stdout).Write(out.Bytes())
	default:
		fmt.Fprint(w, "{}")
	}
}

// stubCopies returns a Deployer of a copyDaemon.
func stubCopies(t *testing.T) (*copyDaemon, *Deployer) {
	t.Helper()
	c := &copyDaemon{dir: t.TempDir()}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{RunID: "r", Docker: cli, Box: tinyBox("box")})
	if err != nil {
		t.Fatal(err)
	}
	d.ready = true
	return c, d
}

// dockerd is asked for no file of an app's container: it would look for it as root of the host.
func TestN3_FilesAreNotCopiedThroughTheAppsContainer(t *testing.T) {
	c, d := stubCopies(t)
	stack := deploytest.Stack(t, "s", t.TempDir(), "version: '3.8'\nservices: {app: {image: x}}\n")
	want := map[string]string{"/data/a/file": "a/file", "/data/inner/file": "file"}
	for name, file := range want {
		if err := d.CopyIn(t.Context(), stack, "app", map[string][]byte{name: []byte(name)}); err != nil {
			t.Fatalf("CopyIn: %v", err)
		}
		got, err := d.CopyOut(t.Context(), stack, "app", name, 100)
		if err != nil || string(got) != name {
			t.Errorf("CopyOut = %q, %v", got, err)
		}
		if data, err := os.ReadFile(filepath.Join(c.dir, file)); err != nil || string(data) != name {
			t.Errorf("%s: %q, %v", file, data, err)
		}
	}
	for name, code := range map[string]ccci.Code{
		"/data/bound/x": ccci.CodeInvalid, "/nameless/x": ccci.CodeInvalid, "/database": ccci.CodeInvalid, "/": ccci.CodeInvalid,
		"/data/../x": ccci.CodeInvalid, "data": ccci.CodeInvalid, "/read/x": ccci.CodeRecipe,
	} {
		if err := d.CopyIn(t.Context(), stack, "app", map[string][]byte{name: nil}); ccci.CodeOf(err) != code {
			t.Errorf("CopyIn to %s: %v, want %s", name, err, code)
		}
	}
	if _, err := d.CopyOut(t.Context(), stack, "app", "/data", 100); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("CopyOut of the volume itself: %v", err)
	}
	c.mu.Lock()
	c.gone = 1
	c.mu.Unlock()
	if _, err := d.CopyOut(t.Context(), stack, "app", "/data/a/file", 100); err != nil {
		t.Errorf("the helper container had ended: %v", err)
	}
	d.copier.drop()
	d.copier.drop()

	c.mu.Lock()
	defer c.mu.Unlock()
	removed := 0
	for _, request := range c.asked {
		if strings.Contains(request, "/archive") || strings.Contains(request, "/theirs") {
			t.Errorf("asked %s", request)
		}
		if strings.HasPrefix(request, "DELETE ") {
			removed++
		}
	}
	if len(c.created) != 2 || removed != 2 {
		t.Errorf("%d helper containers were made, %d removed, want 2: one, and one after it had ended", len(c.created), removed)
	}
	for _, made := range c.created {
		h := made.HostConfig
		var volumes []string
		for _, m := range h.Mounts {
			volumes = append(volumes, string(m.Type)+" "+m.Source)
		}
		if !slices.Equal(volumes, []string{"volume s_data", "volume s_inner", "volume s_read"}) || made.Labels[LabelRun] != "r" ||
			h.NetworkMode != "none" || !h.ReadonlyRootfs || !slices.Equal(h.CapDrop, []string{"ALL"}) || h.Memory == 0 || h.PidsLimit == nil {
			t.Errorf("the helper container: labels %v, %+v", made.Labels, h)
		}
	}
}

// An app that exchanges the file with a pipe, and the folders above it with links to the host, while files are
// copied reaches nothing of the host and holds nobody up.
func TestN3_AnAppExchangesWhatIsCopied(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	outside := t.TempDir()
	compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS}", "{}}\nvolumes: {data: {}}",
		"networks: [NET]", "networks: [inside]\n    volumes: ['data:/top/mid/data']", "VERSION=one", "EXCHANGE="+outside).Replace(tinyCompose)
	d, app, _ := tiny(t, cli, Options{Box: tinyBox(img), Ceilings: Ceilings{HealthInterval: 100 * time.Millisecond}}, compose)
	stack := deploytest.Stack(t, app.StackName, t.TempDir(), compose)
	before := mountsOf(t)
	answers := map[string]int{}
	note := func(what string, took time.Duration, err error) {
		code := ccci.Code("done")
		if err != nil {
			code = ccci.CodeOf(err)
		}
		answers[what+" "+string(code)]++
		if err != nil && code != ccci.CodeRecipe && code != ccci.CodeNotFound || took > 15*time.Second {
			t.Fatalf("%s took %s: %v", what, took, err)
		}
	}
	for i := range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		started := time.Now()
		data, err := d.CopyOut(ctx, stack, "app", "/top/mid/data/canary", 1<<10)
		if err == nil && string(data) != "canary" {
			t.Errorf("CopyOut = %q", data)
		}
		note("CopyOut", time.Since(started), err)
		if i%5 == 0 {
			started = time.Now()
			err := d.CopyIn(ctx, stack, "app", map[string][]byte{"/top/mid/data/folder/canary": []byte("canary")})
			note("CopyIn", time.Since(started), err)
		}
		cancel()
	}
	t.Log(answers)
	if answers["CopyOut done"] == 0 || answers["CopyOut recipe"] == 0 {
		t.Errorf("the answers are %v: the app exchanged nothing", answers)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written on the host: %v, %v", left, err)
	}
	for _, line := range mountsOf(t) {
		if strings.Contains(line, outside) && !slices.Contains(before, line) {
			t.Errorf("mounted on the host: %s", line)
		}
	}
	list, err := cli.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelServiceName+"="+app.StackName+"_app"))})
	if err != nil || len(list) != 1 {
		t.Fatalf("the app's containers: %v, %v", list, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := cli.ContainerInspect(ctx, list[0].ID); err != nil {
		t.Errorf("the app's container: %v", err)
	}
}

func mountsOf(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(data)))
}
