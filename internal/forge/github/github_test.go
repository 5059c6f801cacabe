package github

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

var repo = ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}

// newFake starts a GitHub. In the end neither requests nor answers may have been
// other than GitHub describes them: this is the contract test of every test here.
func newFake(t testing.TB, opts githubfake.Options) *githubfake.Server {
	t.Helper()
	opts.Dir = t.TempDir()
	s, err := githubfake.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, problem := range s.Problems() {
			t.Error("not as GitHub's OpenAPI says: " + problem)
		}
	})
	return s
}

// adapter is one with a token of cc-ci's account, in the fake's time.
func adapter(t testing.TB, s *githubfake.Server, change func(*Options)) *Forge {
	t.Helper()
	opts := Options{APIURL: s.APIURL, Name: "github.test", Token: ccci.NewSecret(s.Token("cc-ci")),
		WriteGap: -1, PointsRate: -1, Now: s.Now, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&opts)
	}
	f, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func world(t *testing.T, s *githubfake.Server, open func() ccci.Forge) forgetest.World {
	return forgetest.World{
		Forge:  open(),
		Reopen: open,
		CreateRepo: func(repo ccci.RepoRef) string {
			url, err := s.CreateRepo(repo, false)
			if err != nil {
				t.Fatal(err)
			}
			return url
		},
		OpenPullRequest: func(repo ccci.RepoRef, title, branch, base, author string) ccci.PRRef {
			return s.OpenPull(repo, repo, title, branch, base, author)
		},
		ClosePull: s.ClosePull,
		MergePull: func(pr ccci.PRRef, _ string, push func() ccci.Commit) ccci.Commit {
			commit := push()
			s.MergePull(pr, commit)
			return commit
		},
		User:            s.User,
		AddMember:       func(org, user string) { s.SetMember(org, user, "active"); s.SetMember(org, "cc-ci", "active") },
		Comment:         s.Comment,
		EditUserComment: func(pr ccci.PRRef, id ccci.CommentID, body string) { s.ChangeComment(pr.Repo, id, body) },
		Thread:          s.Thread,
		Statuses:        s.Statuses,
	}
}

// huge is the longest comment that GitHub takes, in the characters that take the most bytes.
var huge = strings.Repeat("😀", githubfake.BodyLimit)

func TestConformance(t *testing.T) {
	forgetest.Run(t, forgetest.Options{Huge: huge, Many: 100, Open: func(t *testing.T) forgetest.World {
		s := newFake(t, githubfake.Options{})
		return world(t, s, func() ccci.Forge { return adapter(t, s, nil) })
	}})
}

func TestConformanceAsApp(t *testing.T) {
	if testing.Short() {
		t.Skip("the suite runs once already, with a token")
	}
	forgetest.Run(t, forgetest.Options{Huge: huge, Many: 100, Open: func(t *testing.T) forgetest.World {
		s := newFake(t, githubfake.Options{})
		app := newApp(t, s)
		return world(t, s, func() ccci.Forge { return adapter(t, s, app) })
	}})
}

// serve starts a server and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}
