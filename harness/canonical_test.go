package harness

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// worldKeeper keeps the world's files.
type worldKeeper struct{ *world }

func (k worldKeeper) Keep(_ context.Context, stack *recipe.Stack, _ map[string]ccci.Secret) (ccci.Kept, error) {
	return ccci.Kept{Snapshot: "beef", Volumes: []string{"data"}}, k.did("keep %s", kindOf(stack))
}

func (k worldKeeper) Secrets(ccci.Canonical) (map[string]ccci.Secret, error) {
	return map[string]ccci.Secret{"token": ccci.NewSecret("remembered-secret"), "former": ccci.NewSecret("of-the-base")}, k.did("secrets")
}

func (k worldKeeper) Fill(_ context.Context, stack *recipe.Stack, c ccci.Canonical) error {
	if k.stack != nil {
		return errors.New("something is deployed already")
	}
	for _, volume := range c.Kept.Volumes { // in the example it is at /data
		maps.Copy(k.files, map[string][]byte{"/" + volume + "/" + canaryFile: []byte(c.Kept.Marker)})
	}
	return k.did("fill %s", kindOf(stack))
}

// released is the canonical that a sweep makes of the example's release.
func released(t testing.TB, repo string) ccci.Canonical {
	t.Helper()
	return ccci.Canonical{
		Recipe: "canary-good", Commit: ccci.Commit(gitOut(t, repo, "rev-parse", "0.1.0+1.0.0^{commit}")), Version: "0.1.0+1.0.0", Release: "0.1.0+1.0.0",
		Run: "261120-030000-abcdef", Kept: ccci.Kept{Snapshot: "beef", Volumes: []string{"data"}, Marker: "ccci-a-kept"},
	}
}

func giving(c ccci.Canonical, err error) func(context.Context) (ccci.Canonical, error) {
	return func(context.Context) (ccci.Canonical, error) { return c, err }
}

// U4: the last green canonical comes before the newest release; one that does not
// fit is passed over, and one that cannot be read is told of.
func TestU4_TheCanonicalIsTheFirstBase(t *testing.T) {
	repo, head := example(t)
	good := released(t, repo)
	tip := good
	tip.Release, tip.Branch = "", "main"
	gone := good
	gone.Commit = ccci.Commit(strings.Repeat("0", 40))
	self := good
	self.Commit, self.Version = head, "0.2.0+1.1.0"
	for name, c := range map[string]struct {
		canonical       func(context.Context) (ccci.Canonical, error)
		reason, version string
		warning         bool
	}{
		"a release":      {giving(good, nil), "the last green canonical", "0.1.0+1.0.0", false},
		"a tip":          {giving(tip, nil), "main at " + good.Commit.Short() + " is the last green canonical", "main", false},
		"none":           {giving(ccci.Canonical{}, ccci.ErrNotFound), "the newest release", "0.1.0+1.0.0", false},
		"not asked":      {nil, "the newest release", "0.1.0+1.0.0", false},
		"gone":           {giving(gone, nil), "the newest release", "0.1.0+1.0.0", false},
		"the head":       {giving(self, nil), "the newest release", "0.1.0+1.0.0", false},
		"not to be read": {giving(good, errors.New("torn")), "the newest release", "0.1.0+1.0.0", true},
	} {
		t.Run(name, func(t *testing.T) {
			config := newWorld().config(t, repo, head)
			config.Canonical = c.canonical
			synctest.Test(t, func(t *testing.T) {
				r := live(t, config.Deployer.(worldDeployer).world, config, t.Context())
				if r.Status != ccci.StatusPassed || r.Base == nil || r.Base.Commit != good.Commit || r.Base.Version != c.version || !strings.Contains(r.Base.Reason, c.reason) {
					t.Errorf("status %s, base %+v", r.Status, r.Base)
				}
				if told := slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "canonical: torn") }); told != c.warning {
					t.Errorf("warnings %q", r.Warnings)
				}
			})
		})
	}
}

