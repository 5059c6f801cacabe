package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// App is a GitHub App's installation on one organisation or account.
type App struct {
	ID           string // the App's client id or number
	Installation int64
	KeyFile      string // its private key, PEM
	// ReadKey reads KeyFile. It is called whenever the key is needed, so that a new one needs no new process.
	ReadKey func(path string) (ccci.Secret, error)
}

// tokenSource gives the token for a request. stale names one that GitHub did not
// take; then a source that can make another one does.
type tokenSource interface {
	token(ctx context.Context, stale string) (string, error)
}

type fixedToken ccci.Secret

func (t fixedToken) token(context.Context, string) (string, error) {
	return ccci.Secret(t).Reveal(), nil
}

// authorized is a transport that adds the token, to requests of the API alone.
type authorized struct {
	api   *url.URL
	token tokenSource
	next  http.RoundTripper
}

func (t *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.api.Host || req.URL.Scheme != t.api.Scheme {
		return nil, fmt.Errorf("a request to %s, which is not GitHub's API", req.URL.Host)
	}
	stale := ""
	for {
		token, err := t.token.token(req.Context(), stale)
		if err != nil {
			return nil, err
		}
		again := stale != ""
		if again && token == stale {
			return nil, fmt.Errorf("GitHub refused the token")
		}
		out := req.Clone(req.Context())
		if req.GetBody != nil {
			if out.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
		out.Header.Set("Authorization", "Bearer "+token)
		resp, err := t.next.RoundTrip(out)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || again {
			return resp, err
		}
		if _, refreshes := t.token.(*installation); !refreshes {
			return resp, nil
		}
		discard(resp) // nothing was carried out; once more with a new token
		stale = token
	}
}

// installation makes installation tokens and renews them before they expire.
type installation struct {
	app    App
	client *gh.Client // authenticates as the App
	now    func() time.Time

	mu      sync.Mutex
	current string
	expires time.Time
}

// renewBefore is how long a token must still live to be used. GitHub's live 1 h.
const renewBefore = 5 * time.Minute

func (i *installation) token(ctx context.Context, stale string) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current != "" && i.current != stale && i.now().Add(renewBefore).Before(i.expires) {
		return i.current, nil
	}
	made, _, err := i.client.Apps.CreateInstallationToken(ctx, i.app.Installation, &gh.InstallationTokenOptions{})
	if err != nil {
		return "", fmt.Errorf("asking for a token of installation %d: %w", i.app.Installation, err)
	}
	if made.GetToken() == "" {
		return "", fmt.Errorf("asking for a token of installation %d: GitHub's answer has none", i.app.Installation)
	}
	i.current, i.expires = made.GetToken(), made.GetExpiresAt().Time
	return i.current, nil
}

// signer makes the tokens with which the App speaks for itself (RFC 7519, RS256).
type signer struct {
	app App
	now func() time.Time
}

func newSigner(app App, now func() time.Time) (*signer, error) {
	if app.ID == "" || app.Installation <= 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up the GitHub App: it needs the App's id and the number of its installation").
			WithHint("the installation's number is the end of the address of its settings page")
	}
	s := &signer{app: app, now: now}
	_, err := s.key()
	return s, err
}

func (s *signer) key() (*rsa.PrivateKey, error) {
	text, err := s.app.ReadKey(s.app.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the GitHub App's private key: %w", err)
	}
	if block, _ := pem.Decode([]byte(text.Reveal())); block != nil {
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(*rsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, ccci.Errorf(ccci.CodeInvalid, "reading the GitHub App's private key: %s holds no RSA key in PEM", s.app.KeyFile).
		WithHint("make one on the App's settings page and save the file it gives you")
}

func (s *signer) token(context.Context, string) (string, error) {
	key, err := s.key()
	if err != nil {
		return "", err
	}
	now := s.now()
	// A minute back, because GitHub refuses tokens from its future.
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix(), "iss": s.app.ID})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing with the GitHub App's private key: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
