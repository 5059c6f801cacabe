package harness

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// archiveOf lays out what a run kept; nil when it kept nothing.
func archiveOf(t *testing.T, c Config, r *ccci.Result) *repro.Archive {
	t.Helper()
	path := filepath.Join(c.OutDir, ccci.ReproArchive)
	text, err := os.ReadFile(path)
	at := slices.IndexFunc(r.Artifacts, func(a ccci.Artifact) bool { return a.Path == ccci.ReproArchive })
	if at < 0 {
		if err == nil {
			t.Error("there is an archive that is no artifact")
		}
		return nil
	}
	if err != nil || int64(len(text)) != r.Artifacts[at].Size {
		t.Fatalf("%d bytes instead of %d, %v", len(text), r.Artifacts[at].Size, err)
	}
	a, err := repro.Open(bytes.NewReader(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// N9: a run keeps what repeats it: the commit, the base that was chosen, the releases and the
// enrolment as it was at the start. A run that repeats takes the base without choosing.
func TestN9_RunKeepsWhatRepeatsIt(t *testing.T) {
	repo, head := example(t)
	tests := t.TempDir()
	recipe := filepath.Join(tests, "canary-good", "recipe.yml")
	if err := os.MkdirAll(filepath.Dir(recipe), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recipe, []byte("secrets: {api: hunter2-hunter2}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	settings, err := enrol.Read(tests, "canary-good")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	c := w.config(t, repo, head)
	c.Settings, c.Environment = settings, map[string]string{"proxy": "embedded"}
	w.on["new"] = func() error { return os.WriteFile(recipe, []byte("health: {path: /later}\n"), 0o644) }
	first := live(t, w, c, t.Context())
	a := archiveOf(t, c, first)
	if a == nil || a.RunID != c.Job.RunID || a.Commit != head || a.Environment["proxy"] != "embedded" {
		t.Fatalf("%+v", a)
	}
	text, err := os.ReadFile(filepath.Join(a.Tests(), "canary-good", "recipe.yml"))
	if err != nil || !strings.Contains(string(text), "secrets:") || strings.Contains(string(text), "hunter2") || !slices.Equal(a.Replaced, []string{"canary-good: secrets.api"}) {
		t.Errorf("%s, %v, replaced %v", text, err, a.Replaced)
	}

	kept := filepath.Join(t.TempDir(), "canary-good")
	if err := a.Repository(t.Context(), kept, c.Git); err != nil {
		t.Fatal(err)
	}
	w = newWorld()
	again := w.config(t, kept, head)
	again.Job.BaseRef = ""
	again.Repeat = &Repeat{Base: first.Base}
	again.Canonical = nil
	if r := live(t, w, again, t.Context()); r.Verdict != first.Verdict || r.Base == nil || r.Base.Commit != first.Base.Commit {
		t.Errorf("%s (%+v), base %+v", r.Verdict, r.Cause, r.Base)
	}
	w = newWorld()
	none := w.config(t, kept, head)
	none.Job.BaseRef = ""
	none.Repeat = &Repeat{NoBase: "there was no release then"}
	if r := live(t, w, none, t.Context()); r.Base != nil || r.Stage(ccci.StageUpgrade).Reason != "there was no release then" {
		t.Errorf("base %+v, upgrade %+v", r.Base, r.Stage(ccci.StageUpgrade))
	}
}

// A run that fetched nothing has nothing to repeat, and a quick one stands on data that is not kept.
func TestN9_RunsThatCannotBeRepeatedKeepNothing(t *testing.T) {
	repo, head := example(t)
	for name, spoil := range map[string]func(*Config){
		"nothing fetched": func(c *Config) { c.Job.CloneURL = filepath.Join(repo, "absent") },
		"quick":           func(c *Config) { c.Job.Options.Quick = true },
	} {
		w := newWorld()
		c := w.config(t, repo, head)
		spoil(&c)
		r := live(t, w, c, t.Context())
		if archiveOf(t, c, r) != nil {
			t.Errorf("%s: an archive was kept", name)
		}
		if left, _ := filepath.Glob(filepath.Join(c.OutDir, ".repro*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// N9: a run that left a broken base begins with that base when it is repeated, from what it kept.
func TestN9_ABrokenBaseIsTriedAgain(t *testing.T) {
	theirs := &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "its task was rejected"), Reason: "rejected"}
	run := func(repo string, head ccci.Commit, repeat *Repeat) (Config, *ccci.Result, []string) {
		t.Helper()
		var deployed []string
		w := newWorld()
		c := w.config(t, repo, head)
		c.Repeat = repeat
		if repeat != nil {
			c.Job.BaseRef = ""
		}
		c.Deployer = breaking{worldDeployer: worldDeployer{world: w}, versions: []string{"0.1.0+1.0.0"}, why: theirs, deployed: &deployed}
		return c, live(t, w, c, t.Context()), deployed
	}
	repo, head := withReleases(t, "0.0.9+1.0.0")
	c, first, then := run(repo, head, nil)
	kept := filepath.Join(t.TempDir(), "canary-good")
	if err := archiveOf(t, c, first).Repository(t.Context(), kept, c.Git); err != nil {
		t.Fatal(err)
	}
	_, again, now := run(kept, head, &Repeat{Base: first.FirstBase()})
	if len(first.BrokenBases) != 1 || !slices.Equal(then, now) || len(again.BrokenBases) != 1 || again.Base.Version != "0.0.9+1.0.0" || !repro.Same(first, again) {
		t.Errorf("deployed %v, then %v; base %+v, %s", then, now, again.Base, repro.Verdict(again))
	}
	if differ := repro.Differences(first, again); len(differ) > 0 {
		t.Errorf("%q", differ)
	}
}
