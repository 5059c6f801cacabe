package github

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

func TestA4_CacheIsBounded(t *testing.T) {
	c := newConditional(transport(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") != "" {
			return said(304, ""), nil
		}
		return said(200, `"`+strings.Repeat("x", 10_000)+`"`, "ETag", `"e"`, "Content-Type", "application/json"), nil
	}), 100_000)
	get := func(i int) string {
		t.Helper()
		req := request(t.Context(), "GET")
		req.URL.Path = fmt.Sprint("/", i)
		resp, err := c.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || len(text) != 10_002 {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		return resp.Header.Get("X-From-Cache")
	}
	for i := range 50 {
		get(i)
		get(0) // always in use
		if c.size > 100_000 || len(c.byKey) > 10 || len(c.byKey) != c.recency.Len() {
			t.Fatalf("it holds %d bytes in %d answers", c.size, len(c.byKey))
		}
	}
	if get(0) != "1" || get(1) != "" || get(1) != "1" {
		t.Error("what was used last is not what is kept")
	}
}

// An answer that was damaged on its way is not remembered under its good ETag.
func TestA4_DamagedAnswersAreNotKept(t *testing.T) {
	for _, damaged := range []struct{ kind, body string }{{"application/json", `[{"id":1,`}, {"text/html", "<html>"}} {
		c := newConditional(transport(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("If-None-Match") != "" {
				return said(304, ""), nil
			}
			return said(200, damaged.body, "ETag", `"good"`, "Content-Type", damaged.kind), nil
		}), 100_000)
		for range 2 {
			if resp, err := c.RoundTrip(request(t.Context(), "GET")); err != nil || resp.Header.Get("X-From-Cache") != "" {
				t.Errorf("%s came from the cache: %v", damaged.body, err)
			}
		}
	}
}

// What one token saw is not shown to another one.
func TestA4_CacheIsPerToken(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, func(o *Options) { o.LedgerEvery = -1 })
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	if _, err := f.PullRequest(t.Context(), pr); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PullRequest(t.Context(), pr); err != nil || s.Stats().NotModified != 1 {
		t.Errorf("the same token again was not answered by 304: %v", err)
	}
	other, err := New(f.opts)
	if err != nil {
		t.Fatal(err)
	}
	other.opts.Token = ccci.NewSecret(s.Token("eve"))
	s.Stats()
	changed := &authorized{api: f.client.BaseURL, token: fixedToken(other.opts.Token), next: f.client.Client().Transport.(*redirects).next.(*authorized).next}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.APIURL+"repos/recipes/pocketbase/pulls/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.github.v3+json") // as the library does
	resp, err := changed.RoundTrip(req)
	if err != nil || resp.Header.Get("X-From-Cache") != "" {
		t.Errorf("another token got the first one's answer: %v", err)
	}
	if _, err := f.PullRequest(t.Context(), pr); err != nil || s.Stats().NotModified != 1 {
		t.Errorf("the first token's answer was forgotten: %v", err)
	}
}

// An error names the right that was missing.
func TestA7_MissingRightIsNamed(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	for _, status := range []int{403, 404} {
		s.Inject(githubfake.Fault{Method: "POST", Status: status, Body: `{"message":"Resource not accessible by personal access token"}`,
			Header: map[string]string{"X-Accepted-GitHub-Permissions": "issues=write; pull_requests=write"}})
		_, err := f.PostComment(t.Context(), pr, fmt.Sprint(status), "hello")
		if err == nil || !strings.Contains(ccci.HintOf(err), "pull_requests=write") {
			t.Errorf("%d: %v, hint %q", status, err, ccci.HintOf(err))
		}
	}
}

// The adapter reads no field that GitHub does not promise.
func TestA4_FieldsAreRequired(t *testing.T) {
	for schema, fields := range map[string][]string{
		"issue-comment":            {"id", "user.id", "user.login", "user.type", "html_url", "issue_url", "created_at", "updated_at"},
		"pull-request":             {"number", "title", "state", "user.id", "html_url", "head.sha", "head.ref", "head.repo.id", "head.repo.name", "head.repo.owner.login", "base.ref", "base.repo.id", "base.repo.clone_url"},
		"pull-request-simple":      {"number", "head.sha"},
		"activity":                 {"before", "after", "ref", "timestamp"},
		"org-membership":           {"state", "user.id", "user.type"},
		"state-change-issue-event": {"event", "created_at"},
		"check-suite":              {"head_sha", "created_at"},
		"check-run":                {"id", "status", "app.id"},
		"installation-token":       {"token", "expires_at"},
		"private-user":             {"id", "login"},
		"full-repository":          {"name", "owner.login", "clone_url", "default_branch", "archived"},
		"minimal-repository":       {"name", "owner.login"},
		"hook-delivery-item":       {"status", "status_code", "delivered_at"},
		"public-user":              {"id", "login"},
	} {
		for _, field := range fields {
			if !githubfake.Required(schema, strings.Split(field, ".")...) {
				t.Errorf("%s of %s is not promised", field, schema)
			}
		}
	}
}
