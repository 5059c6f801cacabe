package sweep_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/engine/localengine"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
	"github.com/recipe-maintainers/cc-ci/internal/sweep"
)

// TestMain lets this test binary stand for a harness that deploys nothing.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SWEEP_TEST_HARNESS"); dir != "" {
		code, err := harness(dir, os.Args[1])
		if err != nil {
			fmt.Println(err)
			code = 3
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// harness leaves the result that dir/verdict asks for.
func harness(dir, jobFile string) (int, error) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	text, err := os.ReadFile(jobFile)
	if err != nil {
		return 0, err
	}
	var job ccci.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return 0, err
	}
	fmt.Printf("testing %s at %s\n", job.Recipe, job.Commit.Short())
	verdict, err := os.ReadFile(filepath.Join(dir, "verdict"))
	if err != nil {
		return 0, err
	}
	r := ccci.Result{
		Schema: ccci.ResultSchema, RunID: job.RunID, Attempt: job.Attempt, Recipe: job.Recipe, PR: job.PR, Commit: job.Commit, Options: job.Options, Trigger: job.Trigger,
		Version: "0.1.0+1.0.0", Level: 5, LintRan: true, Status: ccci.StatusPassed, Teardown: &ccci.Teardown{Clean: true}, Kept: &ccci.Kept{Snapshot: "beef"},
	}
	for _, name := range ccci.StageNames {
		r.Stages = append(r.Stages, ccci.Stage{Name: name, Status: ccci.Pass})
	}
	code := 0
	switch string(verdict) {
	case "failed":
		code, r.Status, r.Level, r.Cause = 1, ccci.StatusFailed, 1, &ccci.Cause{Check: "upgrade/converged", Message: "it was rolled back"}
	case "no data":
		r.Kept = nil
	case "no result":
		return 3, nil
	case "hangs":
		<-term
		code, r.Status = 143, ccci.StatusCancelled
	}
	blobs, err := dirblob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		return 0, err
	}
	if text, err = json.Marshal(r); err == nil {
		_, err = blobs.Put(context.Background(), ccci.ResultKey(job.RunID), bytes.NewReader(text))
	}
	return code, err
}

// world is the embedded profile without a daemon: a forge, an engine, a store.
type world struct {
	t     *testing.T
	dir   string
	repo  string // the forge's bare repository of canary-good
	blobs *dirblob.Blobs
	store *sqlstore.Store
	log   *syncBuffer
	sweep.Config
	pruned [][]ccci.RunID
}

type syncBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote func(string) // told of each write
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wrote != nil {
		b.wrote(string(p))
	}
	return b.text.Write(p)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: &syncBuffer{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	forge, err := localforge.Open(t.Context(), localforge.Options{Dir: filepath.Join(w.dir, "forge")})
	must(err)
	t.Cleanup(func() { forge.Close() })
	recipe, err := examples.Materialise(filepath.Join(w.dir, "recipes"), "canary-good")
	must(err)
	ref := ccci.RepoRef{Owner: "coop", Name: "canary-good"}
	_, err = forge.ImportRepo(t.Context(), ref, recipe)
	must(err)
	source, err := forge.Repository(t.Context(), ref)
	must(err)
	w.repo = source.CloneURL
	w.blobs, err = dirblob.Open(filepath.Join(w.dir, "blobs"))
	must(err)
	w.store, err = sqlstore.Open(t.Context(), filepath.Join(w.dir, "cc-ci.db"))
	must(err)
	t.Cleanup(func() { w.store.Close() })
	engine, err := localengine.New(localengine.Options{Dir: filepath.Join(w.dir, "builds"), Capacity: 1, Grace: time.Minute,
		Command: func(_ ccci.Job, dir string) (string, []string, []string) {
			return os.Args[0], []string{filepath.Join(dir, "job.json")}, []string{"SWEEP_TEST_HARNESS=" + w.dir}
		}})
	must(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended; engine.Close() })
	work := filepath.Join(w.dir, "work")
	must(os.Mkdir(work, 0o755))
	w.Config = sweep.Config{
		Recipes: []sweep.Recipe{{Name: "canary-good", Repo: ref, Branch: source.Branch, CloneURL: source.CloneURL}},
		Blobs:   w.blobs, Store: w.store, Engine: engine, WorkDir: work, Deadline: time.Minute, Log: w.log, Now: time.Now, Rand: rand.Reader, Pause: time.Millisecond,
		Prune: func(recipe string, keep ...ccci.RunID) error {
			w.pruned = append(w.pruned, keep)
			return nil
		},
	}
	w.verdict("passed")
	return w
}

