package swarm

import (
	"context"
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
type stub func(r *http.Request) string

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	body := s(r)
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context())
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
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
		d := stub(func(r *http.Request) string {
			path := strings.TrimPrefix(r.URL.Path, "/v1.41")
			switch {
			case r.Method == http.MethodDelete && path == "/containers/1111111111111111":
				<-r.Context().Done()
			case r.Method == http.MethodDelete:
				mu.Lock()
				gone[path] = true
				mu.Unlock()
			case path == "/containers/json":
				return `[{"Id": "1111111111111111", "Names": ["/hangs"], "Labels": {"cc-ci.run": "` + run + `"}}` +
					listed("/containers/2222222222222222", `, {"Id": "2222222222222222", "Names": ["/goes"], "Labels": {"cc-ci.run": "`+run+`"}}`) + `]`
			case path == "/volumes":
				return `{"Volumes": [` + listed("/volumes/data", `{"Name": "data", "Labels": {"cc-ci.run": "`+run+`"}}`) + `]}`
			}
			return "[]"
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
		d := stub(func(r *http.Request) string {
			switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
			case r.Method == http.MethodDelete && path == "/containers/1111111111111111":
				<-r.Context().Done()
			case path == "/containers/json":
				return `[{"Id": "1111111111111111", "Names": ["/hangs"], "Labels": {"cc-ci.run": "` + run + `"}},
					{"Id": "2222222222222222", "Names": ["/goes"], "Labels": {"cc-ci.run": "` + run + `"}}]`
			case path == "/volumes":
				return `{}`
			}
			return "[]"
		}).deployer(t, Options{RunID: run})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := d.Remove(ctx, harness.App{RunID: run, StackName: "s_ci_test"})
		if err == nil || !strings.Contains(err.Error(), "container hangs") || strings.Contains(err.Error(), "goes") {
			t.Errorf("Remove: %v", err)
		}
	})
}
