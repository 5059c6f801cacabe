package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// world is everything outside of a bridge: it outlives the bridges that are
// killed and started over it. Its forge and engine are small models whose truth a
// test can read (which head a comment was written at, what ran, who edited
// what and when); the embedded adapters prove the rest in adapters_test.go.
type world struct {
	t  *testing.T
	mu sync.Mutex

	// forge
	comments []ccci.Comment                 // in the order in which they were written
	headAt   map[ccci.CommentID]ccci.Commit // the truth; "" cannot be proven
	prs      map[ccci.PRRef]*ccci.PullRequest
	merges   map[ccci.PRRef]ccci.Merge
	trees    map[ccci.Commit]string
	members  map[string]bool
	posted   map[string]ccci.CommentID // by pull request and key
	bodies   map[ccci.CommentID]string
	edits    map[ccci.CommentID][]time.Time
	history  map[ccci.CommentID][]string
	statuses []ccci.CommitStatus
	statusOf map[string]ccci.CommitStatus // by commit and context
	deleted  map[ccci.CommentID]bool
	overlap  int                              // how many known comments every answer repeats
	postLost bool                             // the next post takes effect and its answer is lost
	delay    func() time.Duration             // before each answer of the forge
	onRead   func(call string, pr ccci.PRRef) // when a pull request is about to be read
	forgeErr func(call string) error          // trouble of the forge
	shuffle  func([]ccci.Comment)             // reorders answers
	calls    map[string]int                   // of the forge, by name
	script   func(ccci.Job) (ccci.Build, any) // how a job ends and what result it leaves
	harness  time.Duration                    // how long each stage takes
	bases    ccci.Bases                       // of every commit
	basesErr error

	// engine
	builds map[ccci.RunID]*build
	order  []ccci.RunID
	work   chan ccci.RunID
	news   *sync.Cond

	// the rest
	store *memStore
	blobs map[string][]byte
	subs  []chan string
	lease chan struct{}
}

type build struct {
	ccci.Build
	job       ccci.Job
	log       bytes.Buffer
	cancelled chan struct{}
}

var (
	repo    = ccci.RepoRef{Owner: "recipes", Name: "miniflux"}
	other   = ccci.RepoRef{Owner: "recipes", Name: "unknown"}
	pr1     = ccci.PRRef{Repo: repo, Number: 1}
	ada     = ccci.User{ID: "7", Name: "ada"}
	mallory = ccci.User{ID: "66", Name: "mallory"}
	bot     = ccci.User{ID: "1", Name: "cc-ci"}
)

func commitN(n int) ccci.Commit { return ccci.Commit(fmt.Sprintf("%040x", n)) }

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, headAt: map[ccci.CommentID]ccci.Commit{}, prs: map[ccci.PRRef]*ccci.PullRequest{},
		merges: map[ccci.PRRef]ccci.Merge{}, trees: map[ccci.Commit]string{}, members: map[string]bool{ada.ID: true},
		posted: map[string]ccci.CommentID{}, bodies: map[ccci.CommentID]string{}, edits: map[ccci.CommentID][]time.Time{},
		history: map[ccci.CommentID][]string{}, statusOf: map[string]ccci.CommitStatus{}, deleted: map[ccci.CommentID]bool{}, calls: map[string]int{},
		builds: map[ccci.RunID]*build{}, work: make(chan ccci.RunID, 10_000), store: newMemStore(), blobs: map[string][]byte{},
		lease: make(chan struct{}, 1), harness: 10 * time.Second,
		bases: ccci.Bases{Usable: []string{"1.1.0+2.1", "1.0.0"}, Unusable: map[string]string{"2.0.0+3.0": "its version 2.0.0+3.0 is not older than the head's 2.0.0+3.0"}},
	}
	w.news = sync.NewCond(&w.mu)
	w.script = func(ccci.Job) (ccci.Build, any) { return ccci.Build{Ending: ccci.EndExited}, ccci.StatusPassed }
	w.addPR(pr1)
	return w
}

func (w *world) addPR(ref ccci.PRRef) {
	w.prs[ref] = &ccci.PullRequest{Ref: ref, Open: true, Head: commitN(ref.Number * 1000), Base: "main", Branch: "fix", CloneURL: "file:///git/" + ref.Repo.String(),
		URL: fmt.Sprintf("https://git.example.org/%s/pulls/%d", ref.Repo, ref.Number)}
}

// push moves a pull request's head.
func (w *world) push(ref ccci.PRRef) ccci.Commit {
	w.mu.Lock()
	defer w.mu.Unlock()
	pr := w.prs[ref]
	n, err := strconv.ParseInt(string(pr.Head), 16, 64)
	if err != nil {
		w.t.Error(err)
	}
	pr.Head = commitN(int(n) + 1)
	return pr.Head
}