// verdict says how the runs from now on come out.
func (w *world) verdict(text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "verdict"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	out, err := exec.Command("git", append([]string{"-C", w.repo, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// merge brings the pull request's branch to main.
func (w *world) merge() ccci.Commit {
	w.git("update-ref", "refs/heads/main", "refs/heads/upgrade-"+slices.Max(examples.Versions("canary-good")))
	return ccci.Commit(w.git("rev-parse", "main"))
}

func (w *world) sweep() []sweep.Row {
	w.t.Helper()
	rows, err := sweep.Run(w.t.Context(), w.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	if left, _ := os.ReadDir(w.WorkDir); len(left) > 0 {
		w.t.Errorf("clones are left: %v", left)
	}
	return rows
}

func (w *world) canonical() ccci.Canonical {
	w.t.Helper()
	c, err := ccci.ReadCanonical(w.t.Context(), w.blobs, "canary-good")
	if err != nil && !errors.Is(err, ccci.ErrNotFound) {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) runs() []ccci.Run {
	w.t.Helper()
	runs, err := w.store.FindRuns(context.Background(), ccci.RunFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	return runs
}

// U20: the sweep tests what is newer, promotes what is green, keeps what was on
// red, and does nothing when nothing moved.
func TestU20_Sweep(t *testing.T) {
	w := newWorld(t)
	rows := w.sweep()
	first := w.canonical()
	if len(rows) != 1 || !rows[0].Promoted || rows[0].Status != ccci.StatusPassed || first.Release != "0.1.0+1.0.0" || first.Run != rows[0].Run || first.Kept.Snapshot != "beef" {
		t.Fatalf("rows %+v, canonical %+v", rows, first)
	}
	runs := w.runs()
	if len(runs) != 1 || runs[0].Status != ccci.StatusPassed || runs[0].Trigger != ccci.TriggerSweep || runs[0].Level != 5 || len(runs[0].Stages) != 5 ||
		runs[0].PR != (ccci.PRRef{}) || runs[0].Started.IsZero() || runs[0].Finished.IsZero() {
		t.Errorf("runs %+v", runs)
	}
	if !strings.Contains(w.log.text.String(), "testing canary-good at "+first.Commit.Short()) {
		t.Errorf("the run's log is not shown:\n%s", w.log.text.String())
	}

	rows = w.sweep()
	if len(rows) != 1 || rows[0].Newer != "" || rows[0].Code != "" || rows[0].Message != "nothing is newer than the canonical 0.1.0+1.0.0" || len(w.runs()) != 1 {
		t.Errorf("a second sweep: %+v", rows)
	}

	tip := w.merge()
	w.verdict("failed")
	rows = w.sweep()
	if len(rows) != 1 || rows[0].Promoted || rows[0].Status != ccci.StatusFailed || rows[0].Code != "" || rows[0].Canonical != "0.1.0+1.0.0" || w.canonical().Run != first.Run ||
		rows[0].Message != "main at "+tip.Short()+" failed: upgrade/converged: it was rolled back; the canonical stays 0.1.0+1.0.0" {
		t.Errorf("red: %+v, canonical %+v", rows, w.canonical())
	}
	w.verdict("no data")
	if rows = w.sweep(); rows[0].Promoted || rows[0].Code != ccci.CodeInfra || !strings.Contains(rows[0].Message, "its data was not kept") || w.canonical().Run != first.Run {
		t.Errorf("without data: %+v", rows)
	}
	w.verdict("no result")
	if rows = w.sweep(); rows[0].Promoted || rows[0].Status != ccci.StatusErrored || rows[0].Code != ccci.CodeInfra || w.canonical().Run != first.Run {
		t.Errorf("without a result: %+v", rows)
	}

	w.verdict("passed")
	w.DryRun = true
	if rows = w.sweep(); len(rows) != 1 || rows[0].Newer != "main at "+tip.Short() || rows[0].Run != "" || rows[0].Status != "" || w.canonical().Run != first.Run {
		t.Errorf("dry: %+v", rows)
	}
	w.DryRun, w.pruned = false, nil
	rows = w.sweep()
	second := w.canonical()
	if !rows[0].Promoted || second.Branch != "main" || second.Commit != tip || second.Release != "" || second.Run != rows[0].Run {
		t.Errorf("green: %+v, canonical %+v", rows, second)
	}
	if len(w.pruned) != 1 || !slices.Equal(w.pruned[0], []ccci.RunID{first.Run, second.Run}) { // a quick run may stand on the former
		t.Errorf("kept data: %v", w.pruned)
	}
	w.git("tag", "-a", "-m", "x", "0.2.0+1.1.0", "main")
	if rows = w.sweep(); rows[0].Newer != "" {
		t.Errorf("what was tested is tested again once it is released: %+v", rows)
	}
}

// U20: a release and the tip ahead of it are both tested, the release first.
func TestU20_SweepTestsReleaseAndTip(t *testing.T) {
	w := newWorld(t)
	tip := w.merge()
	rows := w.sweep()
	if len(rows) != 2 || rows[0].Newer != "0.1.0+1.0.0" || rows[1].Commit != tip || !rows[0].Promoted || !rows[1].Promoted || w.canonical().Commit != tip {
		t.Errorf("%+v", rows)
	}
	// A28: what was tested stays with each run, and both speak for the recipe.
	for _, row := range rows {
		run, err := w.store.FindRun(t.Context(), row.Run)
		if err != nil {
			t.Fatal(err)
		}
		if release, branch := "0.1.0+1.0.0", "main"; (run.Release == release) != (row.Newer == release) || (run.Branch == branch) != (row.Newer != release) {
			t.Errorf("%s: the run is of release %q and branch %q", row.Newer, run.Release, run.Branch)
		}
		if _, speaks := run.SpeaksFor()[ccci.SubjectRecipe]; !speaks {
			t.Errorf("%s does not speak for the recipe", row.Newer)
		}
	}
}

// U23: an empty work list is an error, and so is a repository that cannot be read;
// the others are swept all the same.
func TestU23_SweepOfNothingIsAnError(t *testing.T) {
	w := newWorld(t)
	all := w.Recipes
	w.Recipes = nil
	if _, err := sweep.Run(t.Context(), w.Config); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
		t.Errorf("nothing enrolled: %v", err)
	}
	gone := sweep.Recipe{Name: "gone", Repo: ccci.RepoRef{Owner: "coop", Name: "gone"}, Branch: "main", CloneURL: filepath.Join(w.dir, "gone")}
	hidden := sweep.Recipe{Name: "hidden", Err: ccci.Errorf(ccci.CodeNotFound, "there is no repository")}
	branchless := all[0]
	branchless.Branch = "trunk"
	w.Recipes = append([]sweep.Recipe{gone, hidden, branchless}, all...)
	rows := w.sweep()
	if len(rows) != 4 || rows[0].Code != ccci.CodeInfra || rows[1].Code != ccci.CodeNotFound || rows[2].Code != ccci.CodeInfra || !rows[3].Promoted {
		t.Errorf("%+v", rows)
	}
}

// U12: a sweep that is told to end tears its run down and keeps the former canonical.
func TestU12_SweepThatEndsCancelsItsRun(t *testing.T) {
	w := newWorld(t)
	w.verdict("hangs")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	w.log.wrote = func(text string) {
		if strings.Contains(text, "testing canary-good at") {
			cancel(why)
		}
	}
	rows, err := sweep.Run(ctx, w.Config)
	if !errors.Is(err, why) || len(rows) != 1 || rows[0].Status != ccci.StatusCancelled || rows[0].Promoted || w.canonical().Recipe != "" {
		t.Errorf("%+v, %v", rows, err)
	}
	if runs := w.runs(); len(runs) != 1 || runs[0].Status != ccci.StatusCancelled || runs[0].CancelledBy == "" {
		t.Errorf("%+v", runs)
	}
}

// U14: what a killed sweep left unfinished is ended, and what is a person's is not touched.
func TestU14_SweepEndsWhatAKilledOneLeft(t *testing.T) {
	w := newWorld(t)
	for id, key := range map[ccci.RunID]string{"261120-030000-aaaaaa": "sweep/261120-030000-aaaaaa", "261120-030000-bbbbbb": "local/7/0"} {
		if _, _, err := w.store.ClaimRun(t.Context(), ccci.Run{ID: id, Key: key, Recipe: "canary-good", Status: ccci.StatusQueued, Commit: ccci.Commit(strings.Repeat("1", 40)), Build: ccci.BuildRef(id)}); err != nil {
			t.Fatal(err)
		}
	}
	w.sweep()
	for _, run := range w.runs() {
		want := ccci.StatusPassed
		switch run.ID {
		case "261120-030000-aaaaaa":
			want = ccci.StatusErrored
		case "261120-030000-bbbbbb":
			want = ccci.StatusQueued
		}
		if run.Status != want {
			t.Errorf("run %s is %s, want %s", run.ID, run.Status, want)
		}
	}
}

// U20: a run waits for its turn, and one that does not get it is told of.
func TestU20_SweepWaitsForItsTurn(t *testing.T) {
	w := newWorld(t)
	w.Turn = func(context.Context) error { return ccci.Errorf(ccci.CodeInfra, "somebody else's runs do not end") }
	rows := w.sweep()
	if len(rows) != 1 || rows[0].Code != ccci.CodeInfra || !strings.Contains(rows[0].Message, "was not tested: somebody else's") || len(w.runs()) != 0 {
		t.Errorf("%+v", rows)
	}
}
