package gitea

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	server "github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

const (
	commitA ccci.Commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	commitB ccci.Commit = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestN1_Judge(t *testing.T) {
	opened := push{id: 5, head: commitA}
	for _, test := range []struct {
		name   string
		pushes []push
		now    ccci.Commit
		head   ccci.Commit
		err    error
	}{
		{"as it was opened", []push{opened}, commitA, commitA, nil},
		{"pushed to before", []push{opened, {id: 9, head: commitB}}, commitB, commitB, nil},
		{"forced before", []push{{id: 9, forced: true, head: commitB}}, commitB, commitB, nil},
		{"pushed to after", []push{opened, {id: 11, head: commitB}}, commitB, commitA, ccci.ErrHeadMoved},
		{"pushed to after, shown before it is known", []push{opened, {id: 11, head: commitB}}, commitA, commitA, ccci.ErrHeadMoved},
		{"forced after", []push{opened, {id: 11, forced: true, head: commitB}}, commitB, "", ccci.ErrHeadUnknown},
		{"pushed and forced after", []push{opened, {id: 11, head: commitB}, {id: 12, forced: true, head: commitA}}, commitA, "", ccci.ErrHeadUnknown},
		{"pushed to, not written down yet", []push{opened}, commitB, "", errUnsettled},
		{"nothing is written down", nil, commitA, "", errUnsettled},
		{"nothing before", []push{{id: 11, head: commitB}}, commitB, "", ccci.ErrHeadUnknown},
		{"an entry that cannot be read", []push{opened, entry{ID: 9, Body: "{"}.push()}, commitA, "", errUnsettled},
		{"an entry after that cannot be read", []push{opened, entry{ID: 11, Body: "{"}.push()}, commitA, "", ccci.ErrHeadUnknown},
		{"an entry without a commit", []push{opened, entry{ID: 9, Body: `{"commit_ids":[]}`}.push()}, commitA, "", errUnsettled},
	} {
		head, err := judge(test.pushes, 10, test.now)
		if head != test.head || !errors.Is(err, test.err) {
			t.Errorf("%s: %q, %v; want %q, %v", test.name, head, err, test.head, test.err)
		}
	}
}

// N1: what is written into a thread makes a head unknown at worst: an error would be asked
// about again at every poll, and none after it be read.
func TestN1_HeadOfAHugeThread(t *testing.T) {
	const entries = 400
	huge := strings.Repeat("<", 12<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var out any
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/timeline"):
			page, _ := strconv.Atoi(r.FormValue("page"))
			limit, _ := strconv.Atoi(r.FormValue("limit"))
			rows := []entry{}
			for i := (max(page, 1) - 1) * limit; i < min(max(page, 1)*limit, entries); i++ {
				e := entry{ID: int64(i + 1), Type: "comment", Body: huge}
				if i == 300 {
					e.Type, e.Body = "pull_push", fmt.Sprintf(`{"commit_ids":[%q]}`, commitA)
				}
				rows = append(rows, e)
			}
			out = rows
		case strings.HasSuffix(path, "/pulls/1"):
			out = map[string]any{"number": 1, "body": huge, "head": map[string]any{"sha": commitA}}
		default:
			out = row{ID: 1000, Body: "!testme", Pull: "https://git.example.org/recipes/pocketbase/pulls/1"}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(out)
	}))
	defer server.Close()
	pr, comment := ccci.PRRef{Repo: repo, Number: 1}, ccci.Comment{ID: "1000"}
	f := forgeAt(t, server.URL)
	clock := time.Now()
	f.client.now = func() time.Time { return clock } // a busy machine reads slowly
	if head, err := f.HeadAt(t.Context(), pr, comment); err != nil || head != commitA {
		t.Errorf("a thread of %d MiB: %s, %v", entries*len(huge)*6>>20, head, err)
	}
	f.limit = int64(len(huge)) * 20
	if head, err := f.HeadAt(t.Context(), pr, comment); err != nil || head != commitA {
		t.Errorf("in smaller pages: %s, %v", head, err)
	}
	f.client.now = func() time.Time { clock = clock.Add(time.Second); return clock }
	f.opts.Now = func() time.Time { return clock }
	if head, err := f.HeadAt(t.Context(), pr, comment); head != "" || !errors.Is(err, ccci.ErrHeadUnknown) {
		t.Errorf("a thread that takes too long: %s, %v; want ErrHeadUnknown", head, err)
	}
	g := forgeAt(t, server.URL)
	g.limit = int64(len(huge)) * 2
	if _, err := g.pushes(t.Context(), pr); !errors.Is(err, ccci.ErrHeadUnknown) {
		t.Errorf("a thread with an entry that is too large: %v; want ErrHeadUnknown", err)
	}
}

// commentOn writes a comment and returns it as the adapter reports it.
func commentOn(t testing.TB, s *server.Server, f *Forge, pr ccci.PRRef, as, body string) ccci.Comment {
	t.Helper()
	id := commentID(s.Comment(t, pr.Repo.String(), pr.Number, as, body))
	r, err := f.comment(t.Context(), pr, id)
	if err != nil {
		t.Fatal(err)
	}
	return r.comment(pr.Repo)
}