// U4: a release that has the head's version under another name, a newer one, and what is built upon
// the head are no bases, and a label that is still that of a release is a finding.
func TestU4_NeverXToXAndNeverDown(t *testing.T) {
	repo, _ := example(t)
	at := map[string]ccci.Commit{}
	commit := func(name, version string, tags ...string) {
		file := filepath.Join(repo, "compose.yml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`version=[^"]+`).ReplaceAll(text, []byte("version="+version))
		if err := os.WriteFile(file, append(text, "# "+name+"\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		gitOut(t, repo, "commit", "--quiet", "--all", "--message="+name)
		for _, tag := range tags {
			gitOut(t, repo, "tag", "--annotate", "--message="+tag, tag)
		}
		at[name] = ccci.Commit(gitOut(t, repo, "rev-parse", "HEAD"))
	}
	gitOut(t, repo, "tag", "--delete", "0.1.0+1.0.0")
	gitOut(t, repo, "checkout", "--quiet", "main")
	commit("two", "1.0.2+1.0.2", "v1.0.2")
	commit("three", "1.0.3+1.0.3", "v1.0.3")
	commit("unbumped", "1.0.3+1.0.3")
	gitOut(t, repo, "checkout", "--quiet", "-b", "old", string(at["two"]))
	commit("down", "1.0.2+1.0.2")
	gitOut(t, repo, "checkout", "--quiet", "main")
	commit("tip", "1.0.4+1.0.4")
	for _, c := range []struct {
		name, head, from string
		base, reason     string // "" for no base
		finding          string
	}{
		{"an unbumped label", "unbumped", "", "v1.0.2", "newest release older than 1.0.3+1.0.3", "still 1.0.3+1.0.3, which the release v1.0.3 has"},
		{"only newer releases", "down", "", "", "the version 1.0.4+1.0.4 of main is newer than the head's 1.0.2+1.0.2", "still 1.0.2+1.0.2, which the release v1.0.2 has"},
		{"the first release, main is ahead", "two", "", "", "main is built upon the head", ""},
		{"the next version", "tip", "", "v1.0.3", "newest release older than 1.0.4+1.0.4", ""},
		{"asked for X to X", "unbumped", "v1.0.3", "", "its version v1.0.3 is not older than the head's 1.0.3+1.0.3", ""},
		{"asked for a newer one", "two", "v1.0.3", "", "it is built upon the head", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			config := w.config(t, repo, at[c.head])
			config.Job.Options.From = c.from
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if c.from != "" {
					if r.Cause == nil || !strings.Contains(r.Cause.Message, c.reason) || r.Base != nil {
						t.Errorf("cause %+v, base %+v", r.Cause, r.Base)
					}
					// The bridge says the same before a run.
					if bases, err := recipe.Bases(t.Context(), repo, at[c.head]); err != nil || bases.Unusable[c.from] != c.reason {
						t.Errorf("%+v, %v", bases, err)
					}
					return
				}
				if r.Status != ccci.StatusPassed {
					t.Errorf("%s, cause %+v", r.Status, r.Cause)
				}
				base, reason := "", r.Stage(ccci.StageUpgrade).Reason
				if r.Base != nil {
					base, reason = r.Base.Version, r.Base.Reason
				}
				if base != c.base || !strings.Contains(reason, c.reason) {
					t.Errorf("base %q: %s; want %q: %s", base, reason, c.base, c.reason)
				}
				var findings []string
				for _, f := range r.Lint {
					if f.Rule == "C011" {
						findings = append(findings, f.Message)
					}
				}
				if got := strings.Join(findings, "\n"); !strings.Contains(got, c.finding) || (got == "") != (c.finding == "") {
					t.Errorf("findings %q, want %q", got, c.finding)
				}
			})
		})
	}
}

// N3: an image whose tag was moved since the last green canonical is named.
func TestN3_AMovedTagIsNamed(t *testing.T) {
	repo, head := example(t)
	canonical := released(t, repo)
	canonical.Images = []ccci.Image{{Reference: "base", Digest: "sha256:" + strings.Repeat("a", 64)}, {Reference: "head", Digest: worldDigest}}
	config := newWorld().config(t, repo, head)
	config.Canonical = giving(canonical, nil)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, config.Deployer.(worldDeployer).world, config, t.Context())
		want := "the image base has changed behind its tag since run 261120-030000-abcdef: " + strings.Repeat("a", 12) + " → " + strings.Repeat("d", 12)
		if r.Status != ccci.StatusPassed || !slices.Contains(r.Warnings, want) || strings.Contains(strings.Join(r.Warnings, "\n"), "image head") {
			t.Errorf("%s, warnings %q", r.Status, r.Warnings)
		}
	})
}

// U20: a quick run deploys the canonical with its data, upgrades it and checks the
// app; what it leaves out is skipped with the reason, and it reaches no level.
func TestU20_QuickRun(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	c.Job.Options.Quick, c.Keeper, c.Canonical = true, worldKeeper{w}, giving(released(t, repo), nil)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusPassed || r.Level != 0 || r.Deployments != 1 || r.Upgrades != 1 || r.Kept != nil {
			t.Errorf("status %s, level %d, %d deployments, %d upgrades, kept %+v, cause %+v", r.Status, r.Level, r.Deployments, r.Upgrades, r.Kept, r.Cause)
		}
		for _, s := range r.Stages {
			want, reason := ccci.Pass, ""
			if s.Name == ccci.StageBackup || s.Name == ccci.StageRestore {
				want, reason = ccci.Skip, Quick
			}
			if s.Status != want || s.Reason != reason {
				t.Errorf("%s is %s: %s", s.Name, s.Status, s.Reason)
			}
		}
		want := []string{
			"snapshot", "pull base", "secrets", "new", "fill base", "route base", "deploy base",
			"pull head", "route head", "deploy head", "label", "label",
			"logs", "settle", "label", "close backup", "unroute", "remove", "snapshot",
		}
		if diff := cmp.Diff(want, without(w.events, beside...)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if w.count("prepare") != 0 {
			t.Error("a repository was made for no backup")
		}
		if got := string(c.Censor.Mask([]byte("remembered-secret"))); strings.Contains(got, "remembered") {
			t.Errorf("a remembered secret is not masked: %s", got)
		}
	})
}

// U20: where there is nothing to stand on nothing is made, and the recipe is not blamed.
func TestU20_QuickRunWithoutAFittingCanonical(t *testing.T) {
	repo, head := example(t)
	good := released(t, repo)
	empty, self, newer := good, good, good
	empty.Kept = ccci.Kept{Without: "service app has mode global and cannot be stopped"}
	self.Commit = head
	newer.Version = "9.0.0+1"
	for name, c := range map[string]struct {
		change func(*Config)
		why    string
	}{
		"none":      {func(c *Config) { c.Canonical = giving(good, ccci.ErrNotFound) }, "there is no canonical of canary-good"},
		"no keeper": {func(c *Config) { c.Keeper = nil }, "there is no canonical of canary-good"},
		"no data":   {func(c *Config) { c.Canonical = giving(empty, nil) }, "has no data: service app has mode global"},
		"the head":  {func(c *Config) { c.Canonical = giving(self, nil) }, "it is the head itself"},
		"newer":     {func(c *Config) { c.Canonical = giving(newer, nil) }, "is not older than"},
		"dependencies": {func(c *Config) {
			c.Settings.Depends = []ccci.Dependency{{Recipe: "canary-good"}}
			c.Enrolment = func(string) (ccci.Recipe, error) { return newWorld().config(t, repo, head).Settings, nil }
		}, "depends on other apps"},
		"no upgrade": {func(c *Config) { c.Settings.Skip = []ccci.SkipStage{{Stage: ccci.StageUpgrade, Reason: "it cannot"}} }, "is skipped: it cannot"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			config := w.config(t, repo, head)
			config.Job.Options.Quick, config.Keeper, config.Canonical = true, worldKeeper{w}, giving(good, nil)
			c.change(&config)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Status != ccci.StatusErrored || r.Cause == nil || r.Cause.Check != "install/fetch" || !strings.Contains(r.Cause.Message, c.why) {
					t.Errorf("status %s, cause %+v", r.Status, r.Cause)
				}
				if w.count("new")+w.count("fill base")+r.Deployments != 0 {
					t.Errorf("something was made: %v", w.events)
				}
			})
		})
	}
}

// N4: data of the canonical that is not there is found before the upgrade, and is
// no fault of the pull request's; data that the upgrade loses is.
func TestU20_QuickRunReadsTheDataBack(t *testing.T) {
	repo, head := example(t)
	t.Run("not the canonical's", func(t *testing.T) {
		w := newWorld()
		c := w.config(t, repo, head)
		c.Job.Options.Quick, c.Keeper, c.Canonical = true, worldKeeper{w}, giving(released(t, repo), nil)
		w.on["deploy base"] = func() error { clear(w.files); return nil }
		synctest.Test(t, func(t *testing.T) {
			r := live(t, w, c, t.Context())
			if r.Status != ccci.StatusInconclusive || r.Cause == nil || r.Cause.Check != "install/verify" || w.count("deploy head") != 0 {
				t.Errorf("cause %+v, %v", r.Cause, w.events)
			}
		})
	})
	t.Run("lost by the upgrade", func(t *testing.T) {
		w := newWorld()
		c := w.config(t, repo, head)
		c.Job.Options.Quick, c.Keeper, c.Canonical = true, worldKeeper{w}, giving(released(t, repo), nil)
		w.on["deploy head"] = func() error { clear(w.files); return nil }
		synctest.Test(t, func(t *testing.T) {
			r := live(t, w, c, t.Context())
			if r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != "upgrade/verify" {
				t.Errorf("status %s, cause %+v", r.Status, r.Cause)
			}
		})
	})
}

// stopping notes whether the app was stopped when its data was kept.
type stopping struct {
	worldDeployer
	replicas *[]uint64
}

func (d stopping) Deploy(ctx context.Context, stack *recipe.Stack) error {
	for _, s := range stack.Config.Services {
		if s.Deploy.Replicas != nil {
			*d.replicas = append(*d.replicas, *s.Deploy.Replicas)
		}
	}
	return d.worldDeployer.Deploy(ctx, stack)
}

// U20: a green run of the sweep keeps the data, seeded anew and of a stopped app,
// before the teardown; no other run does.
func TestU20_OnlyAGreenSweepKeepsTheData(t *testing.T) {
	repo, head := example(t)
	sweep := func(c *Config) { c.Job.Trigger = ccci.TriggerSweep }
	for name, c := range map[string]struct {
		change func(*Config)
		fails  string
		kept   bool
		warns  bool
	}{
		"sweep":       {sweep, "", true, false},
		"by a person": {func(*Config) {}, "", false, false},
		"in part": {func(c *Config) {
			sweep(c)
			c.Job.Options.Stages = []ccci.StageName{ccci.StageUpgrade}
		}, "", false, false},
		"red": {sweep, "open page", false, false},
		"steps that save": {func(c *Config) {
			sweep(c)
			c.Settings.Seed = []ccci.Step{{Name: "s", HTTP: &ccci.HTTPStep{Expect: ccci.HTTPExpect{JSON: map[string]string{}}, Save: map[string]string{"all": "a"}}}}
		}, "", false, false},
		"it cannot be stored": {sweep, "keep head", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			config := w.config(t, repo, head)
			var replicas []uint64
			config.Keeper, config.Deployer = worldKeeper{w}, stopping{worldDeployer{world: w}, &replicas}
			c.change(&config)
			if c.fails != "" {
				w.fail(c.fails, errors.New("broken on purpose"))
			}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if (r.Kept != nil) != c.kept || r.Trigger != config.Job.Trigger {
					t.Errorf("kept %+v, trigger %q", r.Kept, r.Trigger)
				}
				if warns := slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "data was not kept: broken") }); warns != c.warns {
					t.Errorf("warnings %q", r.Warnings)
				}
				if c.warns && r.Status != ccci.StatusPassed {
					t.Errorf("the recipe is blamed: %s", r.Status)
				}
				if !c.kept {
					if n := w.count("keep head"); n > 0 && !c.warns {
						t.Error("data was kept")
					}
					return
				}
				if r.Kept.Snapshot != "beef" || r.Kept.Marker == "" || string(w.files["/data/"+canaryFile]) != r.Kept.Marker {
					t.Errorf("%+v, the app has %q", r.Kept, w.files)
				}
				end := []string{"logs", "settle", "label", "copy in", "deploy head", "keep head", "close backup", "unroute", "remove", "snapshot"}
				did := without(w.events, beside...)
				if !slices.Equal(did[len(did)-len(end):], end) {
					t.Errorf("%v", did)
				}
				if !slices.Contains(replicas, 0) {
					t.Errorf("the app ran while its data was kept: replicas %v", replicas)
				}
			})
		})
	}
}

func TestU20_AnAppThatCannotBeStoppedKeepsNoData(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	l := &life{instance: newInstance(&c, c.Job.RunID, "canary-good", c.Settings), markers: map[string]string{}, result: &ccci.Result{}}
	l.log = c.Censor.NewWriter(c.Log)
	if err := l.fetchTrees(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.admitTrees(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := l.head.Config.Services[0].Deploy.Replicas
	if stack, why := stopped(l.head); why != "" || *stack.Config.Services[0].Deploy.Replicas != 0 {
		t.Errorf("%q", why)
	}
	if l.head.Config.Services[0].Deploy.Replicas != before {
		t.Error("the stack itself was changed")
	}
	l.head.Config.Services[0].Deploy.Mode = "global"
	if stack, why := stopped(l.head); stack != nil || !strings.Contains(why, "mode global") {
		t.Errorf("%q", why)
	}
}
