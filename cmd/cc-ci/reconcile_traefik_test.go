package main

import (
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// A25: the production proxy is reached for every name, and its certificate counts.
func TestA25_KeptProxy(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "I am "+r.Host) }))
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, ca, want string
	}{
		{"example.com", ca, "I am example.com"}, // the name in httptest's certificate
		{"wiki.ci.example.org", ca, "valid for"},
		{"example.com", "", "unknown authority"},
	} {
		p, err := openKeptProxy(t.Context(), config.Ingress{Address: address, CAFile: tc.ca})
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: p.Transport()}
		var got string
		if res, err := client.Get("https://" + tc.name + "/"); err != nil {
			got = err.Error()
		} else {
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			got = string(text)
		}
		client.CloseIdleConnections()
		if !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		settings config.Ingress
		code     ccci.Code
	}{
		{config.Ingress{Address: address, CAFile: empty}, ccci.CodeInvalid},
		{config.Ingress{Address: address, CAFile: empty + "x"}, ccci.CodeInvalid},
		{config.Ingress{Address: "127.0.0.1:1"}, ccci.CodeInfra},
	} {
		if _, err := openKeptProxy(t.Context(), tc.settings); ccci.CodeOf(err) != tc.code || ccci.HintOf(err) == "" {
			t.Errorf("%+v: %v", tc.settings, err)
		}
	}
}

// A Traefik without the label joins no run's network: every run would fail at its first request.
func TestN3_AProxyWithoutItsLabelIsRefused(t *testing.T) {
	docker := dockerd.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := awaitProxyContainer(ctx, docker.Docker)
	if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "cc-ci.proxy=true") || !strings.Contains(ccci.HintOf(err), "reconcile proxy") {
		t.Errorf("%v, hint %q", err, ccci.HintOf(err))
	}
}
