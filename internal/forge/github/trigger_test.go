package github

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/bus/inproc"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// GitHub's delivery starts the job long before polling would; one that is not GitHub's starts none.
func TestK6_TheJobRunsWhenGitHubTriggersTheHook(t *testing.T) {
	st := newStage(t, false)
	st.s.SetMember("coop", "ada", "active")
	st.s.SetMember("coop", "cc-ci", "active")
	store, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "cc-ci.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	blobs, err := dirblob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bus, engine := &inproc.Bus{}, &instant{t: t, blobs: blobs}
	b, err := bridge.New(bridge.Config{Forge: adapter(t, st.s, nil), Engine: engine, Store: store, Bus: bus, Locker: &inproc.Locker{}, Blobs: blobs, Bases: noBases,
		Repos: []bridge.Repo{{Ref: repo, Recipe: "pocketbase", Org: "coop"}}, PollInterval: 30 * time.Second, EditGap: time.Millisecond,
		Jitter: func() float64 { return 0.99 }, // the second look comes after 29 s
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	keys := []ccci.Secret{ccci.NewSecret("the key")}
	handler, err := hook.New(hook.Options{
		Sources: []hook.Source{{Name: "github.test", Signatures: []string{"X-Hub-Signature-256"}, Verify: func(h http.Header, body []byte) (ccci.RepoRef, string, bool, error) {
			return ParseWebhook(h, body, keys)
		}}},
		Publish: func(ctx context.Context, forge string, repo ccci.RepoRef) error {
			return bus.Publish(ctx, ccci.TopicForge, ccci.ForgeHint(forge, repo))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	jobs := func() int {
		engine.mu.Lock()
		defer engine.mu.Unlock()
		return len(engine.jobs)
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	await("the first look to end", func() bool {
		cursor, err := store.Cursor(ctx, "github.test", repo)
		return err == nil && cursor != ""
	})

	comment := st.s.Comment(st.pr, "ada", "!testme")
	deliver := func(key string) int {
		header, body := st.s.Delivery(repo, comment, "created", key)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/hook/github.test", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if code := deliver("another key"); code != http.StatusForbidden && code != http.StatusUnauthorized || jobs() != 0 {
		t.Errorf("a forged delivery is answered with %d; %d jobs", code, jobs())
	}
	delivered := time.Now()
	if code := deliver("the key"); code != http.StatusAccepted {
		t.Errorf("the delivery is answered with %d", code)
	}
	await("the job", func() bool { return jobs() > 0 })
	if took := time.Since(delivered); took > 8*time.Second {
		t.Errorf("the job began %s after the delivery", took)
	} else {
		t.Logf("the job began %s after the delivery", took.Round(time.Millisecond))
	}
	if job := engine.jobs[0]; job.Commit != st.head || job.PR != st.pr {
		t.Errorf("it is about %+v", job)
	}
	deliver("the key") // again: nothing runs twice
	await("the end", func() bool {
		got := st.s.Statuses(repo, st.head)
		return len(got) == 1 && got[0].State == ccci.StateSuccess
	})
	if jobs() != 1 {
		t.Errorf("%d jobs began", jobs())
	}
	http.DefaultClient.CloseIdleConnections()
}

// Without another address it speaks to GitHub's own, encrypted, and to nobody else.
func TestC32_RequestsGoToGitHubItself(t *testing.T) {
	var asked []string
	f, err := New(Options{Token: ccci.NewSecret("token"), Transport: transport(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.String())
		answer := `{"id":7,"login":"cc-ci"}`
		if strings.HasPrefix(r.URL.Path, "/repos/") {
			answer = `{"name":"app","owner":{"login":"recipes"},"clone_url":"https://github.com/recipes/app.git","default_branch":"main"}`
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	if f.Name() != "github.com" {
		t.Errorf("it is called %q", f.Name())
	}
	if _, err := f.Self(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := f.Repository(t.Context(), ccci.RepoRef{Owner: "recipes", Name: "app"})
	if err != nil || got.CloneURL != "https://github.com/recipes/app.git" {
		t.Errorf("%+v, %v", got, err)
	}
	if len(asked) != 2 || asked[0] != "https://api.github.com/user" || asked[1] != "https://api.github.com/repos/recipes/app" {
		t.Errorf("it asked %q", asked)
	}
}
