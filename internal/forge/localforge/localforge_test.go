package localforge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var repo = ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}

func open(t testing.TB, dir string) *Forge {
	t.Helper()
	f, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// must returns a function that fails the test on an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		if err != nil {
			t.Helper()
			t.Error(err)
		}
		return v
	}
}

func TestConformance(t *testing.T) {
	forgetest.Run(t, forgetest.Options{Open: func(t *testing.T) forgetest.World {
		dir, ctx := t.TempDir(), t.Context()
		f := open(t, dir)
		ok := func(err error) { must[any](t)(nil, err) }
		return forgetest.World{
			Forge:      f,
			Reopen:     func() ccci.Forge { return open(t, dir) },
			CreateRepo: func(repo ccci.RepoRef) string { return must[string](t)(f.CreateRepo(ctx, repo)) },
			OpenPullRequest: func(repo ccci.RepoRef, title, branch, base, author string) ccci.PRRef {
				return must[ccci.PullRequest](t)(f.OpenPullRequest(ctx, repo, title, branch, base, author)).Ref
			},
			ClosePull: func(pr ccci.PRRef) { ok(f.ClosePullRequest(ctx, pr)) },
			MergePull: func(_ ccci.PRRef, _ string, push func() ccci.Commit) ccci.Commit { return push() },
			User:      func(name string) ccci.User { return must[ccci.User](t)(f.User(ctx, name)) },
			AddMember: func(org, user string) { ok(f.AddMember(ctx, org, user)) },
			Comment: func(pr ccci.PRRef, author, body string) ccci.CommentID {
				return must[ccci.CommentID](t)(f.AddComment(ctx, pr, author, body))
			},
			EditUserComment: func(pr ccci.PRRef, id ccci.CommentID, body string) { ok(f.EditUserComment(ctx, pr, id, body)) },
			Thread:          func(pr ccci.PRRef) []ccci.Comment { return must[[]ccci.Comment](t)(f.ThreadOf(ctx, pr)) },
			Statuses: func(repo ccci.RepoRef, commit ccci.Commit) []ccci.CommitStatus {
				return must[[]ccci.CommitStatus](t)(f.Statuses(ctx, repo, commit))
			},
		}
	}})
}

// scene is a forge with one pull request.
func scene(t *testing.T) (*Forge, *forgetest.Work, ccci.PRRef) {
	t.Helper()
	f := open(t, t.TempDir())
	work := forgetest.NewWork(t, must[string](t)(f.CreateRepo(t.Context(), repo)))
	work.Commit("main", "compose.yml", "a")
	work.Commit("update", "compose.yml", "b")
	return f, work, must[ccci.PullRequest](t)(f.OpenPullRequest(t.Context(), repo, "Update", "update", "main", "ada")).Ref
}

func TestNamesAreChecked(t *testing.T) {
	f := open(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "-x", "a..b", "x.git", "x.lock", "a b", "é", strings.Repeat("x", 101)} {
		_, err1 := f.CreateRepo(t.Context(), ccci.RepoRef{Owner: name, Name: "x"})
		_, err2 := f.CreateRepo(t.Context(), ccci.RepoRef{Owner: "x", Name: name})
		_, err3 := f.User(t.Context(), name)
		for _, err := range []error{err1, err2, err3, f.AddMember(t.Context(), name, "ada")} {
			if err == nil {
				t.Errorf("%q was accepted as a name", name)
			}
		}
	}
	if entries, err := os.ReadDir(filepath.Join(f.opts.Dir, "git")); err == nil && len(entries) > 0 {
		t.Errorf("refused names left %v", entries)
	}
}

func TestCreateRepoTwice(t *testing.T) {
	f := open(t, t.TempDir())
	must[string](t)(f.CreateRepo(t.Context(), repo))
	if _, err := f.CreateRepo(t.Context(), repo); ccci.CodeOf(err) != ccci.CodeConflict {
		t.Errorf("a second time: %v, want CodeConflict", err)
	}
	other := ccci.RepoRef{Owner: "recipes", Name: "another"}
	must[string](t)(f.CreateRepo(t.Context(), other))
	if got := must[[]ccci.RepoRef](t)(f.Repos(t.Context())); !slices.Equal(got, []ccci.RepoRef{other, repo}) {
		t.Errorf("Repos = %v", got)
	}
}

