package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// N3: cc-ci serve logs a runc with a known fault as it starts, and serves all the same.
func TestN3_ServingWithKnownFaultsIsLogged(t *testing.T) {
	runc := "1.2.7"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/version") {
			t.Errorf("Docker is asked for %s", r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"Version": "29.5.1", "Components": [{"Name": "runc", "Version": "`+runc+`"}]}`)
	}))
	defer server.Close()
	docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	said := func(p *platform) string {
		var log bytes.Buffer
		warnOfVersions(t.Context(), p, slog.New(slog.NewTextHandler(&log, nil)))
		return log.String()
	}
	p := &platform{docker: docker, daemon: system.Info{DefaultRuntime: "runc"}}
	if got := said(p); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "CVE-2025-31133") || !strings.Contains(got, "containerd.io") {
		t.Errorf("with runc 1.2.7 it logs %q", got)
	}
	runc = "1.2.8"
	if got := said(p); got != "" {
		t.Errorf("with runc 1.2.8 it logs %q", got)
	}
	if got := said(&platform{}); got != "" {
		t.Errorf("without Docker it logs %q", got)
	}
}
