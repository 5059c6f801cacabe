package gitea

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestA7_MembershipIsProven(t *testing.T) {
	s := gitea(t)
	const org = "proven"
	s.AddMember(t, org, bot)
	s.AddMember(t, org, "grace")
	if _, err := s.Do("grace", "PUT", "/orgs/"+org+"/public_members/grace", nil, nil); err != nil {
		t.Fatal(err)
	}
	f := connect(t, s, func(o *Options) { o.Org = org })
	grace, eve := account{s.User(t, "grace"), "grace"}.user(), account{s.User(t, "eve"), "eve"}.user()
	ask := func(what string, f *Forge, user ccci.User, want, wrong bool) {
		t.Helper()
		got, err := f.Member(t.Context(), org, user)
		if got != want || (err != nil) != wrong {
			t.Errorf("%s: %t, %v; want %t, error %t", what, got, err, want, wrong)
		}
	}
	ask("a member", f, grace, true, false)
	ask("an outsider", f, eve, false, false)
	ask("nobody", f, ccci.User{ID: "0", Name: "grace"}, false, false)
	ask("a ghost", f, ccci.User{ID: "-1", Name: "Ghost"}, false, false)
	ask("a number of nobody", f, ccci.User{ID: "999999", Name: "grace"}, false, false)
	if err := f.ProveMembership(t.Context(), org); err != nil {
		t.Error(err)
	}
	for _, d := range f.Diagnose(t.Context()) {
		if d.Code != "" {
			t.Errorf("%+v", d)
		}
	}

	s.RenameUser(t, "grace", "hopper")
	t.Cleanup(func() { s.RenameUser(t, "hopper", "grace") })
	ask("renamed, under her old name", f, grace, true, false)

	// From outside the forge names public members alone, of which she is one. That is no answer.
	s.RemoveMember(t, org, bot)
	ask("asked from outside", f, grace, false, true)
	if err := f.ProveMembership(t.Context(), org); ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(ccci.HintOf(err), org) {
		t.Errorf("from outside: %v, %q", err, ccci.HintOf(err))
	}
	found := f.Diagnose(t.Context())
	if last := found[len(found)-1]; last.Code != ccci.CodeRefused || last.Hint == "" {
		t.Errorf("it diagnoses %+v", last)
	}
	s.AddMember(t, org, bot)
	weak := connect(t, s, func(o *Options) { o.Token = ccci.NewSecret(s.Token(t, bot, "read:issue")) })
	ask("with a token that may not ask", weak, grace, false, true)
}

// Whatever is neither 204 nor the forge's own 404 is an error and never a yes; a
// redirect is not followed, and the token goes nowhere else.
func TestA7_OddAnswersAreNoYes(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with %d characters of authorization", len(r.Header.Get("Authorization")))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer elsewhere.Close()
	for name, answer := range map[string]func(http.ResponseWriter){
		"a redirect away": func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL+"/api/v1/orgs/coop/public_members/ada")
			w.WriteHeader(http.StatusSeeOther)
		},
		"a page that says 404": func(w http.ResponseWriter) { http.Error(w, "404 page not found", http.StatusNotFound) },
		"a page that says 200": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.Write([]byte("<html>Sign in</html>"))
		},
		"JSON that says 200": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte("{}"))
		},
		"trouble": func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"201":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated) },
	} {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/v1/users/search") {
				w.Header().Set("Content-Type", "application/json")
				w.Write([]byte(`{"ok":true,"data":[{"id":7,"login":"ada"}]}`))
				return
			}
			answer(w)
		}))
		f := forgeAt(t, front.URL)
		if yes, err := f.Member(t.Context(), "coop", ccci.User{ID: "7", Name: "ada"}); yes || err == nil || ccci.CodeOf(err) != ccci.CodeInfra {
			t.Errorf("%s: %t, %v; want an error", name, yes, err)
		} else if strings.Contains(err.Error()+ccci.HintOf(err), token) {
			t.Errorf("%s: the token stands in %q", name, err)
		}
		front.Close()
	}
}

const token = "0123456789abcdef-token"

// forgeAt is an adapter for a server that is no Gitea.
func forgeAt(t testing.TB, address string) *Forge {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	f, err := New(Options{URL: address, Token: ccci.NewSecret(token), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestC32_AddressesAreChecked(t *testing.T) {
	for _, address := range []string{"", "git.example.org", "http://git.example.org", "ftp://git.example.org", "https://me:pw@git.example.org", "https://git.example.org/?x=1", "https://"} {
		if _, err := New(Options{URL: address, Token: ccci.NewSecret(token)}); ccci.CodeOf(err) != ccci.CodeInvalid || err == nil {
			t.Errorf("%q: %v, want CodeInvalid", address, err)
		} else if u, bad := url.Parse(address); bad == nil && u.User != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("the password stands in %q", err)
		}
	}
	for _, good := range []string{"https://git.example.org", "https://git.example.org/forge/", "http://127.0.0.1:3000", "http://[::1]:3000", "http://localhost"} {
		if _, err := New(Options{URL: good, Token: ccci.NewSecret(token)}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if _, err := New(Options{URL: "https://git.example.org"}); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("without a token: %v", err)
	}
}

// Names that change hands while the question is asked make nobody a member.
func TestA7_RenamedMeanwhile(t *testing.T) {
	name := "eve"
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/members/") {
			name = "mallory" // her old name is a member's now
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"ok":true,"data":[{"id":7,"login":"` + name + `"}]}`))
	}))
	defer front.Close()
	if yes, err := forgeAt(t, front.URL).Member(t.Context(), "coop", ccci.User{ID: "7", Name: "eve"}); yes || err != nil {
		t.Errorf("it says %t, %v", yes, err)
	}
}