// write adds a comment at the present head.
func (w *world) write(ref ccci.PRRef, who ccci.User, body string) ccci.Comment {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := ccci.Comment{ID: ccci.CommentID(strconv.Itoa(len(w.comments) + 1)), PR: ref, Author: who, Body: body, Created: time.Now()}
	w.comments = append(w.comments, c)
	if pr := w.prs[ref]; pr != nil {
		w.headAt[c.ID] = pr.Head
	}
	return c
}

func (w *world) config() bridge.Config {
	return bridge.Config{
		Forge: (*forge)(w), Engine: (*engine)(w), Store: w.store, Bus: (*bus)(w), Locker: (*locker)(w), Blobs: (*blobs)(w),
		Bases: func(context.Context, string, ccci.Commit) (ccci.Bases, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.bases, w.basesErr
		},
		Repos:        []bridge.Repo{{Ref: repo, Recipe: "miniflux", Org: "recipes"}, {Ref: other, Org: "recipes"}},
		DashboardURL: "https://ci.example.org", Logger: slog.New(slog.DiscardHandler),
		Jitter: func() float64 { return 0 },
	}
}

// start runs a bridge until stop is called.
func (w *world) start(cfg bridge.Config) (b *bridge.Bridge, stop func()) {
	w.t.Helper()
	b, err := bridge.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	return b, func() { cancel(); <-done }
}

// serve is the engine's one worker: capacity 1, first come first served.
func (w *world) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-w.work:
			w.execute(ctx, id)
		}
	}
}

func (w *world) execute(ctx context.Context, id ccci.RunID) {
	w.mu.Lock()
	b := w.builds[id]
	if b.State == ccci.BuildDone { // cancelled while it was queued
		w.mu.Unlock()
		return
	}
	b.State, b.Started = ccci.BuildRunning, time.Now()
	end, found := w.script(b.job)
	w.mu.Unlock()
	cancelled := false
	for _, stage := range ccci.StageNames {
		w.logLine(b, ccci.Marker{Stage: stage, Begin: true}.String())
		select {
		case <-time.After(w.harness):
		case <-b.cancelled:
			cancelled = true
		case <-ctx.Done():
			return
		}
		if cancelled {
			break
		}
		w.logLine(b, "some output of the app")
		w.logLine(b, ccci.Marker{Stage: stage, Status: ccci.Pass, Duration: w.harness}.String())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if cancelled {
		end, found = ccci.Build{Ending: ccci.EndCancelled, ExitCode: 143}, ccci.StatusCancelled
	}
	if status, ok := found.(ccci.Status); ok {
		found = resultOf(b.job, status)
	}
	if found != nil {
		data, err := json.Marshal(found)
		if err != nil {
			w.t.Error(err)
		}
		w.blobs[ccci.ResultKey(id)] = data
	}
	b.State, b.Ending, b.ExitCode, b.Finished = ccci.BuildDone, end.Ending, end.ExitCode, time.Now()
	w.news.Broadcast()
}

func resultOf(job ccci.Job, status ccci.Status) *ccci.Result {
	r := &ccci.Result{Schema: ccci.ResultSchema, RunID: job.RunID, Attempt: job.Attempt, Recipe: job.Recipe, Commit: job.Commit, Status: status, Version: "2.1.0+2.2.3", LintRan: true,
		Teardown: &ccci.Teardown{Clean: true, Removed: map[string]int{"service": 2}, Duration: time.Second}}
	for _, s := range ccci.StageNames {
		r.Stages = append(r.Stages, ccci.Stage{Name: s, Status: ccci.Pass, Checks: []ccci.Check{{Name: string(s) + "/x", Status: ccci.Pass}}})
	}
	if status == ccci.StatusFailed {
		r.Stages[1].Status, r.Stages[1].Reason = ccci.Fail, "rolled back"
		r.Stages[4].Status, r.Stages[4].Reason = ccci.Unverified, "the run ended before it"
		r.Cause = &ccci.Cause{Check: "upgrade/converged", Message: "swarm rolled app back"}
	}
	r.ComputeLevel()
	return r
}

func (w *world) logLine(b *build, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.log.WriteString(line + "\n")
	w.news.Broadcast()
}

// said returns the present bodies of what the bridge posted under keys that hold keyPart.
func (w *world) said(keyPart string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []string
	for key := range w.posted {
		if keyPart == "" || bytes.Contains([]byte(key), []byte(keyPart)) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var out []string
	for _, key := range keys {
		out = append(out, w.bodies[w.posted[key]])
	}
	return out
}

func (w *world) status(commit ccci.Commit, context string) ccci.CommitStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.statusOf[string(commit)+" "+context]
}

func (w *world) looks() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls["Comments"]
}

