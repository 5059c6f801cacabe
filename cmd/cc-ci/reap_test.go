package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/client"
)

type hangingDocker struct{}

// RoundTrip answers as a Docker with a container of each of two dead runs, neither of which can be removed.
func (hangingDocker) RoundTrip(r *http.Request) (*http.Response, error) {
	body := "[]"
	switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
	case r.Method == http.MethodDelete:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case path == "/info":
		body = `{"Swarm": {"LocalNodeState": "active", "ControlAvailable": true}}`
	case path == "/containers/json":
		body = `[{"Id": "1111111111111111", "Names": ["/hangs"], "Labels": {"cc-ci.run": "260102-030405-aaaaaa"}},
			{"Id": "2222222222222222", "Names": ["/too"], "Labels": {"cc-ci.run": "260102-030405-bbbbbb"}}]`
	case path == "/volumes":
		body = "{}"
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// The first look of the janitor goes before everything that is served. Containers that Docker hangs with
// do not keep cc-ci from serving, and the log names them.
func TestA20_HangingContainersDoNotKeepTheServerFromServing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // folders of killed processes are looked for there
	locks := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		docker, err := client.NewClientWithOpts(client.WithHost("tcp://stub.example:1"), client.WithHTTPClient(&http.Client{Transport: hangingDocker{}}), client.WithVersion("1.41"))
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		s := &server{log: log, platform: &platform{log: log, docker: docker, lockDir: locks}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		started := time.Now()
		s.reap(ctx)
		if took := time.Since(started); took > reapLimit {
			t.Errorf("the janitor took %s", took)
		}
		for _, want := range []string{"container hangs", "container too"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("the log does not name %q:\n%s", want, said.String())
			}
		}
	})
}
