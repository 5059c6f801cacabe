package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/cli/cli/compose/types"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

// live runs the example in the world, in time that passes by itself.
func live(t *testing.T, w *world, c Config, ctx context.Context) *ccci.Result {
	t.Helper()
	result, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(c.OutDir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var written ccci.Result
	if err := json.Unmarshal(text, &written); err != nil {
		t.Fatal(err)
	}
	if written.Status != result.Status || written.Teardown == nil != (result.Teardown == nil) {
		t.Errorf("result.json says %s, the process says %s", written.Status, result.Status)
	}
	return result
}

// beside are operations that run beside the stages or as often as is needed.
var beside = []string{"start browser", "stop browser", "prepare", "prepare daemon", "open page", "request", "plan", "copy out"}

func TestU2_WholeRunDoesEachThingOnceInOrder(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusPassed || r.Deployments != 1 || r.Upgrades != 1 {
			t.Errorf("status %s, %d deployments, %d upgrades, cause %+v", r.Status, r.Deployments, r.Upgrades, r.Cause)
		}
		var stages []ccci.StageName
		for _, s := range r.Stages {
			stages = append(stages, s.Name)
			if s.Status != ccci.Pass {
				t.Errorf("%s is %s: %s", s.Name, s.Status, s.Reason)
			}
		}
		if !slices.Equal(stages, ccci.StageNames) {
			t.Errorf("stages %v", stages)
		}
		want := []string{
			"snapshot",
			"pull base", "new", "route base", "deploy base", "copy in", // install, with the first data
			"pull head", "route head", "deploy head", "label", "label", // upgrade, proven at its begin and end
			"backup", "inspect",
			"copy in", "restore", "converge", // other data, then the old
			"logs",            // looked through for secrets and kept
			"settle", "label", // the last look
			"close backup", "unroute", "remove", "snapshot",
		}
		if diff := cmp.Diff(want, without(w.events, beside...)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if w.count("prepare") != 1 || w.count("prepare daemon") != 1 || w.count("start browser") != 1 || w.count("stop browser") != 1 {
			t.Errorf("what runs beside the stages: %v", w.events)
		}
		if td := r.Teardown; td == nil || !td.Clean || td.Removed["service"] != 1 {
			t.Errorf("teardown %+v", td)
		}
	})
	if _, err := os.Stat(c.WorkDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the work folder is left: %v", err)
	}
}

// Wherever a run breaks, the first cause decides, nothing is done twice, and
// the teardown comes last and whole.
func TestA19_TeardownWhereverARunBreaks(t *testing.T) {
	repo, head := example(t)
	theirs := ccci.Errorf(ccci.CodeRecipe, "broken on purpose")
	ours := errors.New("the daemon is gone")
	for _, c := range []struct {
		at     string
		err    error
		cause  string
		status ccci.Status
	}{
		{"pull base", theirs, "", ccci.StatusPassed},
		{"pull base", ours, "install/images", ccci.StatusErrored},
		{"new", ours, "install/created", ccci.StatusErrored},
		{"route base", ours, "install/converged", ccci.StatusErrored},
		{"deploy base", &DeployError{Err: theirs, Reason: "rejected"}, "", ccci.StatusPassed},
		{"request", errors.New("connection refused"), "install/serves", ccci.StatusFailed},
		{"copy in", ours, "install/seed", ccci.StatusErrored},
		{"pull head", theirs, "upgrade/images", ccci.StatusFailed},
		{"deploy head", &DeployError{Err: theirs, Reason: "rollback"}, "upgrade/converged", ccci.StatusFailed},
		{"label", ours, "upgrade/commit", ccci.StatusErrored},
		{"plan", theirs, "backup/labels", ccci.StatusFailed},
		{"prepare", ours, "backup/repository", ccci.StatusErrored},
		{"backup", theirs, "backup/snapshot", ccci.StatusFailed},
		{"inspect", errors.New("a problem"), "backup/expected-paths", ccci.StatusFailed},
		{"restore", theirs, "restore/restored", ccci.StatusFailed},
		{"restore", errors.New("does nothing"), "restore/verify", ccci.StatusFailed},
		{"converge", theirs, "restore/converged", ccci.StatusFailed},
		{"settle", theirs, "checks/still-running", ccci.StatusFailed},
		{"open page", errors.New("page crashed"), "checks/page", ccci.StatusFailed},
		{"close backup", ours, "teardown/clean", ccci.StatusErrored},
		{"unroute", ours, "teardown/clean", ccci.StatusErrored},
		{"remove", ours, "teardown/clean", ccci.StatusErrored},
	} {
		t.Run(c.at+" "+c.cause, func(t *testing.T) {
			w := newWorld()
			w.fail(c.at, c.err)
			config := w.config(t, repo, head)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if cause := r.Cause; r.Status != c.status || (cause == nil) != (c.cause == "") || cause != nil && cause.Check != c.cause {
					t.Errorf("status %s, cause %+v", r.Status, r.Cause)
				}
				if len(r.Stages) != len(ccci.StageNames) {
					t.Errorf("%d stages are told of", len(r.Stages))
				}
				end := []string{"close backup", "unroute", "remove", "snapshot"}
				did := without(w.events, beside...)
				if !slices.Equal(did[len(did)-len(end):], end) {
					t.Errorf("the teardown is not last and whole: %v", did)
				}
				for _, once := range []string{"new", "deploy base", "deploy head", "backup", "restore", "remove"} {
					most := 1
					if once == "new" || once == "remove" { // once more for a base that was left
						most += len(r.BrokenBases)
					}
					if w.count(once) > most {
						t.Errorf("%s took place %d times", once, w.count(once))
					}
				}
				if r.Teardown == nil {
					t.Error("no proof of the teardown")
				}
			})
		})
	}
}