func (w *world) jobOf(id ccci.RunID) ccci.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.builds[id].job
}

func (w *world) runs() []ccci.Run {
	runs, err := w.store.FindRuns(context.Background(), ccci.RunFilter{Limit: 100_000})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(runs)
	return runs
}

// forge is the world as a bridge sees it through ccci.Forge.
type forge world

func (f *forge) begin(ctx context.Context, call string) error {
	if f.delay != nil {
		select {
		case <-time.After(f.delay()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	f.calls[call]++
	trouble := f.forgeErr
	f.mu.Unlock()
	if trouble != nil {
		return trouble(call)
	}
	return nil
}

func (f *forge) Name() string { return "local" }

func (f *forge) Self(ctx context.Context) (ccci.User, error) { return bot, f.begin(ctx, "Self") }

func (f *forge) Comments(ctx context.Context, r ccci.RepoRef, since ccci.Cursor) ([]ccci.Comment, ccci.Cursor, error) {
	if err := f.begin(ctx, "Comments"); err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from := 0
	if since != "" {
		n, err := strconv.Atoi(string(since))
		if err != nil {
			return nil, "", err
		}
		from = max(0, n-f.overlap)
	}
	var out []ccci.Comment
	for _, c := range f.comments[from:] {
		if c.PR.Repo == r {
			out = append(out, c)
		}
	}
	if f.shuffle != nil {
		f.shuffle(out)
	}
	return out, ccci.Cursor(strconv.Itoa(len(f.comments))), nil
}

func (f *forge) PullRequest(ctx context.Context, ref ccci.PRRef) (ccci.PullRequest, error) {
	if f.onRead != nil {
		f.onRead("PullRequest", ref)
	}
	if err := f.begin(ctx, "PullRequest"); err != nil {
		return ccci.PullRequest{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if pr := f.prs[ref]; pr != nil {
		return *pr, nil
	}
	return ccci.PullRequest{}, ccci.ErrNotFound
}

func (f *forge) Merge(ctx context.Context, ref ccci.PRRef, tested ccci.Commit) (ccci.Merge, error) {
	if err := f.begin(ctx, "Merge"); err != nil {
		return ccci.Merge{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.merges[ref]
	if !ok {
		return ccci.Merge{}, nil
	}
	return m.Compare(tested, func(commit ccci.Commit) (string, error) { return f.trees[commit], nil })
}

func (f *forge) HeadAt(ctx context.Context, ref ccci.PRRef, c ccci.Comment) (ccci.Commit, error) {
	if f.onRead != nil {
		f.onRead("HeadAt", ref)
	}
	if err := f.begin(ctx, "HeadAt"); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.headAt[c.ID]
	switch {
	case !ok:
		return "", ccci.ErrNotFound
	case at == "":
		return "", ccci.ErrHeadUnknown
	case at != f.prs[ref].Head:
		return at, ccci.ErrHeadMoved
	}
	return at, nil
}

func (f *forge) Member(ctx context.Context, org string, user ccci.User) (bool, error) {
	if err := f.begin(ctx, "Member"); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return org == "recipes" && f.members[user.ID], nil
}

func (f *forge) PostComment(ctx context.Context, ref ccci.PRRef, key, body string) (ccci.CommentID, error) {
	if err := f.begin(ctx, "PostComment"); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prs[ref] == nil {
		return "", ccci.ErrNotFound
	}
	k := ref.String() + " " + key
	if id, ok := f.posted[k]; ok {
		return id, nil
	}
	// Our own comments come back like everybody's.
	c := ccci.Comment{ID: ccci.CommentID(strconv.Itoa(len(f.comments) + 1)), PR: ref, Author: bot, Body: body, Created: time.Now()}
	f.comments = append(f.comments, c)
	f.posted[k], f.bodies[c.ID] = c.ID, body
	f.history[c.ID], f.edits[c.ID] = append(f.history[c.ID], body), append(f.edits[c.ID], time.Now())
	if f.postLost {
		f.postLost = false
		return "", errors.New("connection reset by peer")
	}
	return c.ID, nil
}

func (f *forge) EditComment(ctx context.Context, ref ccci.PRRef, id ccci.CommentID, body string) error {
	if err := f.begin(ctx, "EditComment"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.bodies[id]; !ok || f.deleted[id] {
		return ccci.ErrNotFound
	}
	f.bodies[id] = body
	f.history[id], f.edits[id] = append(f.history[id], body), append(f.edits[id], time.Now())
	return nil
}

func (f *forge) SetStatus(ctx context.Context, r ccci.RepoRef, commit ccci.Commit, s ccci.CommitStatus) error {
	if err := f.begin(ctx, "SetStatus"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses = append(f.statuses, s)
	f.statusOf[string(commit)+" "+s.Context] = s
	return nil
}
