package gitea

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	server "github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// One Gitea serves all tests of the package that do not harm it.
var shared struct {
	once   sync.Once
	server *server.Server
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Close()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func gitea(t testing.TB) *server.Server {
	t.Helper()
	binary := peers.Binary(t, peers.Gitea)
	shared.once.Do(func() { shared.server, shared.err = server.Open(binary) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

var repo = ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}

const bot = "cibot"

var scopes = []string{"write:issue", "write:repository", "read:organization", "read:user"}

// connect makes an adapter that acts as the bot.
func connect(t testing.TB, s *server.Server, change ...func(*Options)) *Forge {
	t.Helper()
	s.User(t, bot)
	opts := Options{URL: s.URL, Token: ccci.NewSecret(s.Token(t, bot, scopes...))}
	for _, f := range change {
		f(&opts)
	}
	if opts.Transport == nil {
		transport := &http.Transport{MaxIdleConnsPerHost: 16}
		t.Cleanup(transport.CloseIdleConnections)
		opts.Transport = transport
	}
	f, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// clean makes an empty repository that the bot may write to.
func clean(t testing.TB, s *server.Server, repo ccci.RepoRef) (pushURL string) {
	t.Helper()
	s.DeleteRepo(t, repo.String())
	url := s.CreateRepo(t, repo.String(), false)
	s.Collaborator(t, repo.String(), bot, "write")
	return url
}

// nextSecond waits until the forge's clock, which is this machine's, shows another
// second: its times are whole seconds, so an edit within the same one cannot be seen.
func nextSecond() {
	now := time.Now()
	time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
}

func TestConformance(t *testing.T) {
	s := gitea(t)
	// It takes seconds to store one huge comment; how many there may be is shown in comments_test.go.
	forgetest.Run(t, forgetest.Options{Many: 3, Open: func(t *testing.T) forgetest.World {
		s.DeleteRepo(t, repo.String())
		s.AddMember(t, "coop", bot)
		number := func(id ccci.CommentID) int64 { n, _ := commentNumber(id); return n }
		return forgetest.World{
			Forge:      connect(t, s),
			Reopen:     func() ccci.Forge { return connect(t, s) },
			CreateRepo: func(repo ccci.RepoRef) string { return clean(t, s, repo) },
			OpenPullRequest: func(repo ccci.RepoRef, title, branch, base, author string) ccci.PRRef {
				s.Collaborator(t, repo.String(), author, "read")
				return ccci.PRRef{Repo: repo, Number: s.OpenPull(t, repo.String(), author, title, branch, base)}
			},
			ClosePull: func(pr ccci.PRRef) { s.ClosePull(t, pr.Repo.String(), pr.Number) },
			MergePull: func(pr ccci.PRRef, style string, _ func() ccci.Commit) ccci.Commit {
				return ccci.Commit(s.MergePull(t, pr.Repo.String(), pr.Number, style))
			},
			User:      func(name string) ccci.User { return account{s.User(t, name), name}.user() },
			AddMember: func(org, user string) { s.AddMember(t, org, user) },
			Comment: func(pr ccci.PRRef, author, body string) ccci.CommentID {
				return commentID(s.Comment(t, pr.Repo.String(), pr.Number, author, body))
			},
			EditUserComment: func(pr ccci.PRRef, id ccci.CommentID, body string) {
				nextSecond()
				s.EditComment(t, pr.Repo.String(), number(id), "", body)
			},
			Thread: func(pr ccci.PRRef) []ccci.Comment {
				var rows []row
				if _, err := s.Do("", "GET", fmt.Sprintf("/repos/%s/issues/%d/comments", pr.Repo, pr.Number), nil, &rows); err != nil {
					t.Fatal(err)
				}
				var out []ccci.Comment
				for _, r := range rows {
					out = append(out, r.comment(pr.Repo))
				}
				return out
			},
			Statuses: func(repo ccci.RepoRef, commit ccci.Commit) []ccci.CommitStatus { return statuses(t, s, repo, commit) },
		}
	}})
}

// statuses are the latest of each context, by context.
func statuses(t testing.TB, s *server.Server, repo ccci.RepoRef, commit ccci.Commit) []ccci.CommitStatus {
	t.Helper()
	var all struct {
		Statuses []struct {
			Context, Description string
			Status               ccci.StatusState
			URL                  string `json:"target_url"`
		}
	}
	if _, err := s.Do("", "GET", fmt.Sprintf("/repos/%s/commits/%s/status", repo, commit), nil, &all); err != nil {
		t.Fatal(err)
	}
	var out []ccci.CommitStatus
	for _, one := range all.Statuses {
		out = append(out, ccci.CommitStatus{Context: one.Context, State: one.Status, Description: one.Description, URL: one.URL})
	}
	slices.SortFunc(out, func(a, b ccci.CommitStatus) int { return strings.Compare(a.Context, b.Context) })
	return out
}
