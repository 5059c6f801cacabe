package swarm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// A run whose volumes cannot be walked through, again and again, is not one that takes nothing.
func TestN3_WhatCannotBeMeasuredIsTooMuch(t *testing.T) {
	k := &disk{d: &Deployer{o: Options{DiskLimit: 100}}}
	blind := &unmeasured{errors.New("more than 4000 folders are in each other"), ccci.CodeRecipe}
	for range mostFailures - 1 {
		if err := k.judge(nil, blind); err != nil {
			t.Fatalf("too early: %v", err)
		}
	}
	if err := k.judge([]usage{{what: "volume x", bytes: 10, entries: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	for range mostFailures + 1 { // the daemon's trouble is no recipe's
		if err := k.judge(nil, errors.New("connection refused")); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for range mostFailures {
		err = k.judge(nil, blind)
	}
	if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "cannot be measured: more than 4000") {
		t.Errorf("%v", err)
	}
	for range mostFailures {
		err = k.judge(nil, &unmeasured{errors.New("it takes longer than 1m0s"), ccci.CodeInfra})
	}
	if ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("a daemon that does not answer: %v", err)
	}
}

// An app makes so many folders in each other, in its writable layer, that Docker's walk fails. What it
// writes there is then in no measurement.
func TestN3_ALayerThatCannotBeMeasuredIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := stub(func(r *http.Request) (int, string) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/containers/json") && r.URL.Query().Get("size") != "":
				return http.StatusOK, `[{"Id": "0123456789abcdef", "Names": ["/s_app.1"], "SizeRw": -1}]`
			case strings.HasSuffix(r.URL.Path, "/volumes"):
				return http.StatusOK, `{}`
			}
			return http.StatusOK, "[]"
		}).deployer(t, Options{RunID: "r", DiskLimit: 300 << 20, Box: Box{Measure: func(_, _ []string) []string { return nil }}})
		all, err := d.disk.measure(t.Context(), false)
		if len(all) != 1 || all[0].bytes != 0 || err == nil {
			t.Errorf("measured %v, %v", all, err)
		}
		d.disk.start()
		defer d.disk.stop()
		started := time.Now()
		select {
		case err := <-d.Exceeded():
			if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "the writable layer of container s_app.1 cannot be measured") {
				t.Error(err)
			}
		case <-time.After(time.Hour):
			t.Fatal("the app runs on")
		}
		if took := time.Since(started); took > mostFailures*diskInterval {
			t.Errorf("it is ended after %s", took)
		}
	})
}

// A task that ends keeps the volumes that it got without a name until swarm removes it, and the next task has new
// ones. All of them are measured, of whatever state their container is.
func TestN3_VolumesOfEndedTasksAreMeasured(t *testing.T) {
	ended, runs, foreign := strings.Repeat("e0", 32), strings.Repeat("a1", 32), strings.Repeat("f2", 32)
	var mounted []string
	now := time.Now().Format(time.RFC3339)
	d := stub(func(r *http.Request) (int, string) {
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/containers/json"):
			box := func(id, state, volume string) string {
				return fmt.Sprintf(`{"Id": %q, "State": %q, "Labels": {"cc-ci.run": "r"}, "Mounts": [{"Type": "volume", "Name": %q}]}`, strings.Repeat(id, 64), state, volume)
			}
			all := []string{box("1", "running", runs)}
			if r.URL.Query().Get("all") != "" {
				all = append(all, box("2", "exited", ended))
			}
			return http.StatusOK, "[" + strings.Join(all, ",") + "]"
		case strings.HasSuffix(path, "/volumes"):
			var all []string
			for _, name := range []string{ended, runs, foreign} {
				all = append(all, fmt.Sprintf(`{"Name": %q, "CreatedAt": %q}`, name, now))
			}
			return http.StatusOK, `{"Volumes": [` + strings.Join(all, ",") + `]}`
		case strings.HasSuffix(path, "/containers/create"):
			var made struct {
				HostConfig struct {
					Mounts []struct{ Type, Source string }
				}
			}
			if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
				t.Error(err)
			}
			for _, m := range made.HostConfig.Mounts {
				if m.Type == "volume" {
					mounted = append(mounted, m.Source)
				}
			}
			return http.StatusInternalServerError, `{"message": "that is enough"}`
		}
		return http.StatusOK, "[]"
	}).deployer(t, Options{RunID: "r", DiskLimit: 300 << 20, Box: Box{Measure: func(_, _ []string) []string { return nil }}})
	if _, err := d.disk.measure(t.Context(), false); err == nil || !strings.Contains(err.Error(), "that is enough") {
		t.Errorf("measuring: %v", err)
	}
	if want := []string{runs, ended}; !slices.Equal(mounted, want) {
		t.Errorf("measured are %v, want %v", mounted, want)
	}
}

