package github

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

func TestA36_Discover(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	var all, tagged []ccci.RepoRef
	for i := range 120 {
		ref := ccci.RepoRef{Owner: "recipes", Name: fmt.Sprintf("app%03d", i)}
		create(t, s, ref)
		var topics, teams []string
		if i%10 == 0 {
			topics, teams = []string{"self-hosted", "cc-ci"}, []string{"ci"}
		}
		s.Describe(ref, i == 50, topics, teams)
		if i != 50 {
			all = append(all, ref)
			if i%10 == 0 {
				tagged = append(tagged, ref)
			}
		}
	}
	create(t, s, ccci.RepoRef{Owner: "others", Name: "app"})
	for name, test := range map[string]struct {
		find Find
		want []ccci.RepoRef
		code ccci.Code
	}{
		"an organisation": {Find{Org: "recipes"}, all, ""},
		"a topic":         {Find{Org: "recipes", Topic: "cc-ci"}, tagged, ""},
		"a team":          {Find{Org: "recipes", Team: "ci"}, tagged, ""},
		"no such team":    {Find{Org: "recipes", Team: "nobody"}, nil, ccci.CodeNotFound},
		"no organisation": {Find{Topic: "cc-ci"}, nil, ccci.CodeInvalid},
	} {
		f := adapter(t, s, func(o *Options) { o.Find = test.find })
		got, err := f.Discover(t.Context())
		if !slices.Equal(got, test.want) || (err == nil) != (test.code == "") || err != nil && ccci.CodeOf(err) != test.code {
			t.Errorf("%s: %d repositories, %v; want %d", name, len(got), err, len(test.want))
		}
		s.Inject(githubfake.Fault{Path: "/orgs/", Status: 502})
		if got, err := f.Discover(t.Context()); err == nil || got != nil {
			t.Errorf("%s, in trouble: %v, %v", name, got, err)
		}
		s.ClearFaults()
	}
	f := adapter(t, s, nil)
	s.RenameRepo(ccci.RepoRef{Owner: "recipes", Name: "app001"}, ccci.RepoRef{Owner: "recipes", Name: "renamed"})
	got, err := f.Repository(t.Context(), ccci.RepoRef{Owner: "recipes", Name: "app001"})
	if err != nil || got.Ref.Name != "renamed" || got.Branch != "main" || !strings.HasSuffix(got.CloneURL, "/recipes/renamed.git") {
		t.Errorf("a renamed repository: %+v, %v", got, err)
	}
	if _, err := f.Repository(t.Context(), ccci.RepoRef{Owner: "recipes", Name: "none"}); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("no repository: %v", err)
	}
}

func TestA38_Diagnose(t *testing.T) {
	s := newFake(t, githubfake.Options{Limit: 40})
	find := func(f *Forge, check string) ccci.Diagnosis {
		t.Helper()
		all := f.Diagnose(t.Context())
		i := slices.IndexFunc(all, func(d ccci.Diagnosis) bool { return strings.HasSuffix(d.Check, ": "+check) })
		if i < 0 {
			return ccci.Diagnosis{}
		}
		return all[i]
	}
	token := s.Token("cc-ci")
	f := adapter(t, s, func(o *Options) { o.Token = ccci.NewSecret(token) })
	if d := find(f, "rights"); d.Code != "" || !strings.Contains(d.Message, "fine-grained") {
		t.Errorf("a fine-grained token: %+v", d)
	}
	s.SetScopes(token, "public_repo", "repo:status")
	if d := find(f, "rights"); d.Code != ccci.CodeRefused || !strings.Contains(d.Message, "read:org") || strings.Contains(d.Message, "repo:status") {
		t.Errorf("a token without read:org: %+v", d)
	}
	s.SetScopes(token, "repo", "admin:org")
	if d := find(f, "rights"); d.Code != "" {
		t.Errorf("a token with wider scopes: %+v", d)
	}
	s.SetExpiry(token, s.Now().Add(100*24*time.Hour))
	if d := find(f, "token"); d.Code != "" {
		t.Errorf("a token for 100 days: %+v", d)
	}
	s.SetExpiry(token, s.Now().Add(3*24*time.Hour))
	if d := find(f, "token"); !d.Warning || d.Code == "" || d.Hint == "" {
		t.Errorf("a token for 3 days: %+v", d)
	}
	if d := find(f, "limit"); d.Code != "" {
		t.Errorf("most of the limit is left: %+v", d)
	}
	for range 31 {
		f.Diagnose(t.Context())
	}
	if d := find(f, "limit"); !d.Warning || d.Code != ccci.CodeInfra {
		t.Errorf("little of the limit is left: %+v", d)
	}
	for range 3 {
		f.Diagnose(t.Context())
	}
	if d := find(f, "limit"); d.Warning || d.Code != ccci.CodeInfra {
		t.Errorf("nothing of the limit is left: %+v", d)
	}

	app := adapter(t, s, newApp(t, s))
	if d := find(app, "rights"); d.Code != "" {
		t.Errorf("an App: %+v", d)
	}
	s.SetPermissions("cc-ci-app", map[string]any{"pull_requests": "read", "statuses": "write", "contents": "write"})
	if d := find(app, "rights"); d.Code != ccci.CodeRefused || !strings.HasSuffix(d.Message, "lacks Members: read, Pull requests: write, Checks: write") {
		t.Errorf("an App without rights: %+v", d)
	}
	s.AddDelivery("cc-ci-app", 502, "failed to connect")
	if d := find(app, "webhook deliveries"); !d.Warning || d.Code == "" || !strings.Contains(d.Message, "failed to connect") {
		t.Errorf("webhooks that do not arrive: %+v", d)
	}
	s.AddDelivery("cc-ci-app", 202, "OK")
	if d := find(app, "webhook deliveries"); d.Code != "" || d.Message == "" {
		t.Errorf("webhooks that arrive: %+v", d)
	}
}

// editing changes bodies of answers on their way, as "old" to "new".
type editing struct {
	next     http.RoundTripper
	old, new string
}

func (e editing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	text = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	resp.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return resp, nil
}

// Whether the account may write is GitHub's word; of an App it says nothing.
func TestU13_WriteAccessIsRead(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	ref := ccci.RepoRef{Owner: "recipes", Name: "app"}
	create(t, s, ref)
	said := func(push string) func(*Options) {
		return func(o *Options) {
			o.Transport = editing{&http.Transport{DisableKeepAlives: true}, `"archived":false`, `"archived":false,"permissions":{"admin":false,"pull":true,"push":` + push + `}`}
		}
	}
	for _, test := range []struct {
		name     string
		change   []func(*Options)
		readOnly bool
	}{
		{"GitHub says nothing", nil, false},
		{"a writer", []func(*Options){said("true")}, false},
		{"a reader", []func(*Options){said("false")}, true},
		{"an App", []func(*Options){newApp(t, s), said("false")}, false},
	} {
		f := adapter(t, s, func(o *Options) {
			for _, change := range test.change {
				change(o)
			}
		})
		if got, err := f.Repository(t.Context(), ref); err != nil || got.ReadOnly != test.readOnly || got.Closed != "" {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	s.Describe(ref, true, nil, nil)
	if got, err := adapter(t, s, nil).Repository(t.Context(), ref); err != nil || got.Closed != "it is archived" {
		t.Errorf("an archived one: %+v, %v", got, err)
	}
}
