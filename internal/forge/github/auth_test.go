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
	"time"

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
		o.App = &App{ID: fmt.Sprint(id), Installation: installation, KeyFile: file, ReadKey: readKey}
	}
}

func readKey(path string) (ccci.Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeInvalid, "%w", err)
	}
	return ccci.NewSecret(string(text)), nil
}

// Tokens of an App live an hour. They are renewed before that, and at once when
// GitHub takes one no more.
func TestC32_AppTokensAreRenewed(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, newApp(t, s))
	create(t, s, repo)
	s.Comment(pullOn(t, s, repo), "ada", "hello")
	poll := func(when string, wantTokens int) {
		t.Helper()
		s.Stats()
		if got, _, err := f.Comments(t.Context(), repo, ""); err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", when, got, err)
		}
		if made := s.Stats().Writes; made != wantTokens {
			t.Errorf("%s: %d tokens were made, want %d", when, made, wantTokens)
		}
	}
	poll("at first", 1)
	poll("again", 0)
	s.Advance(50 * time.Minute)
	poll("within its life", 0)
	s.Advance(6 * time.Minute)
	poll("before its end", 1)
	s.RevokeTokens()
	poll("after it was revoked", 1)
	s.Inject(githubfake.Fault{Path: "/issues/comments", Times: 2, Status: 401, Body: `{"message":"Bad credentials"}`})
	if _, _, err := f.Comments(t.Context(), repo, ""); ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" {
		t.Errorf("refused whatever the token: %v, hint %q", err, ccci.HintOf(err))
	}
	s.ClearFaults()
	poll("afterwards", 0)
	self, err := f.Self(t.Context())
	if err != nil || self.Name != "cc-ci-app[bot]" {
		t.Errorf("Self = %+v, %v", self, err)
	}
}

func TestC32_AppKeyIsChecked(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	change := newApp(t, s)
	opts := Options{APIURL: s.APIURL}
	change(&opts)
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("ssh-rsa AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, app := range map[string]App{
		"no file":         {ID: "1", Installation: 1, KeyFile: filepath.Join(t.TempDir(), "none"), ReadKey: readKey},
		"no key":          {ID: "1", Installation: 1, KeyFile: junk, ReadKey: readKey},
		"no id":           {Installation: 1, KeyFile: opts.App.KeyFile, ReadKey: readKey},
		"no installation": {ID: "1", KeyFile: opts.App.KeyFile, ReadKey: readKey},
	} {
		if _, err := New(Options{APIURL: s.APIURL, App: &app}); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	both := opts
	both.Token = ccci.NewSecret("t")
	for name, o := range map[string]Options{"both": both, "neither": {APIURL: s.APIURL}} {
		if _, err := New(o); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("a token and an App, %s: %v", name, err)
		}
	}
	wrong := *opts.App
	wrong.ID = "999999" // the signature is good, the App another one
	f := adapter(t, s, func(o *Options) { o.Token, o.App = ccci.Secret{}, &wrong })
	if _, err := f.Self(t.Context()); err == nil {
		t.Error("GitHub knows no such App, and Self succeeded")
	}
}
