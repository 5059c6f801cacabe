package gitea

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// said is what is said of one thing.
func said(t *testing.T, f *Forge, check string) ccci.Diagnosis {
	t.Helper()
	all := f.Diagnose(t.Context())
	i := slices.IndexFunc(all, func(d ccci.Diagnosis) bool { return d.Check == f.Name()+": "+check })
	if i < 0 {
		t.Fatalf("nothing is said of %q: %+v", check, all)
	}
	return all[i]
}

// A token without one of the scopes is told which; the real Gitea decides what it lacks.
func TestA38_EachMissingScopeIsNamed(t *testing.T) {
	s := gitea(t)
	s.User(t, bot)
	withToken := func(scopes ...string) *Forge {
		return connect(t, s, func(o *Options) { o.Token = ccci.NewSecret(s.Token(t, bot, scopes...)) })
	}
	for _, missing := range scopes {
		var rest []string
		for _, scope := range scopes {
			if scope != missing {
				rest = append(rest, scope)
			}
		}
		weaker := strings.Replace(missing, "write:", "read:", 1)
		for _, have := range [][]string{rest, append(slices.Clone(rest), weaker)} {
			if have[len(have)-1] == missing {
				continue // there is nothing weaker
			}
			d := said(t, withToken(have...), "rights")
			if d.Code != ccci.CodeRefused || !strings.HasPrefix(d.Message, "the token lacks "+missing+" to ") || strings.Contains(d.Message, ",") || !strings.Contains(d.Hint, s.URL+"/user/settings/applications") {
				t.Errorf("with %v alone: %+v", have, d)
			}
		}
	}
	if d := said(t, withToken("read:misc"), "rights"); strings.Count(d.Message, ",") != 3 || d.Code != ccci.CodeRefused {
		t.Errorf("with none of them: %+v", d)
	}
	for _, enough := range [][]string{scopes, {"all"}, {"write:issue", "write:repository", "write:organization", "write:user"}} {
		if d := said(t, withToken(enough...), "rights"); d.Code != "" {
			t.Errorf("with %v: %+v", enough, d)
		}
	}
	f := connect(t, s, func(o *Options) { o.Token = ccci.NewSecret("0123456789012345678901234567890123456789") })
	if d := said(t, f, "rights"); d.Code != ccci.CodeInfra || !strings.Contains(d.Message, "does not take the token") {
		t.Errorf("with a token of nobody: %+v", d)
	}
}

func TestU13_A5_RepositoriesAndWebhooksAreRead(t *testing.T) {
	s := gitea(t)
	ref := ccci.RepoRef{Owner: "recipes", Name: "diagnosed"}
	s.DeleteRepo(t, ref.String())
	s.CreateRepo(t, ref.String(), true)
	f := connect(t, s)
	look := func(what string, readOnly bool, closed string) {
		t.Helper()
		if got, err := f.Repository(t.Context(), ref); err != nil || got.ReadOnly != readOnly || got.Closed != closed {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	s.Collaborator(t, ref.String(), bot, "read")
	look("a reader", true, "")
	s.Collaborator(t, ref.String(), bot, "write")
	look("a writer", false, "")
	public := connect(t, s, func(o *Options) {
		o.Token = ccci.NewSecret(s.Token(t, bot, append([]string{"public-only"}, scopes...)...))
	})
	if _, err := public.Repository(t.Context(), ref); ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(ccci.HintOf(err), "Access: All") {
		t.Errorf("with a token for public repositories: %v, %q", err, ccci.HintOf(err))
	}
	s.Webhook(t, ref.String(), "http://127.0.0.1:9/hook/gitea", "geheim", "pull_request_comment")
	s.Webhook(t, ref.String(), "http://127.0.0.1:9/hook/gitea", "geheim", "issue_comment")
	if hooks, err := f.Webhooks(t.Context(), ref); ccci.CodeOf(err) != ccci.CodeRefused {
		t.Errorf("a writer sees webhooks: %+v, %v", hooks, err)
	}
	s.Collaborator(t, ref.String(), bot, "admin")
	hooks, err := f.Webhooks(t.Context(), ref)
	if err != nil || len(hooks) != 2 {
		t.Fatalf("webhooks: %+v, %v", hooks, err)
	}
	if hooks[0].Comments == hooks[1].Comments || !hooks[0].Active || !hooks[0].JSON || hooks[0].URL != "http://127.0.0.1:9/hook/gitea" || !strings.HasPrefix(hooks[0].Page, s.URL+"/"+ref.String()+"/settings/hooks/") {
		t.Errorf("webhooks: %+v", hooks)
	}
	for field, closed := range map[string]string{"has_pull_requests": "pull requests are switched off", "archived": "it is archived"} {
		if _, err := s.Do("", "PATCH", "/repos/"+ref.String(), map[string]bool{field: field == "archived"}, nil); err != nil {
			t.Fatal(err)
		}
		look(field, false, closed)
		if _, err := s.Do("", "PATCH", "/repos/"+ref.String(), map[string]bool{field: field != "archived"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Webhooks(t.Context(), ccci.RepoRef{Owner: "recipes", Name: "nothing"}); err == nil || ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("webhooks of nothing: %v", err)
	}
}

func TestA38_Versions(t *testing.T) {
	version := "development"
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/repos/-/-/") {
			t.Errorf("the doctor sends %s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"version":"` + version + `","id":7,"login":"cibot"}`))
	}))
	defer front.Close()
	f := forgeAt(t, front.URL)
	for one, old := range map[string]bool{"development": false, "1.26.0": false, "1.22.0+dev-1": false, "1.21.11": true, "11.0.1+gitea-1.22.0": false, "1.21.11-2+gitea-1.21.11": true, "x.y": false, "": false} {
		version = one
		if d := said(t, f, "version"); d.Warning != old || (d.Code != "") != old || !strings.Contains(d.Message, one) {
			t.Errorf("%q: %+v", one, d)
		}
	}
	front.Close()
	if d := said(t, f, "version"); d.Code != ccci.CodeInfra {
		t.Errorf("away: %+v", d)
	}
}
