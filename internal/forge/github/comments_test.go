package github

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

func create(t testing.TB, s *githubfake.Server, repo ccci.RepoRef) {
	t.Helper()
	if _, err := s.CreateRepo(repo, false); err != nil {
		t.Fatal(err)
	}
}

// pullOn opens a pull request without git: its head stands in no repository.
func pullOn(t testing.TB, s *githubfake.Server, repo ccci.RepoRef) ccci.PRRef {
	t.Helper()
	return s.OpenBarePull(repo, "Update", "ada")
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A poll of many repositories where nothing happens spends nothing. The figure
// includes the fake's own work.
func TestA4_IdlePollingIsFree(t *testing.T) {
	const repositories = 300
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, func(o *Options) { o.LedgerEvery = time.Nanosecond }) // every look at its dearest
	cursors := map[ccci.RepoRef]ccci.Cursor{}
	for i := range repositories {
		repo := ccci.RepoRef{Owner: "recipes", Name: fmt.Sprintf("app%d", i)}
		create(t, s, repo)
		pr := pullOn(t, s, repo)
		s.Comment(pr, "ada", "hello")
		cursors[repo] = ""
	}
	sweep := func() {
		t.Helper()
		for repo, cursor := range cursors {
			_, next, err := f.Comments(t.Context(), repo, cursor)
			if err != nil {
				t.Fatal(err)
			}
			cursors[repo] = next
		}
	}
	for range 3 { // everything is new; the cursors have moved; the heads are looked at
		s.Advance(time.Second)
		sweep()
	}
	s.Stats()
	start, cpu := time.Now(), cpuTime()
	for range 3 {
		s.Advance(time.Second) // so that the ledger is due again
		sweep()
	}
	took, spent := time.Since(start)/3, (cpuTime()-cpu)/3
	stats := s.Stats()
	if stats.Points != 0 || stats.NotModified != 3*2*repositories || stats.Requests != stats.NotModified {
		t.Errorf("three idle sweeps: %+v; want no points and %d answers of 304", stats, 3*2*repositories)
	}
	t.Logf("an idle sweep of %d repositories, comments and heads: %s, %s of CPU with the fake's share, 0 primary points", repositories, took, spent)
	if spent > 10*time.Second {
		t.Errorf("a sweep took %s of CPU", spent)
	}
	if rate := f.Rate(); rate.Limit != 5000 || rate.Remaining == 0 {
		t.Errorf("the limit is known as %+v", rate)
	}
	quiet := ccci.RepoRef{Owner: "recipes", Name: "app7"}
	s.Comment(ccci.PRRef{Repo: quiet, Number: 1}, "ada", "!testme")
	got, _, err := f.Comments(t.Context(), quiet, cursors[quiet])
	if err != nil || len(got) == 0 || got[len(got)-1].Body != "!testme" {
		t.Errorf("after a comment: %+v, %v", got, err)
	}
}

func TestU14_ManyCommentsMissNone(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	issue := s.OpenIssue(repo, "an issue", "ada")
	for i := range 250 {
		s.Comment(pr, "ada", fmt.Sprint(i))
		if i%3 == 0 {
			s.SameSecond()
		}
	}
	s.Comment(issue, "ada", "!testme on an issue")
	all, cursor, err := f.Comments(t.Context(), repo, "")
	if err != nil || len(all) != 250 {
		t.Fatalf("got %d comments, %v; want 250", len(all), err)
	}
	if !slices.IsSortedFunc(all, func(a, b ccci.Comment) int { return a.Created.Compare(b.Created) }) {
		t.Error("they are not in order")
	}
	for i := range 150 { // while nobody looked
		s.Comment(pr, "ada", fmt.Sprint("late ", i))
	}
	rest, _, err := f.Comments(t.Context(), repo, cursor)
	seen := map[string]bool{}
	for _, c := range rest {
		seen[c.Body] = true
	}
	for i := range 150 {
		if !seen[fmt.Sprint("late ", i)] {
			t.Fatalf("comment %d of 150 is missing (%v)", i, err)
		}
	}
}

// A comment that GitHub shows later than a younger one is not left out.
func TestU14_LateComment(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	s.Comment(pr, "ada", "first")
	_, cursor, err := f.Comments(t.Context(), repo, "")
	if err != nil {
		t.Fatal(err)
	}
	s.Advance(-30 * time.Second)
	s.Comment(pr, "ada", "late")
	got, next, err := f.Comments(t.Context(), repo, cursor)
	if err != nil || !slices.ContainsFunc(got, func(c ccci.Comment) bool { return c.Body == "late" }) || next != cursor {
		t.Errorf("got %+v, cursor %s after %s, %v", got, next, cursor, err)
	}
	if _, _, err := f.Comments(t.Context(), repo, "yesterday"); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("a cursor of another forge: %v", err)
	}
}