// A pull request from a fork whose author the forge knows and cc-ci does not: the
// head is exact through pushes and forced pushes, and is fetched from the base.
func TestN1_ForksAndForcedPushes(t *testing.T) {
	s := gitea(t)
	f := connect(t, s)
	base := ccci.RepoRef{Owner: "forked", Name: "tiny"}
	work := forgetest.NewWork(t, clean(t, s, base))
	work.Commit("main", "compose.yml", "a")
	s.DeleteRepo(t, "mallory/tiny")
	fork := s.Fork(t, base.String(), "mallory")
	theirs := forgetest.NewWork(t, s.PushURL(fork, "mallory"))
	theirs.Git("pull", "--quiet", s.PushURL(base.String(), server.Admin), "main")
	first := theirs.Commit("update", "compose.yml", "b")
	pr := ccci.PRRef{Repo: base, Number: s.OpenPull(t, base.String(), "mallory", "Update", "mallory:update", "main")}
	// What the published client cannot read: an entry of a label.
	var label struct{ ID int64 }
	if _, err := s.Do("", "POST", "/repos/"+base.String()+"/labels", map[string]any{"name": "x", "color": "#ffffff"}, &label); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Do("", "POST", fmt.Sprintf("/repos/%s/issues/%d/labels", base, pr.Number), map[string]any{"labels": []int64{label.ID}}, nil); err != nil {
		t.Fatal(err)
	}

	want := func(what string, c ccci.Comment, head ccci.Commit, wrong error) {
		t.Helper()
		got, err := f.HeadAt(t.Context(), pr, c)
		if got != head || !errors.Is(err, wrong) || (err == nil) != (wrong == nil) {
			t.Fatalf("%s: HeadAt = %q, %v; want %q, %v", what, got, err, head, wrong)
		}
	}
	if p, err := f.PullRequest(t.Context(), pr); err != nil || !p.Fork { // its branch is none of the base's
		t.Errorf("the pull request is read as %+v, %v; want one of a fork", p, err)
	}
	one := commentOn(t, s, f, pr, "ada", "!testme")
	want("at once", one, first, nil)
	second := theirs.Commit("update", "compose.yml", "c")
	want("after a push", one, first, ccci.ErrHeadMoved)
	two := commentOn(t, s, f, pr, "ada", "!testme")
	want("for a comment after it", two, second, nil)

	theirs.Git("commit", "--quiet", "--amend", "--message", "Another") // the record of second goes
	theirs.Push("update")
	amended := ccci.Commit(theirs.Git("rev-parse", "HEAD"))
	want("after a forced push", two, "", ccci.ErrHeadUnknown)
	three := commentOn(t, s, f, pr, "ada", "!testme")
	want("for a comment after that", three, amended, nil)
	want("still for the first", one, "", ccci.ErrHeadUnknown)

	theirs.Git("reset", "--quiet", "--hard", string(second)) // back to a commit that was approved once
	theirs.Push("update")
	want("forced back to an older head", two, "", ccci.ErrHeadUnknown)
	want("and for the last comment", three, "", ccci.ErrHeadUnknown)

	got, err := f.PullRequest(t.Context(), pr)
	if err != nil || got.Head != second {
		t.Fatalf("the pull request is %+v, %v", got, err)
	}
	checkout := forgetest.NewWork(t, got.CloneURL)
	for _, commit := range []ccci.Commit{second, amended} {
		checkout.Git("fetch", "--quiet", got.CloneURL, string(commit))
	}
	checkout.Git("fetch", "--quiet", got.CloneURL, fmt.Sprintf("refs/pull/%d/head", pr.Number))
	if head := checkout.Git("rev-parse", "FETCH_HEAD"); head != string(second) {
		t.Errorf("refs/pull/%d/head is %s, want %s", pr.Number, head, second)
	}
	s.DeleteRepo(t, fork)
	if got, err := f.PullRequest(t.Context(), pr); err != nil || got.Head != second {
		t.Errorf("without the fork the pull request is %+v, %v", got, err)
	}
	four := commentOn(t, s, f, pr, "ada", "!testme")
	want("without the fork", four, second, nil)
}