// A stage that stands on a broken one is not run, and is not green (U23).
func TestU23_StageOnABrokenOneIsUnverified(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	w.fail("deploy head", ccci.Errorf(ccci.CodeRecipe, "rolled back"))
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		for _, name := range []ccci.StageName{ccci.StageBackup, ccci.StageRestore, ccci.StageChecks} {
			if s := r.Stage(name); s.Status != ccci.Unverified || !strings.Contains(s.Reason, "upgrade did not pass") {
				t.Errorf("%s is %s: %s", name, s.Status, s.Reason)
			}
		}
		if w.count("backup")+w.count("restore") != 0 {
			t.Errorf("the backup was touched: %v", w.events)
		}
	})
}

// U3: a daemon that went back to the old version by itself says so by its label.
func TestU3_AnUpgradeThatDidNotTakePlaceFails(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	c.Deployer = rollingBack{worldDeployer{world: w}}
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != "upgrade/commit" {
			t.Errorf("status %s, cause %+v", r.Status, r.Cause)
		}
	})
}

// U3: swarm may roll the head back long after the upgrade, and a service may end then. Whichever stage is the last
// one looks once more.
func TestU3_EveryRunLooksAgainBeforeItsVerdict(t *testing.T) {
	repo, head := example(t)
	for name, c := range map[string]struct {
		options  ccci.Options
		skip     []ccci.SkipStage
		disabled bool // there is no backup
		at       string
	}{
		"after a restore":       {at: "checks/still-running"},
		"without a backup":      {disabled: true, at: "checks/still-running"},
		"without checks":        {skip: []ccci.SkipStage{{Stage: ccci.StageChecks, Reason: "x"}}, at: "restore/still-running"},
		"without a restore too": {skip: []ccci.SkipStage{{Stage: ccci.StageChecks, Reason: "x"}}, disabled: true, at: "restore/still-running"},
		"only install":          {options: ccci.Options{Stages: []ccci.StageName{ccci.StageInstall}}, at: "install/still-running"},
		"only upgrade":          {options: ccci.Options{Stages: []ccci.StageName{ccci.StageUpgrade}}, at: "upgrade/still-running"},
		"only checks":           {options: ccci.Options{Stages: []ccci.StageName{ccci.StageChecks}}, at: "checks/still-running"},
	} {
		for what, why := range map[string]error{"a failure": &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "rolled back"), Reason: "rollback"}, "nothing": nil} {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWorld()
				w.plan = func(*recipe.Stack) BackupPlan {
					return BackupPlan{Enabled: !c.disabled, Volumes: []BackupVolume{{Key: "data"}}}
				}
				w.on["settle"] = func() error { return why }
				config := w.config(t, repo, head)
				config.Job.Options, config.Settings.Skip = c.options, c.skip
				synctest.Test(t, func(t *testing.T) {
					r := live(t, w, config, t.Context())
					if why == nil && (r.Status != ccci.StatusPassed || w.count("settle") == 0) || why != nil && (r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != c.at) {
						t.Errorf("status %s, level %d, cause %+v", r.Status, r.Level, r.Cause)
					}
				})
			})
		}
	}
}

// U3: what runs at the end is the commit under test.
func TestU3_ARollBackDuringTheStageIsFound(t *testing.T) {
	repo, head := example(t)
	for at, looks := range map[string]int{"upgrade/still-head": 2, "checks/still-running": 3} {
		t.Run(at, func(t *testing.T) {
			w := newWorld()
			w.on["label"] = func() error {
				if w.count("label") == looks {
					return ccci.Errorf(ccci.CodeRecipe, "another commit")
				}
				return nil
			}
			c := w.config(t, repo, head)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, c, t.Context())
				if r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != at {
					t.Errorf("status %s, cause %+v", r.Status, r.Cause)
				}
			})
		})
	}
}