// A daemon that is still pulling, without end.
func endless(t *testing.T) *client.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/images/create"):
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			w.Write([]byte("[]"))
		default:
			http.Error(w, `{"message":"no such image"}`, http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	return cli
}

// A disk that is nearly full ends a run, also one that is filled by what nothing measures: an image
// without end, or files that have no name any more.
func TestN3_ANearlyFullDiskEndsTheRun(t *testing.T) {
	var full atomic.Bool
	d, err := New(Options{RunID: "r", Docker: endless(t), DiskLimit: 1 << 40, DiskInterval: time.Hour,
		Box: Box{Measure: func(_, _ []string) []string { return nil }},
		Full: func() string {
			if full.Load() {
				return "the disk of /x has 1GiB free"
			}
			return ""
		}})
	if err != nil {
		t.Fatal(err)
	}
	d.ready = true
	check := func(what string, err error) {
		t.Helper()
		if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "the disk of /x has 1GiB free") {
			t.Errorf("%s: %v", what, err)
		}
	}
	d.disk.start()
	defer d.disk.stop()
	time.AfterFunc(50*time.Millisecond, func() { full.Store(true) })
	_, err = d.Pull(t.Context(), deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: x.example/x:1\n"))
	check("while an image is pulled", err)
	select {
	case err := <-d.Exceeded():
		check("while the app runs", err)
	case <-time.After(10 * time.Second):
		t.Error("the app runs on")
	}
}

// A fast disk takes gigabytes between two measurements: when its free space drops, the next one comes at once.
func TestN3_FastWritesAreMeasuredAtOnce(t *testing.T) {
	var written atomic.Int64
	measured := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/json") && r.URL.Query().Get("size") != "":
			fmt.Fprintf(w, `[{"Id": "0123456789abcdef", "Names": ["/s_app.1"], "SizeRw": %d}]`, written.Load())
			measured <- struct{}{}
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			w.Write([]byte("[]"))
		default:
			w.Write([]byte("{}"))
		}
	}))
	t.Cleanup(server.Close)
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{RunID: "r", Docker: cli, DiskLimit: 300 << 20, DiskInterval: time.Hour,
		Box:  Box{Measure: func(_, _ []string) []string { return nil }},
		Free: func() int64 { return 10<<30 - written.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	d.disk.start()
	defer d.disk.stop()
	<-measured
	written.Store(20 << 20) // less than an eighth of the limit: not worth a measurement
	select {
	case <-measured:
		t.Error("20 MiB brought a measurement forward")
	case <-time.After(3 * dropInterval):
	}
	written.Store(400 << 20)
	select {
	case err := <-d.Exceeded():
		if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "container s_app.1 400MiB") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("400 MiB of 300 MiB are not measured before the interval is over")
	}
}

// A slow measurement is followed by a rest, which ends at once when the run writes more than it may in it.
func TestN3_MoreThanTheLimitEndsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		d := &Deployer{o: Options{DiskLimit: 300 << 20, Free: func() int64 { return 10<<30 - written.Load() }}}
		d.disk = &disk{d: d}
		rested := func(write int64) time.Duration {
			started := time.Now()
			written.Store(0)
			time.AfterFunc(2*time.Second, func() { written.Store(write) })
			if !d.disk.rest(t.Context(), 20*time.Second, 10<<30) {
				t.Error("the rest was ended")
			}
			return time.Since(started)
		}
		if took := rested(400 << 20); took > 2*time.Second+dropInterval {
			t.Errorf("400 MiB of 300 MiB are measured after %s", took)
		}
		if took := rested(200 << 20); took < 20*time.Second {
			t.Errorf("200 MiB of 300 MiB are measured after %s", took)
		}
	})
}