// 500 pushes around comments: what HeadAt calls the head was never pushed after the
// comment was there. It does as many as fit into half a minute and says how many, or all of
// them with CCCI_PUSH_RACE=full.
func TestN1_PushRace(t *testing.T) {
	s := gitea(t)
	f := connect(t, s)
	race := ccci.RepoRef{Owner: "raced", Name: "tiny"}
	url := clean(t, s, race)
	work := forgetest.NewWork(t, url)
	work.Commit("main", "compose.yml", "a")
	const branches, rounds, atLeast = 10, 50, 6
	s.Collaborator(t, race.String(), "ada", "read")
	for b := range branches {
		work.Git("branch", branch(b))
	}
	advance := func(round int) (refs []string, made map[ccci.Commit]int) {
		made = map[ccci.Commit]int{}
		tree := work.Git("rev-parse", "main^{tree}")
		for b := range branches {
			parent := branch(b)
			if round%5 == 4 && b%2 == 0 {
				parent = "main" // a forced push
			}
			commit := work.Git("commit-tree", "-p", parent, "-m", fmt.Sprintf("%d/%d", round, b), tree)
			work.Git("update-ref", "refs/heads/"+branch(b), commit)
			refs, made[ccci.Commit(commit)] = append(refs, "+"+branch(b)), round
		}
		return refs, made
	}
	refs, pushedIn := advance(0)
	work.Git(append([]string{"push", "--quiet", url}, refs...)...)
	var prs []ccci.PRRef
	for b := range branches {
		prs = append(prs, ccci.PRRef{Repo: race, Number: s.OpenPull(t, race.String(), "ada", branch(b), branch(b), "main")})
	}

	var mu sync.Mutex
	outcomes := map[string]int{}
	look := func(pr ccci.PRRef, c ccci.Comment, round int) {
		head, err := f.HeadAt(t.Context(), pr, c)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			outcomes["accepted"]++
		case errors.Is(err, ccci.ErrHeadMoved):
			outcomes["moved"]++
		case errors.Is(err, ccci.ErrHeadUnknown):
			outcomes["unknown"]++
		default:
			t.Errorf("HeadAt: %v", err)
			return
		}
		// A moved head is handed out too: whoever names it may have it.
		if head != "" && pushedIn[head] >= round {
			t.Errorf("round %d: HeadAt = %s, %v, which was pushed after the comment, in round %d", round, head.Short(), err, pushedIn[head])
		}
	}
	began, pushes, full := time.Now(), 0, os.Getenv("CCCI_PUSH_RACE") == "full"
	for round := 1; round <= rounds && (round <= atLeast || full || time.Since(began) < 30*time.Second); round++ {
		refs, made := advance(round)
		mu.Lock()
		for commit := range made {
			pushedIn[commit] = round
		}
		mu.Unlock()
		picked := []ccci.PRRef{prs[round%branches], prs[(round*7+1)%branches]}
		var comments []ccci.Comment
		for _, pr := range picked {
			comments = append(comments, commentOn(t, s, f, pr, "ada", "!testme"))
		}
		// The comments are there; from here on every push comes after them.
		pushed := make(chan struct{})
		var wg sync.WaitGroup
		for i, pr := range picked {
			wg.Go(func() {
				look(pr, comments[i], round) // while the push comes in
				<-pushed
				look(pr, comments[i], round) // when it is in, known or not
			})
		}
		work.Git(append([]string{"push", "--quiet", url}, refs...)...)
		pushes += len(refs)
		close(pushed)
		wg.Wait()
	}
	t.Logf("%d of %d pushes: %v", pushes, branches*rounds, outcomes)
	if outcomes["accepted"] == 0 || outcomes["moved"] == 0 || outcomes["unknown"] == 0 {
		t.Errorf("not every way was gone: %v", outcomes)
	}
}

func branch(b int) string { return fmt.Sprintf("update%d", b) }

// What is known of a commit's push is written down by and by; a forge that was killed
// before it did knows nothing of it for ever, and that is no proof.
func TestN1_ForgeKilledBetweenPushAndRecord(t *testing.T) {
	s := server.Start(t)
	f := connect(t, s)
	url := clean(t, s, repo)
	work := forgetest.NewWork(t, url)
	work.Commit("main", "compose.yml", "a")
	first := work.Commit("update", "compose.yml", "b")
	s.Collaborator(t, repo.String(), "ada", "read")
	pr := ccci.PRRef{Repo: repo, Number: s.OpenPull(t, repo.String(), "ada", "Update", "update", "main")}
	c := commentOn(t, s, f, pr, "ada", "!testme")
	s.Kill()
	if _, err := f.HeadAt(t.Context(), pr, c); err == nil || errors.Is(err, ccci.ErrHeadUnknown) || errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("while the forge is away: %v, want an error that may be tried again", err)
	}
	// What a lost record leaves behind: the branch moves, the timeline does not.
	work.Git("commit", "--quiet", "--allow-empty", "--message", "unseen")
	unseen := work.Git("rev-parse", "HEAD")
	bare := s.RepoDir(repo.String())
	work.Git("push", "--quiet", "--receive-pack=git -c core.hooksPath=/dev/null -c safe.directory=* receive-pack", bare, "update")
	s.Own(t, bare)
	s.Restart(t)
	f.opts.Settle = 1 // do not wait for what does not come
	if now, err := f.PullRequest(t.Context(), pr); err != nil || string(now.Head) != unseen {
		t.Fatalf("the forge shows %s, %v; want %s", now.Head, err, unseen)
	}
	if head, err := f.HeadAt(t.Context(), pr, c); !errors.Is(err, ccci.ErrHeadUnknown) || head != "" {
		t.Errorf("HeadAt = %q, %v; want ErrHeadUnknown; the head was %s", head, err, first)
	}
}
