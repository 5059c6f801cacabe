package gitea

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
)

// A28: a commit that a push brought along below another one was never the branch, whatever date its author gave it. What the forge
// notes of pushes decides, and the branch as it is now.
func TestA28_PushesThatAreNoted(t *testing.T) {
	const merge = ccci.Commit("cccccccccccccccccccccccccccccccccccccccc")
	noted, dated := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2031, 3, 1, 12, 0, 0, 0, time.UTC)
	push := func(ref string, head ccci.Commit, commits ...ccci.Commit) activity {
		type named struct{ Sha1, Message string }
		var all []named
		for _, c := range append([]ccci.Commit{head}, commits...) {
			all = append(all, named{string(c), "x"})
		}
		text, _ := json.Marshal(map[string]any{"Commits": all, "HeadCommit": all[0], "Len": len(all)})
		return activity{"commit_repo", "refs/heads/" + ref, string(text), noted}
	}
	filler := make([]activity, 70)
	for name, c := range map[string]struct {
		as   ccci.Commit // what it was merged as; its head is commitA
		tip  ccci.Commit // of main
		feed []activity
		want time.Time // zero: it is not merged
	}{
		"pushed":                        {commitA, commitB, []activity{push("main", commitB), push("main", commitA)}, noted},
		"pushed long before":            {commitA, commitB, append(filler, push("main", commitA)), noted},
		"below another":                 {commitA, commitB, []activity{push("main", commitB, commitA)}, time.Time{}},
		"below another, then by itself": {commitA, commitB, []activity{push("main", commitA), push("main", commitB, commitA)}, noted},
		"to another branch":             {commitA, commitB, []activity{push("fix", commitA), {"push_tag", "refs/heads/main", push("main", commitA).Content, noted}}, time.Time{}},
		"a note that is none":           {commitA, commitB, []activity{{"commit_repo", "refs/heads/main", "{", noted}}, time.Time{}},
		"nothing is noted":              {commitA, commitB, nil, time.Time{}},
		"not noted, and the branch now": {commitA, commitA, nil, dated},
		"a merge":                       {merge, commitB, []activity{push("main", merge, commitA)}, noted},
		"a merge that is not noted":     {merge, commitB, nil, dated},
		"a merge below another":         {merge, commitB, []activity{push("main", commitB, merge, commitA)}, time.Time{}},
		"a merge below, the branch now": {merge, merge, []activity{push("main", commitB, merge, commitA)}, dated},
		"a forge without notes":         {commitA, commitB, nil, time.Time{}},
		"a merge on one without notes":  {merge, commitB, nil, dated},
		"the branch now, and no notes":  {commitA, commitA, nil, dated},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case strings.HasSuffix(r.URL.Path, "/pulls/1"):
					fmt.Fprintf(w, `{"number": 1, "state": "closed", "merged": true, "merged_at": %q, "merge_commit_sha": %q,
						"head": {"ref": "fix", "sha": %q, "repo_id": 5}, "base": {"ref": "main", "repo_id": 5, "repo": {"default_branch": "main"}}}`, dated.Format(time.RFC3339), c.as, commitA)
				case strings.HasSuffix(r.URL.Path, "/branches/main"):
					fmt.Fprintf(w, `{"commit": {"id": %q}}`, c.tip)
				case strings.HasSuffix(r.URL.Path, "/activities/feeds") && !strings.Contains(name, "without notes") && !strings.Contains(name, "no notes"):
					var page int
					fmt.Sscan(r.URL.Query().Get("page"), &page)
					_ = json.NewEncoder(w).Encode(c.feed[min((page-1)*pageSize, len(c.feed)):min(page*pageSize, len(c.feed))])
				case strings.Contains(r.URL.Path, "/git/trees/"):
					fmt.Fprintf(w, `{"tree": [{"path": "compose.yml", "mode": "100644", "sha": %q}]}`, commitA)
				default:
					w.WriteHeader(http.StatusNotFound)
					fmt.Fprint(w, `{"message": "no such page"}`)
				}
			}))
			defer server.Close()
			f, err := New(Options{URL: server.URL, Token: ccci.NewSecret("t")})
			if err != nil {
				t.Fatal(err)
			}
			var want ccci.Merge
			if !c.want.IsZero() {
				want = ccci.Merge{Branch: "main", Default: true, Commit: c.as, Same: true, At: c.want}
			}
			if got, err := f.Merge(t.Context(), ccci.PRRef{Repo: repo, Number: 1}, commitA); err != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
}

// A28: a real Gitea with "Autodetect manual merge" takes a push of two pull requests on top of each other for two merges.
func TestA28_TheLowerOfAStackOnGitea(t *testing.T) {
	s := gitea(t)
	stack := ccci.RepoRef{Owner: "recipes", Name: "stack"}
	push := clean(t, s, stack)
	if _, err := s.Do("", "PATCH", "/repos/"+stack.String(), map[string]any{"has_pull_requests": true, "autodetect_manual_merge": true}, nil); err != nil {
		t.Fatal(err)
	}
	work := forgetest.NewWork(t, push)
	work.Git("remote", "add", "origin", push)
	work.Commit("main", "compose.yml", "a")
	work.Push("main")
	s.Collaborator(t, stack.String(), "ada", "write")
	open := func(branch string) (ccci.PRRef, ccci.Commit) {
		work.Git("checkout", "--quiet", "-B", branch)
		c := work.Commit(branch, "compose.yml", branch)
		work.Push(branch)
		return ccci.PRRef{Repo: stack, Number: s.OpenPull(t, stack.String(), "ada", branch, branch, "main")}, c
	}
	lower, x := open("lower")
	upper, y := open("upper")
	f := connect(t, s)
	work.Git("push", "--quiet", "origin", "upper:main")
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var done int
		for _, pr := range []ccci.PRRef{lower, upper} {
			if p, err := f.pull(t.Context(), pr); err != nil {
				t.Fatal(err)
			} else if p.Merged {
				done++
			}
		}
		if done == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("Gitea does not take the push for a merge of both")
		}
	}
	await := func(what string, pr ccci.PRRef, commit ccci.Commit) ccci.Merge {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // pushes are noted by and by
			m, err := f.Merge(t.Context(), pr, commit)
			if err != nil {
				t.Fatal(err)
			}
			if !m.IsZero() && m.At.After(time.Now().Add(-time.Hour)) {
				return m
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, m)
			}
		}
	}
	if m := await("the upper one", upper, y); m.Commit != y || !m.Same || !m.Default {
		t.Errorf("the upper one: %+v", m)
	}
	if m, err := f.Merge(t.Context(), lower, x); err != nil || !m.IsZero() {
		t.Errorf("the lower one, which the branch never was: %+v, %v", m, err)
	}
	// The branch moves on: what it once was stays proven.
	third, z := open("third")
	work.Git("push", "--quiet", "origin", "third:main")
	work.Git("checkout", "--quiet", "third")
	work.Git("push", "--quiet", "origin", string(work.Commit("later", "compose.yml", "later"))+":main")
	if m := await("the third", third, z); m.Commit != z || !m.Same {
		t.Errorf("a fast forward that the branch was: %+v", m)
	}
	if m := await("the upper one later", upper, y); m.Commit != y || !m.Same {
		t.Errorf("the upper one later: %+v", m)
	}
}