func TestImportRepo(t *testing.T) {
	work := forgetest.NewWork(t, "")
	work.Git("checkout", "--quiet", "-B", "trunk")
	work.Git("commit", "--quiet", "--allow-empty", "--message", "one")
	work.Git("tag", "1.0.0+1")
	work.Git("tag", "--annotate", "--message", "two", "2.0.0+2")
	f := open(t, t.TempDir())
	path := must[string](t)(f.ImportRepo(t.Context(), repo, work.Dir()))
	clone := forgetest.NewWork(t, path)
	clone.Git("clone", "--quiet", path, "copy")
	if got := clone.Git("-C", "copy", "tag", "--list") + " " + clone.Git("-C", "copy", "branch", "--show-current"); got != "1.0.0+1\n2.0.0+2 trunk" {
		t.Errorf("a clone has %q", got)
	}
	_, err := f.ImportRepo(t.Context(), ccci.RepoRef{Owner: "recipes", Name: "none"}, t.TempDir())
	if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
		t.Errorf("a folder without git: %v, want CodeInvalid and a hint", err)
	}
	if repos := must[[]ccci.RepoRef](t)(f.Repos(t.Context())); len(repos) != 1 {
		t.Errorf("a refused import left %v", repos)
	}
}

func TestOpenPullRequestRefuses(t *testing.T) {
	f, work, pr := scene(t)
	for _, test := range []struct {
		name                string
		repo                ccci.RepoRef
		title, branch, base string
		want                ccci.Code
	}{
		{"unknown repository", ccci.RepoRef{Owner: "x", Name: "y"}, "t", "update", "main", ccci.CodeNotFound},
		{"unknown branch", repo, "t", "nope", "main", ccci.CodeNotFound},
		{"unknown base", repo, "t", "update", "nope", ccci.CodeNotFound},
		{"branch that reads as an option", repo, "t", "--upload-pack=x", "main", ccci.CodeNotFound},
		{"no title", repo, "", "update", "main", ccci.CodeInvalid},
		{"branch is base", repo, "t", "main", "main", ccci.CodeInvalid},
		{"branch in use", repo, "t", "update", "main", ccci.CodeConflict},
	} {
		if _, err := f.OpenPullRequest(t.Context(), test.repo, test.title, test.branch, test.base, "ada"); err == nil || ccci.CodeOf(err) != test.want {
			t.Errorf("%s: %v, want code %s", test.name, err, test.want)
		}
	}
	must[any](t)(nil, f.ClosePullRequest(t.Context(), pr))
	must[any](t)(nil, f.ClosePullRequest(t.Context(), pr))
	second := must[ccci.PullRequest](t)(f.OpenPullRequest(t.Context(), repo, "Again", "update", "main", "ada"))
	if second.Ref.Number != 2 {
		t.Errorf("the second pull request has number %d", second.Ref.Number)
	}
	work.Git("push", "--quiet", second.CloneURL, ":update")
	pulls := must[[]ccci.PullRequest](t)(f.PullRequests(t.Context(), repo))
	if len(pulls) != 2 || pulls[0].Ref != second.Ref || pulls[0].Head != second.Head || pulls[1].Open {
		t.Errorf("with the branch deleted, PullRequests = %+v", pulls)
	}
}

func TestN1_DeletedBranch(t *testing.T) {
	f, work, pr := scene(t)
	before := must[ccci.CommentID](t)(f.AddComment(t.Context(), pr, "ada", "!testme"))
	head := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr)).Head
	work.Git("push", "--quiet", f.path(repo), ":update")
	if got, err := f.HeadAt(t.Context(), pr, ccci.Comment{ID: before}); got != head || !errors.Is(err, ccci.ErrHeadMoved) {
		t.Errorf("HeadAt = %s, %v; want %s, ErrHeadMoved", got, err, head)
	}
	after := must[ccci.CommentID](t)(f.AddComment(t.Context(), pr, "ada", "!testme"))
	if got, err := f.HeadAt(t.Context(), pr, ccci.Comment{ID: after}); got != "" || !errors.Is(err, ccci.ErrHeadUnknown) {
		t.Errorf("without a branch HeadAt = %s, %v; want ErrHeadUnknown", got, err)
	}
}

// Old clients, which speak git's protocol 0, get the approved commit too.
func TestA8_FetchWithOldProtocol(t *testing.T) {
	f, work, pr := scene(t)
	approved := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr))
	work.Git("reset", "--quiet", "--hard", "main")
	work.Commit("update", "other", "x") // leaves the approved commit on no branch
	checkout := forgetest.NewWork(t, approved.CloneURL)
	checkout.Git("-c", "protocol.version=0", "fetch", "--quiet", approved.CloneURL, string(approved.Head))
	if got := checkout.Git("rev-parse", "FETCH_HEAD"); got != string(approved.Head) {
		t.Errorf("fetched %s, want %s", got, approved.Head)
	}
}

