package ccci_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestA21_AppNames(t *testing.T) {
	pattern := regexp.MustCompile(`^[a-z0-9]{1,4}-[0-9a-f]{6}$`)
	a, err := ccci.NewRunID(time.Unix(1, 0), bytes.NewReader([]byte{1, 2, 3}))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := ccci.NewRunID(time.Unix(1, 0), bytes.NewReader([]byte{1, 2, 4}))
	for recipe, prefix := range map[string]string{"miniflux": "mini", "go-ssb-room": "goss", "É!": "app", "ab": "ab"} {
		x, y := a.AppName(recipe), b.AppName(recipe)
		if !pattern.MatchString(x) || x[:len(prefix)] != prefix || x == y {
			t.Errorf("%s: %s and %s", recipe, x, y)
		}
	}
	if _, err := ccci.NewRunID(time.Now(), bytes.NewReader(nil)); err == nil {
		t.Error("a run id without randomness")
	}
}

func TestTerminalStatusesNeverMove(t *testing.T) {
	all := ccci.Statuses
	for _, from := range all {
		for _, to := range all {
			want := from == to || !from.Terminal() && (to.Terminal() || from != to)
			if got := from.CanBecome(to); got != want {
				t.Errorf("%s to %s: %v", from, to, got)
			}
		}
	}
}

func TestN7_VerdictOfEachStatus(t *testing.T) {
	for status, want := range map[ccci.Status]ccci.Verdict{
		ccci.StatusPassed: ccci.VerdictPassed, ccci.StatusFailed: ccci.VerdictFailed, ccci.StatusErrored: ccci.VerdictErrored,
		ccci.StatusRefused: ccci.VerdictRefused, ccci.StatusInconclusive: ccci.VerdictInconclusive,
		ccci.StatusCancelled: ccci.VerdictInconclusive, ccci.StatusQueued: "", ccci.StatusRunning: "",
	} {
		if got := status.Verdict(); got != want {
			t.Errorf("%s: %q", status, got)
		}
	}
}

func TestOptionsWants(t *testing.T) {
	only := func(stages ...ccci.StageName) ccci.Options { return ccci.Options{Stages: stages} }
	quick := ccci.Options{Quick: true}
	if quick.Whole() || !quick.Wants(ccci.StageUpgrade) { // U20: it never speaks for the recipe
		t.Error("a quick run is whole, or has no upgrade")
	}
	if !(ccci.Options{}).Whole() || only(ccci.StageInstall).Whole() {
		t.Error("Whole")
	}
	for want, o := range map[string]ccci.Options{
		"":                          only(ccci.StageNames...),
		"--quick":                   quick,
		"from=1.0.0+2.1":            {From: "1.0.0+2.1"},
		"stages=install":            only(ccci.StageInstall),
		"stages=install,upgrade":    only(ccci.StageUpgrade),
		"stages=install from=1.0.0": {Stages: []ccci.StageName{ccci.StageInstall}, From: "1.0.0"},
	} {
		if got := o.Restriction(); got != want || o.Whole() != (want == "") {
			t.Errorf("%+v: restriction %q, whole %t; want %q", o, got, o.Whole(), want)
		}
	}
	if o := (ccci.Options{Retest: "260101-000000-000000", From: "1.0.0"}); o.Whole() {
		t.Error("a retest from a base that was asked for is whole")
	}
	if o := only(ccci.StageRestore); !o.Wants(ccci.StageInstall) || !o.Wants(ccci.StageBackup) || o.Wants(ccci.StageUpgrade) {
		t.Error("restore brings install and backup along, and nothing else")
	}
}

// N3: lists hold many runs, so a run keeps of a result's texts what a line can show.
func TestRunsTakeShortTexts(t *testing.T) {
	long := strings.Repeat("long ", 4<<10)
	run := ccci.Run{Stages: []ccci.StageRow{{Name: ccci.StageChecks, Running: true}}}
	run.Take(&ccci.Result{Level: 2, Version: long, Stages: []ccci.Stage{{Name: ccci.StageInstall, Status: ccci.Fail, Reason: long, Duration: time.Second}}})
	if len(run.Stages) != 1 || run.Level != 2 || len(run.Version) > ccci.MarkerReasonLimit {
		t.Fatalf("%+v", run)
	}
	row := run.Stages[0]
	if row.Name != ccci.StageInstall || row.Status != ccci.Fail || row.Duration != time.Second || len(row.Reason) > ccci.MarkerReasonLimit || !strings.HasPrefix(row.Reason, "long long") {
		t.Errorf("%+v", row)
	}
}
