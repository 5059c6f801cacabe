package drone

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// SignIn gives Drone a token of Gitea's, by the pages that a browser would show:
// sign in to Gitea as [User], be sent there by Drone, consent, be sent back. Both are reached
// through transport; nil stands for Go's own.
func SignIn(t testing.TB, transport http.RoundTripper, droneURL, giteaURL string) {
	t.Helper()
	if _, refused := signIn(t, transport, droneURL, giteaURL, User); refused != "" {
		t.Fatalf("signing in to Drone as %s: %s", User, refused)
	}
}

// Account is a person in a browser who has signed in to Drone, or was refused.
type Account struct {
	Name    string
	Refused string // Drone's words; "" when the person is signed in

	t       testing.TB
	url     string
	browser *http.Client
}

// SignIn signs a person in, whose account at Gitea is made where there is none. It returns
// when Drone has listed the person's repositories: it then writes the account as it was before.
func (s *Server) SignIn(user string) *Account {
	s.t.Helper()
	s.gitea.User(s.t, user)
	browser, refused := signIn(s.t, nil, s.URL, s.gitea.URL, user)
	a := &Account{Name: user, Refused: refused, t: s.t, url: s.URL, browser: browser}
	for limit := time.Now().Add(patience); refused == ""; time.Sleep(20 * time.Millisecond) {
		if _, answer := a.API(http.MethodGet, "/api/user", nil); bytes.Contains(answer, []byte(`"syncing":false`)) {
			break
		}
		if time.Now().After(limit) {
			s.t.Fatalf("Drone has not listed the repositories of %s within %s", user, patience)
		}
	}
	return a
}

// API asks Drone as this person, whether signed in or not.
func (a *Account) API(method, path string, body any) (status int, answer []byte) {
	a.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.browser.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// refusal is the page to which Drone sends a person whom it does not let in.
const refusal = "/login/error"

// signIn returns the browser with what it was given, and what Drone refused a person with.
func signIn(t testing.TB, transport http.RoundTripper, droneURL, giteaURL, user string) (browser *http.Client, refused string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser = &http.Client{Jar: jar, Timeout: patience, Transport: transport}
	page := func(resp *http.Response, err error) *url.URL {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		if at := resp.Request.URL; resp.StatusCode > 299 && (at.Path != refusal || !strings.HasPrefix(at.String(), droneURL)) {
			t.Fatalf("signing in: %s: %s %.300s", resp.Request.URL, resp.Status, text)
		}
		return resp.Request.URL
	}
	page(browser.PostForm(giteaURL+"/user/login", url.Values{"user_name": {user}, "password": {gitea.Password}}))
	at := page(browser.Get(droneURL + "/login"))
	if strings.HasPrefix(at.String(), giteaURL) { // the first time Gitea asks for consent
		q := at.Query()
		at = page(browser.PostForm(giteaURL+"/login/oauth/grant", url.Values{
			"client_id": q["client_id"], "state": q["state"], "scope": q["scope"], "nonce": q["nonce"], "redirect_uri": q["redirect_uri"], "granted": {"true"},
		}))
	}
	if !strings.HasPrefix(at.String(), droneURL) {
		t.Fatalf("signing in to Drone ended at %s", at)
	}
	if at.Path == refusal {
		return browser, at.Query().Get("message")
	}
	return browser, ""
}
