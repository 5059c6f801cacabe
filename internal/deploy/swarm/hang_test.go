package swarm

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

// stub is a daemon without a connection, so that the clock of a test goes on while it does not answer.
type stub func(r *http.Request) (status int, body string)

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := s(r)
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context())
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (s stub) deployer(t *testing.T, o Options) *Deployer {
	t.Helper()
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://stub.example:1"), client.WithHTTPClient(&http.Client{Transport: s}), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	o.Docker = cli
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d.ready = true
	return d
}

// Docker waits without end for the lock of a container that something hangs with. The removal takes
// what else there is, and ends with an error that names what stays.
func TestN3_AHangingContainerDoesNotHangItsRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const run = "260102-030405-abcdef"
		var mu sync.Mutex
		gone := map[string]bool{}
		listed := func(path, all string) string {
			mu.Lock()
			defer mu.Unlock()
			if gone[path] {
				return ""
			}
			return all
		}
		d := stub(func(r *http.Request) (int, string) {
			path := strings.TrimPrefix(r.URL.Path, "/v1.41")
			switch {
			case r.Method == http.MethodDelete && path == "/containers/1111111111111111":
				<-r.Context().Done()
			case r.Method == http.MethodDelete:
				mu.Lock()
				gone[path] = true
				mu.Unlock()
			case path == "/containers/json":
				return http.StatusOK, `[{"Id": "1111111111111111", "Names": ["/hangs"], "Labels": {"cc-ci.run": "` + run + `"}}` +
					listed("/containers/2222222222222222", `, {"Id": "2222222222222222", "Names": ["/goes"], "Labels": {"cc-ci.run": "`+run+`"}}`) + `]`
			case path == "/volumes":
				return http.StatusOK, `{"Volumes": [` + listed("/volumes/data", `{"Name": "data", "Labels": {"cc-ci.run": "`+run+`"}}`) + `]}`
			}
			return http.StatusOK, "[]"
		}).deployer(t, Options{RunID: run})
		started := time.Now()
		removed, err := d.Remove(t.Context(), harness.App{RunID: run, StackName: "s_ci_test"})
		if took := time.Since(started); took > d.o.RemovePatience+3*removeLimit {
			t.Errorf("Remove took %s", took)
		}
		if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "still there: container hangs: container hangs: Docker has not removed it within 30s") {
			t.Errorf("Remove: %v", err)
		}
		if removed[kindContainer] != 1 || removed[kindVolume] != 1 {
			t.Errorf("removed %v", removed)
		}
	})
}

// With the time of the caller over, the error still names what stays.
func TestARemovalThatIsOutOfTimeNamesWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const run = "260102-030405-abcdef"
		d := stub(func(r *http.Request) (int, string) {
			switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
			case r.Method == http.MethodDelete && path == "/containers/1111111111111111":
				<-r.Context().Done()
			case path == "/containers/json":
				return http.StatusOK, `[{"Id": "1111111111111111", "Names": ["/hangs"], "Labels": {"cc-ci.run": "` + run + `"}},
					{"Id": "2222222222222222", "Names": ["/goes"], "Labels": {"cc-ci.run": "` + run + `"}}]`
			case path == "/volumes":
				return http.StatusOK, `{}`
			}
			return http.StatusOK, "[]"
		}).deployer(t, Options{RunID: run})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := d.Remove(ctx, harness.App{RunID: run, StackName: "s_ci_test"})
		if err == nil || !strings.Contains(err.Error(), "container hangs") || strings.Contains(err.Error(), "goes") {
			t.Errorf("Remove: %v", err)
		}
	})
}

// What Docker cannot remove is emptied once, in a container that sees nothing else, and is asked for again. A volume that
// may be a folder of the host is never emptied, nor is a container's layer that is not where Docker has its own.
func TestN3_WhatDockerCannotRemoveIsEmptied(t *testing.T) {
	for name, c := range map[string]struct {
		volume, container string // what Docker says of them
		want              []string
	}{
		"both": {`{"Name": "data", "Driver": "local"}`, `{"State": {"Running": false}, "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/docker/overlay2/x/diff"}}}`,
			[]string{"bind /docker/overlay2/x/diff", "volume data"}},
		"a folder of the host": {`{"Name": "data", "Driver": "local", "Options": {"o": "bind", "type": "none", "device": "/srv"}}`,
			`{"State": {"Running": false}, "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/srv/x/diff"}}}`, nil},
		"another driver, and one that runs": {`{"Name": "data", "Driver": "nfs"}`,
			`{"State": {"Running": true}, "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/docker/overlay2/x/diff"}}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const run = "260102-030405-abcdef"
				var mu sync.Mutex
				var mounted []string
				d := stub(func(r *http.Request) (int, string) {
					mu.Lock()
					defer mu.Unlock()
					switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
					case r.Method == http.MethodDelete && path != "/containers/b0b0b0b0b0b0b0b0":
						if len(mounted) == 0 || strings.HasPrefix(path, "/volumes") && len(mounted) < 2 {
							return http.StatusInternalServerError, `{"message": "too many open files"}`
						}
					case path == "/containers/create":
						var asked struct {
							HostConfig struct {
								NetworkMode     string
								CapDrop, CapAdd []string
								Mounts          []struct{ Type, Source string }
							}
						}
						if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
							t.Error(err)
						}
						if h := asked.HostConfig; h.NetworkMode != "none" || len(h.CapDrop) != 1 || h.CapDrop[0] != "ALL" || strings.Join(h.CapAdd, " ") != "CAP_DAC_OVERRIDE CAP_FOWNER" {
							t.Errorf("%+v", h)
						}
						for _, m := range asked.HostConfig.Mounts {
							mounted = append(mounted, m.Type+" "+m.Source)
						}
						return http.StatusCreated, `{"Id": "b0b0b0b0b0b0b0b0"}`
					case strings.HasSuffix(path, "/wait"):
						return http.StatusOK, `{"StatusCode": 0}`
					case path == "/containers/1111111111111111/json":
						return http.StatusOK, c.container
					case path == "/volumes/data":
						return http.StatusOK, c.volume
					case path == "/containers/json" && len(mounted) == 0:
						return http.StatusOK, `[{"Id": "1111111111111111", "Names": ["/deep"], "Labels": {"cc-ci.run": "` + run + `"}}]`
					case path == "/volumes" && len(mounted) < 2:
						return http.StatusOK, `{"Volumes": [{"Name": "data", "Labels": {"cc-ci.run": "` + run + `"}}]}`
					case path == "/volumes":
						return http.StatusOK, `{}`
					}
					return http.StatusOK, "[]"
				}).deployer(t, Options{RunID: run, Box: Box{Image: "box", Empty: func(dirs []string) []string { return dirs }}})
				d.dockerRoot = "/docker"
				removed, err := d.Remove(t.Context(), harness.App{RunID: run, StackName: "s_ci_test"})
				if strings.Join(mounted, ", ") != strings.Join(c.want, ", ") {
					t.Errorf("emptied %v, want %v", mounted, c.want)
				}
				if c.want != nil && (err != nil || removed[kindContainer] != 1 || removed[kindVolume] != 1) {
					t.Errorf("Remove: %v, %v", removed, err)
				}
				if c.want == nil && (err == nil || !strings.Contains(err.Error(), "too many open files")) {
					t.Errorf("Remove: %v", err)
				}
			})
		})
	}
}
