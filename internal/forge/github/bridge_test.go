package github

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/bus/inproc"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// instant is an engine whose harness fetches the commit, finds all well and is done.
type instant struct {
	t     *testing.T
	blobs *dirblob.Blobs

	mu   sync.Mutex
	jobs []ccci.Job
}

func (e *instant) Start(ctx context.Context, job ccci.Job) (ccci.BuildRef, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, known := range e.jobs {
		if known.RunID == job.RunID {
			return ccci.BuildRef(job.RunID), nil
		}
	}
	checkout := forgetest.NewWork(e.t, job.CloneURL)
	checkout.Git("fetch", "--quiet", "--no-tags", "--depth=1", job.CloneURL, string(job.Commit))
	if got := checkout.Git("rev-parse", "FETCH_HEAD"); got != string(job.Commit) {
		e.t.Errorf("fetched %s, want %s", got, job.Commit)
	}
	r := &ccci.Result{Schema: ccci.ResultSchema, RunID: job.RunID, Recipe: job.Recipe, Commit: job.Commit, Status: ccci.StatusPassed, LintRan: true,
		Teardown: &ccci.Teardown{Clean: true}}
	for _, s := range ccci.StageNames {
		r.Stages = append(r.Stages, ccci.Stage{Name: s, Status: ccci.Pass, Checks: []ccci.Check{{Name: string(s) + "/x", Status: ccci.Pass}}})
	}
	r.ComputeLevel()
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	if _, err := e.blobs.Put(ctx, ccci.ResultKey(job.RunID), bytes.NewReader(text)); err != nil {
		return "", err
	}
	e.jobs = append(e.jobs, job)
	return ccci.BuildRef(job.RunID), nil
}

func (e *instant) Status(_ context.Context, ref ccci.BuildRef) (ccci.Build, error) {
	return ccci.Build{Ref: ref, RunID: ccci.RunID(ref), State: ccci.BuildDone, Ending: ccci.EndExited, Attempt: 1}, nil
}
func (e *instant) Cancel(context.Context, ccci.BuildRef) error { return nil }
func (e *instant) Logs(context.Context, ccci.BuildRef, int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("")), nil
}

// The bridge on GitHub: what a person sees. Everything was written while it was down.
func TestA10_BridgeOnGitHub(t *testing.T) {
	st := newStage(t, true) // eve's pull request from her fork
	s := st.s
	s.SetMember("coop", "ada", "active")
	s.SetMember("coop", "cc-ci", "active")
	open := func(branch string) ccci.PRRef {
		st.work.Git("checkout", "--quiet", "update")
		st.work.Commit(branch, branch+".yml", "x: 1\n")
		return s.OpenPull(repo, st.from, branch, branch, "main", "eve")
	}
	moved, closed := open("moved"), open("closed")

	s.Comment(st.pr, "eve", "!testme")                                            // an outsider
	s.Comment(st.pr, "ada", "please write `!testme`")                             // no command
	s.Comment(st.pr, "cc-ci", "!testme")                                          // cc-ci's own
	s.ChangeComment(repo, s.Comment(st.pr, "ada", "looks good to me"), "!testme") // edited by somebody
	s.Minimize(repo, s.Comment(st.pr, "ada", "!testme"))                          // hidden
	s.Comment(s.OpenIssue(repo, "An issue", "ada"), "ada", "!testme")             // no pull request
	s.Comment(moved, "ada", "!testme")
	old := s.Head(moved)
	st.work.Commit("moved", "evil.sh", "curl evil\n") // pushed since
	s.Comment(closed, "ada", "!testme")
	s.ClosePull(closed)
	wanted := s.Comment(st.pr, "ada", "!testme") // and this one
	store, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "cc-ci.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	blobs, err := dirblob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	engine := &instant{t: t, blobs: blobs}
	thread := func(pr ccci.PRRef) (own []string) {
		self := s.User("cc-ci")
		for _, c := range s.Thread(pr) {
			if c.Author == self && strings.Contains(c.Body, "<!-- cc-ci:") {
				own = append(own, c.Body)
			}
		}
		return own
	}
	run := func(until func() bool) {
		t.Helper()
		b, err := bridge.New(bridge.Config{Forge: adapter(t, s, nil), Engine: engine, Store: store, Bus: &inproc.Bus{}, Locker: &inproc.Locker{}, Blobs: blobs, Bases: noBases,
			Repos: []bridge.Repo{{Ref: repo, Recipe: "pocketbase", Org: "coop"}}, PollInterval: 5 * time.Second, EditGap: time.Millisecond,
			Jitter: func() float64 { return 0 },
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !until() {
			select {
			case <-tick.C:
			case err := <-ended:
				t.Fatalf("the bridge ended, %v; it had said %q, %q and %q", err, thread(st.pr), thread(moved), thread(closed))
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	holds := func(pr ccci.PRRef, words ...string) bool {
		said := strings.Join(thread(pr), "\n")
		for _, w := range words {
			if !strings.Contains(said, w) {
				return false
			}
		}
		return true
	}
	success := func() bool {
		got := s.Statuses(repo, st.head)
		return len(got) == 1 && got[0].State == ccci.StateSuccess
	}
	run(func() bool {
		return success() && holds(st.pr, "✅", "only members of") && holds(moved, "pushed to after", old.Short()) && holds(closed, "closed")
	})
	if len(engine.jobs) != 1 || engine.jobs[0].Commit != st.head || engine.jobs[0].PR != st.pr {
		t.Errorf("what ran: %+v", engine.jobs)
	}
	runs, err := store.FindRuns(t.Context(), ccci.RunFilter{Limit: 10})
	if err != nil || len(runs) != 1 || runs[0].Comment != wanted || runs[0].Key != ccci.RunKey("github.test", wanted, 0) {
		t.Errorf("runs: %+v, %v", runs, err)
	}
	for _, pr := range []ccci.PRRef{moved, closed} {
		if got := s.Statuses(repo, s.Head(pr)); len(got) != 0 {
			t.Errorf("%s has %v", pr, got)
		}
	}
	before := fmt.Sprint(thread(st.pr), thread(moved), thread(closed))

	// After a restart everything is read once more, and nothing happens twice (N2).
	s.Comment(moved, "ada", "!status")
	run(func() bool { return len(thread(moved)) == 2 })
	if after := fmt.Sprint(thread(st.pr), thread(moved)[:1], thread(closed)); len(engine.jobs) != 1 || after != before {
		t.Errorf("after a restart: %d jobs, and readers see\n%s\nbefore it was\n%s", len(engine.jobs), after, before)
	}
}

func noBases(context.Context, string, ccci.Commit) (ccci.Bases, error) { return ccci.Bases{}, nil }
