package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
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

// The wildcard certificate covers one level, and an app may have names below its own.
func TestN3_CertificatesOfNamesBelowAnApp(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"*.ci.example.org"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	known := x509.NewCertPool()
	known.AddCert(parsed)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	defer server.Close()
	for host, want := range map[string]string{
		"wiki-1.ci.example.org": "", "www.wiki-1.ci.example.org": "", "a.b.wiki-1.ci.example.org": "",
		"ci.example.org": "not ci.example.org", "wiki-1.ci.example.net": "not wiki-1.ci.example.net", "evil.example": "not evil.example",
	} {
		client := http.Client{Transport: transportTo(server.Listener.Addr().String(), known)}
		resp, err := client.Get("https://" + host + "/")
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	client := http.Client{Transport: transportTo(server.Listener.Addr().String(), x509.NewCertPool())}
	if _, err := client.Get("https://wiki-1.ci.example.org/"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a certificate that nothing known signed: %v", err)
	}
}