// rollingBack reports the labels of the released version, which has no commit.
type rollingBack struct{ worldDeployer }

func (rollingBack) Label(context.Context, *recipe.Stack, string, string) (string, error) {
	return "", nil
}

// U1: data that an upgrade lost is found out without a line of enrolment.
func TestU1_LostDataIsFoundByTheCanary(t *testing.T) {
	repo, head := example(t)
	for name, lose := range map[string]func(*world){
		"gone": func(w *world) { clear(w.files) },
		"emptied": func(w *world) {
			for path := range w.files {
				w.files[path] = []byte("something else")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.on["deploy head"] = func() error { lose(w); return nil }
			c := w.config(t, repo, head)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, c, t.Context())
				if r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != "upgrade/verify" || !strings.Contains(r.Cause.Message, "volume data") {
					t.Errorf("status %s, cause %+v", r.Status, r.Cause)
				}
			})
		})
	}
}

// U5, U6, U23: a restore of which nothing can be read back is not tested: the level stays below it, the reason is
// said, and neither recipe nor infrastructure is blamed.
func TestU5_ARestoreThatProvesNothingIsUnverified(t *testing.T) {
	repo, head := example(t)
	whole, part := []BackupVolume{{Key: "data"}}, []BackupVolume{{Key: "data", Paths: []string{"dump"}}}
	verify := []ccci.Step{{Name: "read", HTTP: &ccci.HTTPStep{Path: "/"}}}
	for name, c := range map[string]struct {
		plan   BackupPlan
		stored map[string]int
		verify []ccci.Step
		hook   bool
		reason string // "" is proven
		warns  string
	}{
		"a whole volume":               {BackupPlan{Volumes: whole}, map[string]int{"data": 2}, nil, false, "", ""},
		"a whole volume without data":  {BackupPlan{Volumes: whole}, map[string]int{"data": 1}, nil, false, "", ""},
		"a part of the only volume":    {BackupPlan{Volumes: part}, map[string]int{"data": 1}, nil, false, "no volume is backed up as a whole", ""},
		"the same, with steps":         {BackupPlan{Volumes: part}, map[string]int{"data": 1}, verify, false, "", ""},
		"the same, with a hook":        {BackupPlan{Volumes: part}, map[string]int{"data": 1}, nil, true, "", ""},
		"no volume that is mounted":    {BackupPlan{Volumes: []BackupVolume{{Key: "gone"}}}, nil, nil, false, "no volume is backed up as a whole", ""},
		"only our canary":              {BackupPlan{Volumes: whole, Excluded: []string{"files"}}, map[string]int{"data": 1}, nil, false, "leaves out volume files or parts of it, the rest (data) holds no data", ""},
		"only our canary, with steps":  {BackupPlan{Volumes: whole, Excluded: []string{"files"}}, map[string]int{"data": 1}, verify, false, "", ""},
		"a cache is left out":          {BackupPlan{Volumes: whole, Excluded: []string{"cache"}}, map[string]int{"data": 3}, nil, false, "", "what the app keeps in volume cache"},
		"a dump beside an empty store": {BackupPlan{Volumes: append(whole[:1:1], BackupVolume{Key: "db", Paths: []string{"dump"}})}, map[string]int{"data": 1, "db": 1}, nil, false, "leaves out volume db", ""},
		"a dump beside files":          {BackupPlan{Volumes: append(whole[:1:1], BackupVolume{Key: "db", Paths: []string{"dump"}})}, map[string]int{"data": 9, "db": 1}, nil, false, "", "what the app keeps in volume db"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c.plan.Enabled = true
			w.plan, w.stored = func(*recipe.Stack) BackupPlan { return c.plan }, c.stored
			config := w.config(t, repo, head)
			config.Settings.Verify = c.verify
			if c.hook {
				config.Settings.Dir = t.TempDir()
				hook := filepath.Join(config.Settings.Dir, "hooks", "post-restore")
				if err := errors.Join(os.Mkdir(filepath.Dir(hook), 0o755), os.WriteFile(hook, []byte("#!/bin/sh\n"), 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			run := func(t *testing.T) {
				r := live(t, w, config, t.Context())
				s := r.Stage(ccci.StageRestore)
				if r.Status != ccci.StatusPassed || r.Cause != nil || r.Stage(ccci.StageChecks).Status != ccci.Pass || w.count("restore") != 1 {
					t.Errorf("%s, cause %+v, checks %s", r.Status, r.Cause, r.Stage(ccci.StageChecks).Status)
				}
				switch {
				case c.reason == "" && (s.Status != ccci.Pass || r.Level < 4):
					t.Errorf("restore is %s (%s), level %d (%s)", s.Status, s.Reason, r.Level, r.LevelReason)
				case c.reason != "" && (s.Status != ccci.Unverified || !strings.Contains(s.Reason, c.reason) || r.Level != 2 || !strings.Contains(r.LevelReason, c.reason)):
					t.Errorf("restore is %s (%s), level %d (%s)", s.Status, s.Reason, r.Level, r.LevelReason)
				}
				if warned := strings.Join(r.Warnings, "\n"); c.warns != "" && !strings.Contains(warned, c.warns) || c.warns == "" && strings.Contains(warned, "no step reads back") {
					t.Errorf("warnings %q", r.Warnings)
				}
			}
			if c.hook { // a process has no time of a test's own
				run(t)
				return
			}
			synctest.Test(t, run)
		})
	}
}

// U1, U16: the proxy redirects, refuses and shows error pages by itself. None of that is an app.
func TestU1_AnAppThatIsDeadBehindTheProxyIsRed(t *testing.T) {
	repo, head := example(t)
	redirected := func(last int) func(*http.Request) (int, string) {
		return func(req *http.Request) (int, string) {
			switch {
			case strings.HasPrefix(req.URL.Host, "nobody-"):
				return 404, ""
			case req.URL.Path == "/":
				return 302, "/login"
			}
			return last, ""
		}
	}
	always := func(status int) func(*http.Request) (int, string) {
		return func(req *http.Request) (int, string) {
			if strings.HasPrefix(req.URL.Host, "nobody-") {
				return 404, ""
			}
			return status, ""
		}
	}
	refused := ccci.Errorf(ccci.CodeRecipe, "nothing listens there")
	for name, c := range map[string]struct {
		accepted []int // nil: the default
		answer   func(*http.Request) (int, string)
		page     int
		behind   error
		cause    string // "" passes
		says     string
	}{
		"the app's own redirection":       {nil, redirected(200), 200, nil, "", ""},
		"a redirection to an error":       {nil, redirected(502), 502, refused, "install/serves", "/login, which answered 502"},
		"a redirection to something else": {nil, redirected(200), 200, refused, "install/serves", "port 8080 of service app"},
		"a page that is an error":         {nil, always(200), 502, nil, "checks/page", "answered with 502"},
		"a page that refuses":             {nil, always(200), 403, nil, "checks/page", "answered with 403"},
		"refused, as the enrolment says":  {[]int{401}, always(401), 401, nil, "", ""},
		"refused, and the app is dead":    {[]int{401}, always(401), 401, refused, "install/serves", "port 8080 of service app"},
		"success is the app's":            {nil, always(200), 200, refused, "", ""},
		"the daemon is gone":              {nil, redirected(200), 200, ccci.Errorf(ccci.CodeInfra, "the daemon is gone"), "install/serves", "the daemon is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.answer, w.status, w.behind = c.answer, c.page, c.behind
			config := w.config(t, repo, head)
			if c.accepted != nil {
				config.Settings.Health.Status = c.accepted
			}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if c.cause == "" && r.Status != ccci.StatusPassed || c.cause != "" && (r.Cause == nil || r.Cause.Check != c.cause || !strings.Contains(r.Cause.Message, c.says)) {
					t.Errorf("%s, cause %+v", r.Status, r.Cause)
				}
				if want := ccci.CodeOf(c.behind); c.cause == "install/serves" && c.behind != nil && r.Cause != nil && r.Cause.Code != want {
					t.Errorf("it is the fault of %s, want %s", r.Cause.Code, want)
				}
			})
		})
	}
}

