package github

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

// newApp makes a GitHub App with its key file; the result is a change of [Options].
func newApp(t testing.TB, s *githubfake.Server) func(*Options) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "app.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	id, installation := s.App("cc-ci-app", &key.PublicKey)
	return func(o *Options) {
		o.Token = ccci.Secret{}
		o.App = &App{ID: fmt.Sprint(id), Installation: installation, KeyFile: file}
	}
}