// Where nothing was ever written there is a cursor all the same, so that a
// comment written while cc-ci is down is not taken for one from before its time.
func TestU14_EmptyRepositoryHasABeginning(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	got, cursor, err := f.Comments(t.Context(), repo, "")
	if err != nil || len(got) != 0 || cursor == "" {
		t.Errorf("got %v, cursor %q, %v", got, cursor, err)
	}
}

func TestA6_DoubtfulCommentsAreMarked(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	s.Comment(pr, "ada", "!testme")
	s.Minimize(repo, s.Comment(pr, "ada", "!testme"))
	s.ViaApp(repo, s.Comment(pr, "ada", "!testme"))
	got, _, err := f.Comments(t.Context(), repo, "")
	if err != nil || len(got) != 3 || got[0].Edited || !got[1].Edited || !got[2].Edited {
		t.Errorf("a plain one, a hidden one, one by an app in her name: %+v, %v", got, err)
	}
}

func TestA4_TroubleCanBeRetried(t *testing.T) {
	for name, fault := range map[string]githubfake.Fault{
		"502":                     {Status: 502, Body: "<html>bad gateway</html>", Header: map[string]string{"Content-Type": "text/html"}},
		"404 of a proxy":          {Status: 404, Body: "<html>not found</html>", Header: map[string]string{"Content-Type": "text/html"}},
		"200 of a captive portal": {Status: 200, Body: "<html>log in</html>", Header: map[string]string{"Content-Type": "text/html", "ETag": `"portal"`}},
		"a truncated answer":      {Status: 200, Body: `[{"id":1,`, Header: map[string]string{"ETag": `"half"`}},
		"an empty answer":         {Status: 200},
		"null":                    {Status: 200, Body: "null"},
		"an object":               {Status: 200, Body: "{}", Header: map[string]string{"ETag": `"odd"`}},
		"a broken connection":     {Hangup: true},
		"401":                     {Status: 401, Body: `{"message":"Bad credentials"}`},
		"a secondary limit":       {Status: 403, Body: `{"message":"x"}`, Header: map[string]string{"Retry-After": "10"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, githubfake.Options{})
			f := adapter(t, s, func(o *Options) { o.LedgerEvery = -1 })
			create(t, s, repo)
			s.Comment(pullOn(t, s, repo), "ada", "hello")
			fault.Times = 3 // Go repeats what a connection broke off under
			s.Inject(fault)
			for range 3 {
				_, cursor, err := f.Comments(t.Context(), repo, "")
				if err == nil || errors.Is(err, ccci.ErrNotFound) || ccci.CodeOf(err) != ccci.CodeInfra || cursor != "" {
					t.Errorf("got cursor %q, %v; want an error that can be retried", cursor, err)
				}
				s.Advance(10 * time.Second)
			}
			s.ClearFaults()
			if got, _, err := f.Comments(t.Context(), repo, ""); err != nil || len(got) != 1 {
				t.Errorf("afterwards: %v, %v", got, err)
			}
		})
	}
}

func TestU14_RenamedRepository(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, func(o *Options) { o.LedgerEvery = -1 })
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	s.Comment(pr, "ada", "before")
	s.RenameRepo(repo, ccci.RepoRef{Owner: "recipes", Name: "pocketbase2"})
	got, _, err := f.Comments(t.Context(), repo, "")
	if err != nil || len(got) != 1 || got[0].PR != pr {
		t.Fatalf("by the former name: %+v, %v", got, err)
	}
	s.Stats()
	if _, _, err := f.Comments(t.Context(), repo, ""); err != nil {
		t.Fatal(err)
	}
	if stats := s.Stats(); stats.Points != 0 || stats.Requests != 1 {
		t.Errorf("the next poll: %+v; want one request, free", stats)
	}
	id, err := f.PostComment(t.Context(), pr, "k", "hello") // a write stays a write
	if thread := s.Thread(ccci.PRRef{Repo: ccci.RepoRef{Owner: "recipes", Name: "pocketbase2"}, Number: 1}); err != nil || len(thread) != 2 || thread[1].ID != id {
		t.Errorf("PostComment = %s, %v; the thread is %+v", id, err, thread)
	}
}

// The token goes to the API's host and to no other.
func TestC32_A7_RedirectsStayOnTheHost(t *testing.T) {
	asked := make(chan string, 10)
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		w.Write([]byte("[]"))
	})
	for _, status := range []int{301, 302, 307, 308} {
		s := newFake(t, githubfake.Options{})
		f := adapter(t, s, nil)
		s.Inject(githubfake.Fault{Status: status, Header: map[string]string{"Location": elsewhere + "/api/v3/repositories/1/issues/comments"}, Body: "{}"})
		if _, _, err := f.Comments(t.Context(), repo, ""); err == nil || !strings.Contains(err.Error(), "another host") {
			t.Errorf("%d to another host: %v", status, err)
		}
	}
	select {
	case header := <-asked:
		t.Errorf("another host was asked, with the token %q", header)
	default:
	}
	if _, err := New(Options{APIURL: "http://github.example.org/api/v3/", Token: ccci.NewSecret("t")}); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("a token over plain http: %v", err)
	}
}