// reworked makes the repository of the example with a release and a head that are edited.
func reworked(t *testing.T, base, head func(compose string) string) (repo string, commit ccci.Commit) {
	t.Helper()
	repo, commit = example(t)
	edit := func(at string, edit func(string) string) {
		gitOut(t, repo, "checkout", "--quiet", "--detach", at)
		file := filepath.Join(repo, "compose.yml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(edit(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
		gitOut(t, repo, "commit", "--quiet", "--all", "--allow-empty", "--message=edited")
	}
	edit("0.1.0+1.0.0", base)
	gitOut(t, repo, "tag", "--force", "--annotate", "--message=edited", "0.1.0+1.0.0")
	edit(string(commit), head)
	return repo, ccci.Commit(gitOut(t, repo, "rev-parse", "HEAD"))
}

func same(compose string) string { return compose }

// replacing edits texts, which must be there.
func replacing(t *testing.T, pairs ...string) func(string) string {
	return func(text string) string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not in\n%s", pairs[i], text)
			}
			text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
		}
		return text
	}
}

// U3: a head may add a secret to those that the base has, and drop others.
func TestU3_AHeadThatAddsASecret(t *testing.T) {
	const key, declared = "      - token\n", "  token:\n    external: true\n    name: ${STACK_NAME}_token_${SECRET_TOKEN_VERSION}\n"
	second := strings.ReplaceAll(declared, "token:", "second:") + "\n"
	second = strings.ReplaceAll(second, "_token_", "_second_")
	for name, c := range map[string]struct{ base, head func(string) string }{
		"added":    {same, replacing(t, key, key+"      - second\n", declared, declared+second)},
		"replaced": {same, replacing(t, key, "      - second\n", declared, second)},
		"the same": {same, same},
		"dropped":  {replacing(t, key, key+"      - second\n", declared, declared+second), same},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := reworked(t, c.base, c.head)
			w := newWorld()
			config := w.config(t, repo, head)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if want := map[string]int{"added": 1, "replaced": 1}[name]; r.Status != ccci.StatusPassed || w.count("add secrets") != want {
					t.Errorf("%s, cause %+v, %v", r.Status, r.Cause, w.events)
				}
			})
		})
	}
}

