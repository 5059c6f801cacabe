package ingress

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A21: one wildcard certificate covers every run's name.
func TestA21_WildcardCertificateAndRenewal(t *testing.T) {
	dir := stateDir(t.TempDir())
	if err := dir.make(); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := func(domain string, at time.Time) *x509.Certificate {
		t.Helper()
		if err := dir.ensureCertificates(domain, at); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir.conf(), tlsFile)
		pair, err := readPair(name, name)
		if err != nil {
			t.Fatal(err)
		}
		cas, err := dir.authorities()
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{domain, "blog-1a2b3c." + domain} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: cas, DNSName: host, CurrentTime: at}); err != nil {
				t.Errorf("at %v, %s: %v", at, host, err)
			}
		}
		return pair.Leaf
	}
	first := leaf("ci.localhost", now)
	authority, _ := os.ReadFile(dir.caFile())
	if again := leaf("ci.localhost", now.Add(leafLife/2)); !again.Equal(first) {
		t.Error("a certificate with half its life left was replaced")
	}
	renewed := leaf("ci.localhost", now.Add(leafLife*3/4))
	if renewed.Equal(first) {
		t.Error("a certificate near its end was not renewed")
	}
	if same, _ := os.ReadFile(dir.caFile()); string(same) != string(authority) {
		t.Error("renewal changed the authority, which people have trusted")
	}
	if err := renewed.VerifyHostname("ci.other"); err == nil {
		t.Error("the certificate is good for any name")
	}
	leaf("ci.other", now) // another domain: authority and certificate are made anew
	if late := leaf("ci.other", now.Add(caLife)); late.NotBefore.Before(now) {
		t.Error("an authority that ends was kept")
	}
	for name, want := range map[string]os.FileMode{dir.caKey(): 0o600, filepath.Join(dir.conf(), tlsFile): 0o600, string(dir): 0o700, dir.conf(): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", filepath.Base(name), info.Mode().Perm(), err, want)
		}
	}
}
