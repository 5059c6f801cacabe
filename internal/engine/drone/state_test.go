package drone

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testJob() ccci.Job {
	return ccci.Job{
		RunID: "260301-120001-aaaaaa", Recipe: "wiki", Commit: "0123456789abcdef0123456789abcdef01234567",
		PR: ccci.PRRef{Repo: ccci.RepoRef{Owner: "coop", Name: "wiki"}, Number: 7}, CloneURL: "https://git.example.org/coop/wiki.git", BaseRef: "main",
		Options: ccci.Options{Stages: []ccci.StageName{ccci.StageBackup}, From: "1.2.0+3.4.5"}, Deadline: 10 * time.Minute,
	}
}

// recorded is Drone's record of a build that began at t0 and took so long.
func recorded(status string, code int, took time.Duration) *drone.Build {
	params, err := Parameters(testJob())
	if err != nil {
		panic(err)
	}
	end := t0.Add(took).Unix()
	return &drone.Build{
		Number: 1, Status: status, Params: params, Created: t0.Unix(), Started: t0.Unix(), Finished: end,
		Stages: []*drone.Stage{{Number: 1, Name: DefaultPipeline, Status: status, Started: t0.Unix(), Stopped: end, Steps: []*drone.Step{
			{Number: 1, Name: "run", Status: status, ExitCode: code, Started: t0.Unix(), Stopped: end},
		}}},
	}
}