// U1, U5: where a canary is, and whether the backup holds it, follows from the version that is
// deployed when it is asked for.
func TestU1_CanariesFollowTheDeployedVersion(t *testing.T) {
	planOf := func(base, head []BackupVolume) func(*recipe.Stack) BackupPlan {
		return func(stack *recipe.Stack) BackupPlan {
			if kindOf(stack) == "base" {
				return BackupPlan{Enabled: true, Volumes: base}
			}
			return BackupPlan{Enabled: true, Volumes: head}
		}
	}
	whole, part := []BackupVolume{{Key: "data"}}, []BackupVolume{{Key: "data", Paths: []string{"dump"}}}
	const mount = "      - data:/data\n"
	for name, c := range map[string]struct {
		head  func(string) string
		plan  func(*recipe.Stack) BackupPlan
		lost  string // what the restore does not bring back
		cause string // "" passes
		says  string
	}{
		"the head limits the backup":        {same, planOf(whole, part), "", "", ""},
		"the head lifts a limit":            {same, planOf(part, whole), "", "", ""},
		"a lifted limit that lies":          {same, planOf(part, whole), "data", "restore/verify", "volume data holds"},
		"the head moves the mount":          {replacing(t, mount, "      - data:/var/lib/app\n"), nil, "", "", ""},
		"the head only reads":               {replacing(t, mount, "      - data:/data:ro\n"), nil, "", "", ""},
		"the head has one more volume":      {replacing(t, mount, mount+"      - more:/more\n", "volumes:\n  data:\n", "volumes:\n  more:\n  data:\n"), planOf(whole, append(whole[:1:1], BackupVolume{Key: "more"})), "", "", ""},
		"whose restore does nothing":        {replacing(t, mount, mount+"      - more:/more\n", "volumes:\n  data:\n", "volumes:\n  more:\n  data:\n"), planOf(whole, append(whole[:1:1], BackupVolume{Key: "more"})), "more", "restore/verify", "volume more holds"},
		"the head mounts it no longer":      {replacing(t, mount, "      - other:/data\n", "volumes:\n  data:\n", "volumes:\n  other:\n"), nil, "", "upgrade/verify", "no service that runs mounts volume data any more"},
		"the head takes a volume out of it": {same, planOf(whole, nil), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := reworked(t, same, c.head)
			w := newWorld()
			w.plan = c.plan
			if c.lost != "" {
				w.on["restore"] = func() error {
					maps.DeleteFunc(w.saved, func(path string, _ []byte) bool { return strings.HasPrefix(path, "/"+c.lost+"/") })
					return nil
				}
			}
			config := w.config(t, repo, head)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if c.cause == "" && r.Status != ccci.StatusPassed || c.cause != "" && (r.Cause == nil || r.Cause.Check != c.cause || !strings.Contains(r.Cause.Message, c.says)) {
					t.Errorf("%s, cause %+v", r.Status, r.Cause)
				}
			})
		})
	}
}

