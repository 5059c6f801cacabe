package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// withReleases adds older releases to the example, each a commit that its release is built upon.
func withReleases(t *testing.T, tags ...string) (repo string, head ccci.Commit) {
	t.Helper()
	repo, head = example(t)
	release := gitOut(t, repo, "rev-parse", "0.1.0+1.0.0^{commit}")
	for _, tag := range tags {
		gitOut(t, repo, "checkout", "--quiet", "--orphan", "old-"+tag, release)
		file := filepath.Join(repo, "compose.yml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "0.1.0+1.0.0", tag)), 0o644); err != nil {
			t.Fatal(err)
		}
		gitOut(t, repo, "commit", "--quiet", "--all", "--message="+tag)
		gitOut(t, repo, "tag", "--annotate", "--message="+tag, tag)
	}
	return repo, head
}

// breaking fails for the versions that are listed.
type breaking struct {
	worldDeployer
	versions []string
	why      error
	took     time.Duration
	deployed *[]string
}

func (b breaking) Deploy(ctx context.Context, stack *recipe.Stack) error {
	*b.deployed = append(*b.deployed, stack.Version)
	if slices.Contains(b.versions, stack.Version) {
		time.Sleep(b.took) // of the test's own time
		return b.why
	}
	return b.worldDeployer.Deploy(ctx, stack)
}

// U4, N7: a base that fails by itself is not the pull request's failure. An older release takes its
// place; where none works the head is installed afresh, and the upgrade is unverified.
func TestN7_ABaseThatDoesNotInstall(t *testing.T) {
	const last, head = "0.1.0+1.0.0", "0.2.0+1.1.0"
	theirs := &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "its task was rejected").WithHint("mend it"), Reason: "rejected"}
	ours := errors.New("the daemon is gone")
	for name, c := range map[string]struct {
		older    []string // further releases
		broken   []string
		why      error
		took     time.Duration
		options  ccci.Options
		deployed []string
		status   ccci.Status
		upgrade  ccci.CheckStatus
		reason   string
		level    int
	}{
		"an older one works": {[]string{"0.0.9+1.0.0"}, []string{last}, theirs, 0, ccci.Options{}, []string{last, "0.0.9+1.0.0", head}, ccci.StatusPassed, ccci.Pass, "", 5},
		"no other release":   {nil, []string{last}, theirs, 0, ccci.Options{}, []string{last, head}, ccci.StatusPassed, ccci.Unverified, "the base is broken: " + last + " does not install", 1},
		"all are broken": {[]string{"0.0.9+1.0.0", "0.0.8+1.0.0", "0.0.7+1.0.0"}, []string{last, "0.0.9+1.0.0", "0.0.8+1.0.0", "0.0.7+1.0.0"}, theirs, 0, ccci.Options{},
			[]string{last, "0.0.9+1.0.0", "0.0.8+1.0.0", head}, ccci.StatusPassed, ccci.Unverified, "the bases are broken", 1},
		"the time is up":         {[]string{"0.0.9+1.0.0"}, []string{last, "0.0.9+1.0.0"}, theirs, 25 * time.Minute, ccci.Options{}, []string{last, head}, ccci.StatusPassed, ccci.Unverified, "the base is broken", 1},
		"the head is broken too": {nil, []string{last, head}, theirs, 0, ccci.Options{}, []string{last, head}, ccci.StatusFailed, ccci.Unverified, "not run: install did not pass", 0},
		"it was asked for":       {[]string{"0.0.9+1.0.0"}, []string{last}, theirs, 0, ccci.Options{From: last}, []string{last, head}, ccci.StatusInconclusive, ccci.Unverified, "the base is broken", 1},
		"our side":               {[]string{"0.0.9+1.0.0"}, []string{last}, ours, 0, ccci.Options{}, []string{last}, ccci.StatusErrored, ccci.Unverified, "not run: install did not pass", 0},
	} {
		t.Run(name, func(t *testing.T) {
			repo, commit := withReleases(t, c.older...)
			w := newWorld()
			config := w.config(t, repo, commit)
			config.Job.Options = c.options
			var deployed []string
			config.Deployer = breaking{worldDeployer{world: w}, c.broken, c.why, c.took, &deployed}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if !slices.Equal(deployed, c.deployed) {
					t.Errorf("deployed %v, want %v", deployed, c.deployed)
				}
				if s := r.Stage(ccci.StageUpgrade); r.Status != c.status || s.Status != c.upgrade || !strings.Contains(s.Reason, c.reason) || r.Level != c.level {
					t.Errorf("status %s, level %d (%s), cause %+v, upgrade %s: %s", r.Status, r.Level, r.LevelReason, r.Cause, s.Status, s.Reason)
				}
				if c.why != ours && (len(r.BrokenBases) == 0 || r.BrokenBases[0].What == "" || r.BrokenBases[0].Cause.Check != "install/converged" || r.BrokenBases[0].Cause.Hint != "mend it") {
					t.Errorf("broken bases %+v", r.BrokenBases)
				}
				if name == "the head is broken too" && (r.Cause == nil || !strings.Contains(r.Cause.Hint, "look for what this commit and "+last+" both use")) {
					t.Errorf("cause %+v", r.Cause)
				}
				if !r.Teardown.Clean || r.Cause != nil && r.Cause.Check == "run/deployments" {
					t.Errorf("teardown %+v, cause %+v", r.Teardown, r.Cause)
				}
			})
		})
	}
}

// N6: what a base leaves behind ends the run: nothing of it may be there when the head is installed.
func TestN6_ABaseThatStaysIsNotDeployedOver(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	w.fail("deploy base", &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "it is broken"), Reason: "rejected"})
	c := w.config(t, repo, head)
	w.left = Snapshot{{Kind: "volume", ID: "1", Name: recipe.StackName(c.Job.RunID.AppName(c.Job.Recipe)+"."+c.CIDomain) + "_data"}}
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if w.count("deploy head") != 0 || r.Cause == nil || r.Cause.Check != "install/base-removed" || !strings.Contains(r.Cause.Message, "_data") {
			t.Errorf("status %s, cause %+v, %v", r.Status, r.Cause, w.events)
		}
	})
}

// N3: a release that admission would refuse today is a broken base, and a head that it refuses is refused.
func TestN3_ARefusedBaseIsNoRefusalOfTheHead(t *testing.T) {
	privileged := replacing(t, "    image:", "    privileged: true\n    image:")
	for name, c := range map[string]struct {
		base, head func(string) string
		want       ccci.Status
	}{
		"the base": {privileged, same, ccci.StatusPassed},
		"the head": {same, privileged, ccci.StatusRefused},
		"both":     {privileged, privileged, ccci.StatusRefused},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := reworked(t, c.base, c.head)
			w := newWorld()
			config := w.config(t, repo, head)
			var log bytes.Buffer
			config.Log = &log
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Status != c.want || w.count("deploy base") != 0 {
					t.Errorf("%s, cause %+v, %v", r.Status, r.Cause, w.events)
				}
				if refused := r.Status == ccci.StatusRefused; refused != strings.Contains(log.String(), "##[stage install end refused ") || refused && strings.Contains(log.String(), "failed     ") {
					t.Errorf("the log of a run that is %s says\n%s", r.Status, &log)
				}
			})
		})
	}
}