func offline(t *testing.T, host func(context.Context, ccci.RunID) (Presence, error), now func() time.Time) *Engine {
	t.Helper()
	e, err := New(Options{URL: "http://drone.example.org", Repo: ccci.RepoRef{Owner: "coop", Name: "cc-ci"}, Host: host, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Every status that Drone has, and what it means when the machine has nothing to add.
func TestA13_EveryStatusOfDrone(t *testing.T) {
	all := []string{
		drone.StatusSkipped, drone.StatusBlocked, drone.StatusDeclined, drone.StatusWaiting, drone.StatusPending,
		drone.StatusRunning, drone.StatusPassing, drone.StatusFailing, drone.StatusKilled, drone.StatusError,
	}
	for status := range phases {
		if !slices.Contains(all, status) {
			t.Errorf("%q is no status of Drone's", status)
		}
	}
	type want struct {
		State  ccci.BuildState
		Ending ccci.Ending
		Code   int
	}
	for _, test := range []struct {
		status string
		code   int
		want   want
	}{
		{drone.StatusBlocked, 0, want{State: ccci.BuildQueued}},
		{drone.StatusWaiting, 0, want{State: ccci.BuildQueued}},
		{drone.StatusPending, 0, want{State: ccci.BuildQueued}},
		{drone.StatusRunning, 0, want{State: ccci.BuildRunning}},
		{drone.StatusPassing, 0, want{ccci.BuildDone, ccci.EndExited, 0}},
		{drone.StatusFailing, 1, want{ccci.BuildDone, ccci.EndExited, 1}},
		{drone.StatusFailing, 4, want{ccci.BuildDone, ccci.EndExited, 4}},
		{drone.StatusFailing, 0, want{ccci.BuildDone, ccci.EndLost, 0}}, // no harness has said anything
		{drone.StatusKilled, 137, want{ccci.BuildDone, ccci.EndCancelled, 0}},
		{drone.StatusDeclined, 0, want{ccci.BuildDone, ccci.EndCancelled, 0}},
		{drone.StatusError, 255, want{ccci.BuildDone, ccci.EndLost, 0}},
		{drone.StatusSkipped, 0, want{ccci.BuildDone, ccci.EndLost, 0}},
	} {
		b, err := offline(t, nil, nil).judge(t.Context(), recorded(test.status, test.code, time.Minute))
		if got := (want{b.State, b.Ending, b.ExitCode}); err != nil || got != test.want {
			t.Errorf("%s with code %d: %+v, %v; want %+v", test.status, test.code, got, err, test.want)
		}
		if (b.State == ccci.BuildDone) == b.Finished.IsZero() || (b.State == ccci.BuildQueued || test.status == drone.StatusSkipped) != b.Started.IsZero() {
			t.Errorf("%s: times %+v", test.status, b)
		}
		all = slices.DeleteFunc(all, func(s string) bool { return s == test.status })
	}
	if len(all) > 0 {
		t.Errorf("not looked at: %v", all)
	}
	if _, err := offline(t, nil, nil).judge(t.Context(), recorded("wondrous", 0, 0)); ccci.CodeOf(err) != ccci.CodeInfra || err == nil {
		t.Errorf("a status of a later Drone: %v, want an error and no guess", err)
	}
}

// A16, N5: Drone records a cancellation and a time-out alike.
func TestA16_TimeOutToldFromCancel(t *testing.T) {
	for took, want := range map[time.Duration]ccci.Ending{
		time.Minute:                    ccci.EndCancelled,
		9*time.Minute + 50*time.Second: ccci.EndCancelled,
		10*time.Minute - time.Second:   ccci.EndDeadline, // whole seconds may fall short
		10 * time.Minute:               ccci.EndDeadline,
		61 * time.Minute:               ccci.EndDeadline,
	} {
		if b, err := offline(t, nil, nil).judge(t.Context(), recorded(drone.StatusKilled, 137, took)); err != nil || b.Ending != want {
			t.Errorf("killed after %s: %s, %v; want %s", took, b.Ending, err, want)
		}
	}
	// Cancelled before a runner took it: it never ran, so it cannot have run out.
	b := recorded(drone.StatusKilled, 0, time.Hour)
	b.Stages[0].Status, b.Stages[0].Steps = drone.StatusSkipped, nil
	if got, err := offline(t, nil, nil).judge(t.Context(), b); err != nil || got.Ending != ccci.EndCancelled || !got.Started.IsZero() {
		t.Errorf("cancelled while it waited: %+v, %v", got, err)
	}
}

// A runner has the build, and its step has not begun. Should the runner die there,
// the build is lost as any other.
func TestA15_ABuildWhoseStepHasNotBegun(t *testing.T) {
	b := recorded(drone.StatusRunning, 0, 0)
	b.Finished, b.Stages[0].Steps[0].Status, b.Stages[0].Steps[0].Started = 0, drone.StatusPending, 0
	if got, err := offline(t, nil, nil).judge(t.Context(), b); err != nil || got.State != ccci.BuildQueued || !got.Started.IsZero() {
		t.Errorf("where nobody knows more: %+v, %v; want queued", got, err)
	}
	now := t0
	e := offline(t, func(context.Context, ccci.RunID) (Presence, error) { return Absent, nil }, func() time.Time { return now })
	if got, err := e.judge(t.Context(), b); err != nil || got.State != ccci.BuildQueued {
		t.Errorf("at first: %+v, %v; want queued", got, err)
	}
	now = now.Add(DefaultLostAfter)
	if got, err := e.judge(t.Context(), b); err != nil || got.Ending != ccci.EndLost || got.Finished.IsZero() {
		t.Errorf("a minute later: %+v, %v; want lost", got, err)
	}
}

// What Drone says and what the machine knows, at moments of a build's life.
func TestA15_TheMachineHasTheLastWord(t *testing.T) {
	type step struct {
		status   string
		presence Presence
		after    time.Duration // since t0
		state    ccci.BuildState
		ending   ccci.Ending
	}
	for name, steps := range map[string][]step{
		"a life": {
			{drone.StatusRunning, Absent, 0, ccci.BuildQueued, ""}, // the shell is starting
			{drone.StatusRunning, Waiting, time.Second, ccci.BuildQueued, ""},
			{drone.StatusRunning, Working, 50 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusRunning, Absent, 80 * time.Second, ccci.BuildRunning, ""}, // about to be told
			{drone.StatusPassing, Absent, 81 * time.Second, ccci.BuildDone, ccci.EndExited},
		},
		"cancelled, tearing down": {
			{drone.StatusRunning, Working, time.Second, ccci.BuildRunning, ""},
			{drone.StatusKilled, Working, 20 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusKilled, Working, 120 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusKilled, Absent, 121 * time.Second, ccci.BuildDone, ccci.EndCancelled},
			{drone.StatusKilled, Working, 122 * time.Second, ccci.BuildDone, ccci.EndCancelled}, // done stays done
		},
		"cancelled while its shell starts": {
			{drone.StatusKilled, Absent, 10 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusKilled, Absent, 11 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusKilled, Absent, 14 * time.Second, ccci.BuildDone, ccci.EndCancelled},
		},
		"the runner died": {
			{drone.StatusRunning, Working, time.Second, ccci.BuildRunning, ""},
			{drone.StatusRunning, Absent, 10 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusRunning, Absent, 69 * time.Second, ccci.BuildRunning, ""},
			{drone.StatusRunning, Absent, 70 * time.Second, ccci.BuildDone, ccci.EndLost},
		},
		"the machine died before the harness began": {
			{drone.StatusRunning, Absent, time.Second, ccci.BuildQueued, ""},
			{drone.StatusRunning, Absent, 61 * time.Second, ccci.BuildDone, ccci.EndLost},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var at step
			e := offline(t, func(context.Context, ccci.RunID) (Presence, error) { return at.presence, nil },
				func() time.Time { return t0.Add(at.after) })
			for _, at = range steps {
				b, err := e.judge(t.Context(), recorded(at.status, 0, 10*time.Second))
				if err != nil || b.State != at.state || b.Ending != at.ending {
					t.Errorf("%s, presence %d after %s: %s %s, %v; want %s %s", at.status, at.presence, at.after, b.State, b.Ending, err, at.state, at.ending)
				}
			}
		})
	}
}

// N5, A16: a cancelled build whose harness goes on is told once, and killed once
// when the grace is over.
func TestN5_WhatOutlivesItsEnd(t *testing.T) {
	var after time.Duration
	presence := Working
	e := offline(t, func(context.Context, ccci.RunID) (Presence, error) { return presence, nil }, func() time.Time { return t0.Add(after) })
	var told []string
	e.opts.End = func(_ context.Context, run ccci.RunID, kill bool) error {
		told = append(told, fmt.Sprintf("%s kill=%t after %s", run, kill, after))
		return nil
	}
	b := recorded(drone.StatusKilled, 0, time.Minute)
	for _, after = range []time.Duration{61 * time.Second, 69 * time.Second, 70 * time.Second, 2 * time.Minute, 359 * time.Second, 6 * time.Minute, 7 * time.Minute} {
		if err := e.outlived(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"260301-120001-aaaaaa kill=false after 1m10s", "260301-120001-aaaaaa kill=true after 6m0s"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("its machine was told (-want +got):\n%s", diff)
	}
	presence = Absent
	if err := e.outlived(t.Context(), b); err != nil || len(e.unsettled()) != 0 {
		t.Errorf("when it is gone: %v, and unsettled are %v", err, e.unsettled())
	}
}

// A9, U17: the names are a closed set, the values are verbatim, the job is whole.
func TestA9_Parameters(t *testing.T) {
	job := testJob()
	job.Recipe = "a b; $(touch trap) \"'\n${PATH}"
	params, err := Parameters(job)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeJob(params[JobVariable])
	if diff := cmp.Diff(job, back); err != nil || diff != "" {
		t.Errorf("the job comes back changed: %v (-want +got)\n%s", err, diff)
	}
	delete(params, JobVariable)
	want := map[string]string{"RUN_ID": "260301-120001-aaaaaa", "ATTEMPT": "1", "RECIPE": job.Recipe, "REF": string(job.Commit), "PR": "7", "SRC": "coop/wiki"}
	if diff := cmp.Diff(want, params); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	for _, id := range []ccci.RunID{"", "..", "a b", "a/b"} {
		if _, err := Parameters(ccci.Job{RunID: id}); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("run id %q: %v, want CodeInvalid", id, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{{}, {URL: "drone.example.org"}, {URL: "ftp://x"}, {URL: "https://drone.example.org"}} {
		if _, err := New(o); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
			t.Errorf("%+v: %v, want CodeInvalid and a hint", o, err)
		}
	}
}