// A registry sends the daemon to a service of this machine, which answers that there is no such page.
func TestN3_WhatAnotherServiceAnswersIsNotShown(t *testing.T) {
	d, err := New(Options{RunID: "r", Docker: endless(t)})
	if err != nil {
		t.Fatal(err)
	}
	said := errors.New("Error response from daemon: error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>build 4711 of geheim.internal</html>\"")
	if got := d.pullFault("pulling image x", "x", false, said); strings.Contains(got.Error(), "geheim") || strings.Contains(got.Error(), "4711") || !strings.Contains(got.Error(), "HTTP 404") {
		t.Errorf("%v", got)
	}
}

// An image that a run has brought leaves with it when no other run could start because of it, and only then. One that
// a service of another run names stays: swarm does not pull it again.
func TestN3_AHugeImageLeavesWithItsRun(t *testing.T) {
	var short atomic.Bool
	var removed []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodDelete {
			removed = append(removed, r.URL.Path)
		}
		name, inspects := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v1.41/images/x.example/"), ":1/json")
		switch {
		case inspects:
			fmt.Fprintf(w, `{"Id": "sha256:%s"}`, name)
		case strings.HasSuffix(r.URL.Path, "/services"):
			w.Write([]byte(`[{"Spec": {"TaskTemplate": {"ContainerSpec": {"Image": "sha256:used"}}}}]`))
		default:
			w.Write([]byte("[]"))
		}
	}))
	defer server.Close()
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{RunID: "r", Docker: cli, Short: func() string {
		if short.Load() && len(removed) == 0 {
			return "the disk of /x has 1GiB free"
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	d.pulled = []string{"x.example/used:1", "x.example/large:1", "x.example/other:1"}
	d.dropImages(t.Context())
	if len(removed) > 0 {
		t.Errorf("with enough space: %v", removed)
	}
	short.Store(true)
	d.dropImages(t.Context())
	if len(removed) != 1 || removed[0] != "/v1.41/images/x.example/large:1" {
		t.Errorf("removed %v", removed)
	}
}

// An image's labels are in every list of containers on the machine, and each of its volumes is made.
func TestN3_ImagesAreBoundedBeforeTheyRun(t *testing.T) {
	inspected := func(labels, volumes int) (img image.InspectResponse) {
		l, v := map[string]string{}, map[string]struct{}{}
		for i := range labels {
			l[fmt.Sprint(i)] = strings.Repeat("x", 50_000)
		}
		for i := range volumes {
			v[fmt.Sprintf("/v%d", i)] = struct{}{}
		}
		text, err := json.Marshal(map[string]any{"Config": map[string]any{"Labels": l, "Volumes": v}})
		if err == nil {
			err = json.Unmarshal(text, &img)
		}
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	for name, c := range map[string]struct {
		images []image.InspectResponse
		tasks  int // of each
		want   string
	}{
		"an image without a configuration": {[]image.InspectResponse{{}}, 1, "shows no configuration"},
		"what build tools write":           {[]image.InspectResponse{inspected(4, 5), inspected(4, 5)}, 1, ""},
		"5 MB of labels":                   {[]image.InspectResponse{inspected(100, 0)}, 1, "configuration has 4.769MiB, and"},
		"many services together":           {[]image.InspectResponse{inspected(20, 0), inspected(20, 0), inspected(20, 0)}, 1, "image i:2 of service s2"},
		"3000 volumes":                     {[]image.InspectResponse{inspected(0, 3000)}, 1, "declares 3000 volumes"},
		"many tasks together":              {[]image.InspectResponse{inspected(4, 0)}, 20, "configuration has 195.4KiB for each of 20 tasks"},
		"volumes of many tasks":            {[]image.InspectResponse{inspected(0, 20)}, 20, "declares 20 volumes for each of 20 tasks"},
		"small images of many tasks":       {[]image.InspectResponse{inspected(0, 4), inspected(0, 4)}, 20, ""},
	} {
		var w imageWeight
		var err error
		for i, img := range c.images {
			if err == nil {
				err = w.add(fmt.Sprint("s", i), fmt.Sprint("i:", i), img, c.tasks)
			}
		}
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || ccci.CodeOf(err) != ccci.CodeRecipe) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