// What runs beside the stages has ended before anything is removed, so that it
// cannot make an object after the last look.
func TestA19_BackgroundEndsBeforeTheRemoval(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	w.fail("pull head", errors.New("the daemon is gone"))
	w.on["prepare"] = func() error {
		time.Sleep(time.Minute) // of the test's own time: it passes when all others wait
		return w.did("prepared")
	}
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		live(t, w, c, t.Context())
		prepared, removed := slices.Index(w.events, "prepared"), slices.Index(w.events, "remove")
		if prepared < 0 || removed < prepared || slices.Index(w.events, "close backup") < prepared {
			t.Errorf("removed before all had ended: %v", w.events)
		}
		if w.count("stop browser") != 1 {
			t.Errorf("the browser was not stopped: %v", w.events)
		}
	})
}

// N6: what bears the run's name and was not there before turns a green run red.
func TestN6_LeftoverTurnsTheRunRed(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	stray := "stray-" + string(c.Job.RunID)
	w.left = Snapshot{{Kind: "volume", ID: "1", Name: stray}}
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusFailed || r.Cause.Check != "teardown/clean" || !slices.Equal(r.Teardown.Leftovers, []string{"volume " + stray}) {
			t.Errorf("status %s, cause %+v, teardown %+v", r.Status, r.Cause, r.Teardown)
		}
		if r.Verdict != ccci.VerdictFailed || r.Teardown.Clean {
			t.Errorf("verdict %s, clean %v", r.Verdict, r.Teardown.Clean)
		}
	})
}

// N6: what another program made meanwhile is named, and nobody is blamed.
func TestN6_ObjectsOfOthersAreNamedWithoutBlame(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	w.left = Snapshot{{Kind: "volume", ID: "1", Name: "theirs"}}
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusPassed || !r.Teardown.Clean || len(r.Teardown.Leftovers) > 0 {
			t.Errorf("status %s, cause %+v, teardown %+v", r.Status, r.Cause, r.Teardown)
		}
		if !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "volume theirs") }) {
			t.Errorf("the volume is not named: %q", r.Warnings)
		}
	})
}

// namesHandedOver notes by which names apps are removed from a daemon that had something before the run.
type namesHandedOver struct {
	worldDeployer
	had   Snapshot
	names *[]string
}

func (d namesHandedOver) Snapshot(ctx context.Context) (Snapshot, error) {
	_, err := d.worldDeployer.Snapshot(ctx)
	return slices.Clone(d.had), err
}

func (d namesHandedOver) Remove(ctx context.Context, app App) (map[string]int, error) {
	*d.names = append(*d.names, app.Names...)
	return d.worldDeployer.Remove(ctx, app)
}

// N3: an operator's object bears no label. That a recipe declares its name does not have it removed, neither with a
// broken base nor at the end, whatever became of the run.
func TestN3_WhatWasThereBeforeIsNotRemovedByItsName(t *testing.T) {
	for _, refused := range []string{"", "new", "deploy base", "deploy head"} {
		for _, there := range []bool{false, true} {
			repo, head := example(t)
			w := newWorld()
			c := w.config(t, repo, head)
			if refused != "" {
				w.fail(refused, ccci.Errorf(ccci.CodeRecipe, "it is taken"))
			}
			stack := recipe.StackName(c.Job.RunID.AppName(c.Job.Recipe) + "." + c.CIDomain)
			var names []string
			d := namesHandedOver{worldDeployer{world: w}, nil, &names}
			if there {
				d.had = Snapshot{{Kind: "volume", ID: "1", Name: stack + "_token_v1"}}
			}
			c.Deployer = d
			synctest.Test(t, func(t *testing.T) {
				live(t, w, c, t.Context())
				if slices.Contains(names, stack+"_token_v1") == there {
					t.Errorf("%q refused, there before: %v: apps are removed by the names %q", refused, there, names)
				}
			})
		}
	}
}

// A backup whose hooks or data have no end is the recipe's doing.
func TestN7_EndlessBackupIsTheRecipes(t *testing.T) {
	repo, head := example(t)
	for _, at := range []string{"backup/snapshot", "restore/restored"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld()
			c := w.config(t, repo, head)
			c.Backup = endlessBackup{worldBackup{w}, at}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, c, t.Context())
				if r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != at || r.Cause.Code != ccci.CodeRecipe || !strings.Contains(r.Cause.Message, "within 10 min 0 s") {
					t.Errorf("%s, %+v", r.Status, r.Cause)
				}
			})
		})
	}
}

// A canary that cannot be copied, since its service never has a container, is the recipe's doing too.
func TestN7_EndlessCanaryIsTheRecipes(t *testing.T) {
	repo, head := example(t)
	for at, check := range map[string]string{"in": "install/seed", "out": "upgrade/verify"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld()
			c := w.config(t, repo, head)
			c.Job.Deadline = time.Hour
			c.Deployer = endlessCopy{worldDeployer{world: w}, at}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, c, t.Context())
				if r.Status != ccci.StatusFailed || r.Cause == nil || r.Cause.Check != check || r.Cause.Code != ccci.CodeRecipe {
					t.Errorf("%s, %+v", r.Status, r.Cause)
				}
			})
		})
	}
}

