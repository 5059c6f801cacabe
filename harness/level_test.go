package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// labelled is the plan of a stack in the world as its labels say.
func labelled(stack *recipe.Stack) BackupPlan {
	plan := BackupPlan{Volumes: []BackupVolume{{Key: "data"}}}
	for _, s := range stack.Config.Services {
		plan.Enabled = plan.Enabled || s.Deploy.Labels[recipe.BackupEnable] == "true"
		if len(s.Volumes) == 0 {
			plan.Volumes = nil
		}
	}
	return plan
}

// U7, U6, N7: levels are earned. What a recipe has nothing of does not hold its level; data without
// a backup, a skip that the enrolment states and a version that was not raised do. None of them
// turns the run red.
func TestU7_LevelsAreEarned(t *testing.T) {
	unlabelled := replacing(t, "        - \"backupbot.backup=true\"\n", "")
	stateless := replacing(t, "    volumes:\n      - data:/data\n", "", "volumes:\n  data:\n", "", "        - \"backupbot.backup=true\"\n", "")
	const p, s, u = ccci.Pass, ccci.Skip, ccci.Unverified
	for name, c := range map[string]struct {
		edit    func(string) string
		new     bool   // there is no release
		tag     string // a release that is made of the head's predecessor
		skip    ccci.StageName
		stages  [5]ccci.CheckStatus
		level   int
		reason  string // why not higher
		finding string // "" for none of C013
	}{
		"everything":                    {same, false, "", "", [5]ccci.CheckStatus{p, p, p, p, p}, 5, "", ""},
		"no volume":                     {stateless, false, "", "", [5]ccci.CheckStatus{p, p, s, s, p}, 5, "", ""},
		"no release":                    {same, true, "", "", [5]ccci.CheckStatus{p, s, p, p, p}, 5, "", ""},
		"no volume and no release":      {stateless, true, "", "", [5]ccci.CheckStatus{p, s, s, s, p}, 5, "", ""},
		"a volume without labels":       {unlabelled, false, "", "", [5]ccci.CheckStatus{p, p, u, u, p}, 2, "backup and restore: compose.yml:", "volume data is not backed up: no service has the deploy label backupbot.backup=true"},
		"the same without a release":    {unlabelled, true, "", "", [5]ccci.CheckStatus{p, s, u, u, p}, 1, "backup and restore: compose.yml:", "volume data is not backed up"},
		"a version that was not raised": {func(s string) string { return s + "# more\n" }, true, "0.2.0+1.1.0", "", [5]ccci.CheckStatus{p, s, p, p, p}, 1, "upgrade was skipped: no release is older than 0.2.0+1.1.0", ""},
		"an upgrade skipped by us":      {same, false, "", ccci.StageUpgrade, [5]ccci.CheckStatus{p, s, p, p, p}, 1, "upgrade was skipped: we say so", ""},
		"a backup skipped by us":        {stateless, false, "", ccci.StageBackup, [5]ccci.CheckStatus{p, p, s, s, p}, 2, "backup and restore was skipped: we say so", ""},
		"checks skipped by us":          {same, false, "", ccci.StageChecks, [5]ccci.CheckStatus{p, p, p, p, s}, 3, "checks was skipped: we say so", ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := reworked(t, c.edit, c.edit)
			if c.new {
				gitOut(t, repo, "tag", "--delete", "0.1.0+1.0.0")
				gitOut(t, repo, "branch", "--force", "main", string(head))
			}
			if c.tag != "" {
				gitOut(t, repo, "tag", "--annotate", "--message=x", c.tag, "HEAD~1")
			}
			w := newWorld()
			w.plan = labelled
			config := w.config(t, repo, head)
			if c.skip != "" {
				config.Settings.Skip = []ccci.SkipStage{{Stage: c.skip, Reason: "we say so"}}
			}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Status != ccci.StatusPassed || r.Cause != nil {
					t.Errorf("%s, cause %+v", r.Status, r.Cause)
				}
				for i, stage := range r.Stages {
					if stage.Status != c.stages[i] || stage.Status != ccci.Pass && stage.Reason == "" {
						t.Errorf("%s is %s (%s), want %s", stage.Name, stage.Status, stage.Reason, c.stages[i])
					}
				}
				if r.Level != c.level || (c.reason == "") != (r.LevelReason == "") || !strings.HasPrefix(r.LevelReason, c.reason) {
					t.Errorf("level %d (%s), want %d (%s)", r.Level, r.LevelReason, c.level, c.reason)
				}
				found := ""
				for _, f := range r.Lint {
					if f.Rule == recipe.RuleNoBackup {
						found = f.Message
						if f.File != "compose.yml" || f.Line == 0 || f.Hint == "" || !strings.Contains(r.LevelReason, f.At()) {
							t.Errorf("finding %+v, reason %q", f, r.LevelReason)
						}
					}
				}
				if (c.finding == "") != (found == "") || !strings.HasPrefix(found, c.finding) {
					t.Errorf("finding %q, want %q", found, c.finding)
				}
			})
		})
	}
}

// N7: what abra itself refuses to deploy is no pass, however well it works here; what its linter
// merely dislikes, and an overlay that is not loaded, hold the level at most.
func TestN7_WhatAbraRefusesIsNoPass(t *testing.T) {
	const graced = "    stop_grace_period: ${GRACE:-1m}\n"
	for name, c := range map[string]struct {
		edit        func(string) string
		lightweight bool
		overlay     string
		cause       string // check of the cause; "" passes
		says        string
		level       int
	}{
		"nothing":             {same, false, "", "", "", 5},
		"a lightweight tag":   {same, true, "", "lint/r014", "the release tag 0.1.0+1.0.0 is lightweight", 4},
		"a variable duration": {replacing(t, "    healthcheck:\n", graced+"    healthcheck:\n"), false, "", "lint/c002", "compose.yml:", 4},
		"in an unused file":   {same, false, "version: \"3.8\"\nservices:\n  app:\n" + graced, "", "", 4},
		"an unversioned config": {replacing(t, "volumes:\n  data:\n", "volumes:\n  data:\nconfigs:\n  conf:\n    name: ${STACK_NAME}_conf\n    file: README.md\n"),
			false, "", "", "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := reworked(t, same, c.edit)
			if c.lightweight {
				gitOut(t, repo, "tag", "--force", "0.1.0+1.0.0", "0.1.0+1.0.0^{commit}")
			}
			if c.overlay != "" {
				if err := os.WriteFile(filepath.Join(repo, "compose.more.yml"), []byte(c.overlay), 0o644); err != nil {
					t.Fatal(err)
				}
				gitOut(t, repo, "add", "compose.more.yml")
				gitOut(t, repo, "commit", "--quiet", "--message=overlay")
				head = ccci.Commit(gitOut(t, repo, "rev-parse", "HEAD"))
			}
			w := newWorld()
			config := w.config(t, repo, head)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Level != c.level {
					t.Errorf("level %d (%s), want %d", r.Level, r.LevelReason, c.level)
				}
				switch {
				case c.cause == "" && r.Status != ccci.StatusPassed:
					t.Errorf("%s, cause %+v", r.Status, r.Cause)
				case c.cause != "" && (r.Status != ccci.StatusFailed || r.Verdict != ccci.VerdictFailed || r.Cause == nil || r.Cause.Check != c.cause || r.Cause.Code != ccci.CodeRecipe ||
					!strings.Contains(r.Cause.Message, c.says) || !strings.HasPrefix(r.Cause.Hint, "abra does not deploy the recipe")):
					t.Errorf("%s, cause %+v", r.Status, r.Cause)
				}
			})
		})
	}
}