// Pushes and comments race; what a comment approves was the head at some moment
// while it was being written, and never something pushed after.
func TestN1_PushRacesComment(t *testing.T) {
	f, work, pr := scene(t)
	for i := range 10 {
		before := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr)).Head
		pushed := make(chan struct{})
		go func() {
			defer close(pushed)
			work.Commit("update", "f", fmt.Sprint(i))
		}()
		id := must[ccci.CommentID](t)(f.AddComment(t.Context(), pr, "ada", "!testme"))
		at := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr)).Head
		<-pushed
		got, err := f.HeadAt(t.Context(), pr, ccci.Comment{ID: id})
		if got != before && got != at {
			t.Errorf("HeadAt = %s; the head was %s before and %s after the comment", got, before, at)
		}
		if now := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr)).Head; (got != now) != errors.Is(err, ccci.ErrHeadMoved) {
			t.Errorf("HeadAt = %s, %v while the head is %s", got, err, now)
		}
	}
}

func TestAddComment(t *testing.T) {
	var told []ccci.RepoRef
	f, _, pr := scene(t)
	f.opts.OnComment = func(r ccci.RepoRef) { told = append(told, r) }
	must[ccci.CommentID](t)(f.AddComment(t.Context(), pr, "ada", "hello"))
	must[ccci.CommentID](t)(f.PostComment(t.Context(), pr, "k", "hello yourself"))
	if !slices.Equal(told, []ccci.RepoRef{repo}) {
		t.Errorf("OnComment was told %v, want once", told)
	}
	if _, err := f.AddComment(t.Context(), pr, "cc-ci", "!testme"); ccci.CodeOf(err) != ccci.CodeRefused {
		t.Errorf("in the name of cc-ci: %v, want CodeRefused", err)
	}
	if _, err := f.AddComment(t.Context(), ccci.PRRef{Repo: repo, Number: 9}, "ada", "x"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("on no pull request: %v, want ErrNotFound", err)
	}
	bot := must[[]ccci.Comment](t)(f.ThreadOf(t.Context(), pr))[1]
	if err := f.EditUserComment(t.Context(), pr, bot.ID, "forged"); ccci.CodeOf(err) != ccci.CodeRefused {
		t.Errorf("editing what cc-ci wrote: %v, want CodeRefused", err)
	}
	if _, _, err := f.Comments(t.Context(), repo, "yesterday"); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("a cursor of another forge: %v, want CodeInvalid", err)
	}
}

func TestA7_RemoveMember(t *testing.T) {
	f := open(t, t.TempDir())
	must[any](t)(nil, f.AddMember(t.Context(), "coop", "ada"))
	must[any](t)(nil, f.AddMember(t.Context(), "coop", "ada"))
	ada := must[ccci.User](t)(f.User(t.Context(), "ada"))
	if !must[bool](t)(f.Member(t.Context(), "coop", ada)) {
		t.Error("she is not a member")
	}
	must[any](t)(nil, f.RemoveMember(t.Context(), "coop", "ada"))
	must[any](t)(nil, f.RemoveMember(t.Context(), "coop", "ada"))
	if must[bool](t)(f.Member(t.Context(), "coop", ada)) {
		t.Error("she still is a member")
	}
}

func TestSetStatusIsStrict(t *testing.T) {
	f, _, pr := scene(t)
	head := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr)).Head
	for name, status := range map[string]ccci.CommitStatus{
		"too long":   {Context: "c", State: ccci.StateSuccess, Description: strings.Repeat("x", 141)},
		"no context": {State: ccci.StateSuccess},
		"no state":   {Context: "c"},
	} {
		if err := f.SetStatus(t.Context(), repo, head, status); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v, want CodeInvalid", name, err)
		}
	}
}

// A repository that the database does not know is somebody's data, never replaced.
func TestCreateRepoKeepsWhatItDoesNotKnow(t *testing.T) {
	f := open(t, t.TempDir())
	kept := filepath.Join(f.path(repo), "HEAD")
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte("ref: refs/heads/main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateRepo(t.Context(), repo); err == nil || !strings.Contains(ccci.HintOf(err), f.path(repo)) {
		t.Errorf("got %v with hint %q", err, ccci.HintOf(err))
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if repos := must[[]ccci.RepoRef](t)(f.Repos(t.Context())); len(repos) != 0 {
		t.Errorf("Repos = %v", repos)
	}
}

// The person's own git configuration must not change what the forge does.
func TestGitIgnoresThePersonsConfiguration(t *testing.T) {
	home := t.TempDir()
	hooks := filepath.Join(home, "hooks")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[core]\n\thooksPath = %s\n[init]\n\tdefaultBranch = odd\n\ttemplateDir = %s\n[safe]\n\tbareRepository = explicit\n", hooks, home)
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nonexistent")
	f := open(t, t.TempDir())
	path := must[string](t)(f.CreateRepo(t.Context(), repo))
	head, err := os.ReadFile(filepath.Join(path, "HEAD"))
	if err != nil || string(head) != "ref: refs/heads/main\n" {
		t.Errorf("HEAD is %q, %v", head, err)
	}
}

func TestOpenWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if !errors.Is(err, exec.ErrNotFound) || ccci.HintOf(err) == "" {
		t.Errorf("got %v; want exec.ErrNotFound and a hint", err)
	}
}