// endlessCopy waits for a container without end.
type endlessCopy struct {
	worldDeployer
	at string
}

func (d endlessCopy) CopyIn(ctx context.Context, stack *recipe.Stack, service string, files map[string][]byte) error {
	if d.at == "in" {
		<-ctx.Done()
		return ccci.Errorf(ccci.CodeRecipe, "there was no container in time: %w", ctx.Err())
	}
	return d.worldDeployer.CopyIn(ctx, stack, service, files)
}

func (d endlessCopy) CopyOut(ctx context.Context, _ *recipe.Stack, _, _ string, _ int64) ([]byte, error) {
	<-ctx.Done()
	return nil, ccci.Errorf(ccci.CodeRecipe, "there was no container in time: %w", ctx.Err())
}

// A canary is read from another service that mounts its volume when its own no longer runs.
func TestU1_ACanaryIsReadWhereSomethingRuns(t *testing.T) {
	none := uint64(0)
	service := func(name string, replicas *uint64) types.ServiceConfig {
		return types.ServiceConfig{Name: name, Deploy: types.DeployConfig{Replicas: replicas}, Volumes: []types.ServiceVolumeConfig{{Type: "volume", Source: "data", Target: "/" + name}}}
	}
	for name, c := range map[string]struct {
		services []types.ServiceConfig
		want     string
	}{
		"another":  {[]types.ServiceConfig{service("store", &none), service("app", nil)}, ""},
		"no other": {[]types.ServiceConfig{service("store", &none)}, "no service that runs mounts volume data"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			config := Config{Deployer: worldDeployer{world: w}}
			l := &life{instance: newInstance(&config, "261121-030405-abcdef", "x", enrol.Default("x"))}
			l.current = &recipe.Stack{Config: &types.Config{Services: c.services}}
			w.files["/data/"+canaryFile] = []byte("A")
			err := l.readCanaries(t.Context(), []canary{{volume: "data"}}, "A")
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// endlessBackup never ends what at names, and says what the daemon says then.
type endlessBackup struct {
	worldBackup
	at string
}

func (b endlessBackup) Create(ctx context.Context, stack *recipe.Stack) (string, error) {
	if b.at == "backup/snapshot" {
		<-ctx.Done()
		return "", ccci.Errorf(ccci.CodeInfra, "running a hook: %w", ctx.Err())
	}
	return b.worldBackup.Create(ctx, stack)
}

func (b endlessBackup) Restore(ctx context.Context, _ *recipe.Stack, _ string) error {
	<-ctx.Done()
	return ccci.Errorf(ccci.CodeInfra, "running restic: %w", ctx.Err())
}

// N3: what an app writes where the harness reads is quoted by a line, and the result stays small.
func TestN3_AFloodedCanaryIsQuotedByALine(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	flood := bytes.Repeat([]byte("flood\n"), 8<<20)
	w.on["deploy head"] = func() error {
		for name := range w.files {
			w.files[name] = flood
		}
		return nil
	}
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusFailed || r.Cause == nil || len(r.Cause.Message) > 300 || !strings.Contains(r.Cause.Message, "flood") {
			t.Errorf("%s, cause %.300v", r.Status, r.Cause)
		}
		for _, name := range []string{"result.json", "run.log"} {
			if info, err := os.Stat(filepath.Join(c.OutDir, name)); err != nil || info.Size() > 1<<20 {
				t.Errorf("%s has %d bytes, %v", name, info.Size(), err)
			}
		}
	})
}

// exceeding is a run whose app, once it is made, exceeds a limit: it ends at once, with that cause, and is torn down.
func exceeding(t *testing.T, why error, status ccci.Status, verdict ccci.Verdict) {
	t.Helper()
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	c.Deployer = hanging{worldDeployer{world: w}}
	synctest.Test(t, func(t *testing.T) {
		w.exceeded = make(chan error, 1)
		w.on["new"] = func() error {
			w.exceeded <- why
			return nil
		}
		r := live(t, w, c, t.Context())
		if r.Status != status || r.Verdict != verdict || r.Cause == nil || r.Cause.Check != "run/limits" || r.Cause.Code != ccci.CodeOf(why) || !strings.Contains(r.Cause.Message, why.Error()) {
			t.Errorf("%s, %s, %+v", r.Status, r.Verdict, r.Cause)
		}
		if w.count("remove") != 1 || !r.Teardown.Clean {
			t.Errorf("not torn down: %v", w.events)
		}
	})
}

// A run that takes too much of the disk fails.
func TestN7_DiskLimitIsTheRecipesFailure(t *testing.T) {
	exceeding(t, ccci.Errorf(ccci.CodeRecipe, "disk limit: the run takes 21GiB of 20GiB: volume x_data 20GiB"), ccci.StatusFailed, ccci.VerdictFailed)
}

// That the machine's disk is full is not known to be this run's doing.
func TestN7_AFullMachineIsInfrastructure(t *testing.T) {
	exceeding(t, ccci.Errorf(ccci.CodeInfra, "the run was ended, since the disk of /x has 1GiB free"), ccci.StatusErrored, ccci.VerdictErrored)
}

// U8: what each service may use is in the result, and what was lowered is said.
func TestU8_EffectiveLimitsAreInTheResult(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	w.lowered = []string{"service app: memory lowered from 64GiB to 6GiB"}
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Settings["ceilings.app"] != "memory 1GiB" || !slices.Contains(r.Warnings, w.lowered[0]) || r.Status != ccci.StatusPassed {
			t.Errorf("%s, settings %v, warnings %q", r.Status, r.Settings, r.Warnings)
		}
	})
}

func TestN7_ADeadlineIsInconclusiveAndTornDown(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	c.Job.Deadline = time.Minute
	c.Deployer = hanging{worldDeployer{world: w}}
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusInconclusive || r.Verdict != ccci.VerdictInconclusive || r.Cause == nil || r.Cause.Check != "install/converged" || r.Cause.Code != "" || !strings.Contains(r.Cause.Message, "1 min 0 s") {
			t.Errorf("status %s, verdict %s, cause %+v", r.Status, r.Verdict, r.Cause)
		}
		if s := r.Stage(ccci.StageInstall); s.Status != ccci.Unverified {
			t.Errorf("install is %s", s.Status)
		}
		if w.count("remove") != 1 || !r.Teardown.Clean {
			t.Errorf("not torn down: %v", w.events)
		}
	})
}

// hanging never converges.
type hanging struct{ worldDeployer }

func (hanging) Deploy(ctx context.Context, _ *recipe.Stack) error {
	<-ctx.Done()
	return ctx.Err()
}

// flooding has logs that nobody reads to the end.
type flooding struct{ hanging }

func (flooding) Logs(ctx context.Context, _ *recipe.Stack, _ func(LogPiece) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// A19: logs without end do not keep a run from its teardown, also when somebody cancels it.
func TestN3_EndlessLogsDoNotDelayTeardown(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	c.Deployer = flooding{hanging{worldDeployer{world: w}}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(ErrCancelled) })
		started := time.Now()
		r := live(t, w, c, ctx)
		if w.count("remove") != 1 || !r.Teardown.Clean || time.Since(started) > 2*time.Minute {
			t.Errorf("after %s: %v", time.Since(started), w.events)
		}
	})
}

// A19: someone who cancels gets the teardown all the same.
func TestA19_CancelledRunIsTornDown(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		w.on["backup"] = func() error { cancel(ErrCancelled); return ctx.Err() }
		r := live(t, w, c, ctx)
		if r.Status != ccci.StatusCancelled || r.Verdict != ccci.VerdictInconclusive {
			t.Errorf("status %s, verdict %s", r.Status, r.Verdict)
		}
		if w.count("remove") != 1 || w.count("restore") != 0 {
			t.Errorf("%v", w.events)
		}
	})
}

// A run whose lock another process holds touches nothing (U11).
func TestU11_HeldRunIsNotTouched(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	lock, ok, err := TryLockRun(c.LockDir, c.Job.RunID)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer lock.Release()
	c.Job.Deadline = time.Minute
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if len(w.events) != 0 || r.Deployments != 0 {
			t.Errorf("touched: %v", w.events)
		}
		if r.Status != ccci.StatusInconclusive || r.Teardown != nil {
			t.Errorf("status %s, teardown %+v", r.Status, r.Teardown)
		}
	})
}

// A step or a stage that was not asked for is told of, holds the level down,
// and does not turn the run red.
func TestN5_StagesNotAskedFor(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	c := w.config(t, repo, head)
	c.Job.Options.Stages = []ccci.StageName{ccci.StageChecks}
	synctest.Test(t, func(t *testing.T) {
		r := live(t, w, c, t.Context())
		if r.Status != ccci.StatusPassed || r.Level != 1 {
			t.Errorf("status %s, level %d (%s)", r.Status, r.Level, r.LevelReason)
		}
		if w.count("deploy head") != 1 || w.count("deploy base")+w.count("backup")+w.count("prepare") != 0 {
			t.Errorf("%v", w.events)
		}
	})
}
