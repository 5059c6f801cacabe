package ccci_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A28: what a badge says is about the recipe, not about a pull request.
func TestA28_WhatARunSpeaksFor(t *testing.T) {
	created, mergedAt := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	type subjects = map[ccci.Subject]time.Time
	of := func(number int, branch string) func(*ccci.Run) {
		return func(r *ccci.Run) { r.PR.Number, r.Branch = number, branch }
	}
	sweep := func(branch, release string) func(*ccci.Run) {
		return func(r *ccci.Run) { r.Trigger, r.Branch, r.Release = ccci.TriggerSweep, branch, release }
	}
	merge := func(m ccci.Merge) func(*ccci.Run) {
		return func(r *ccci.Run) {
			of(7, "update")(r)
			m.At = mergedAt
			r.Merge = m
		}
	}
	status := func(s ccci.Status, then func(*ccci.Run)) func(*ccci.Run) {
		return func(r *ccci.Run) { then(r); r.Status = s }
	}
	options := func(o ccci.Options, then func(*ccci.Run)) func(*ccci.Run) {
		return func(r *ccci.Run) { then(r); r.Options = o }
	}
	for name, test := range map[string]struct {
		change func(*ccci.Run)
		want   subjects
	}{
		"a pull request":              {of(7, "update"), subjects{"pr/7": created, "branch/update": created}},
		"one that failed":             {status(ccci.StatusFailed, of(7, "update")), subjects{"pr/7": created, "branch/update": created}},
		"one that errored":            {status(ccci.StatusErrored, of(7, "update")), subjects{"pr/7": created, "branch/update": created}},
		"a fork's pull request":       {of(7, ""), subjects{"pr/7": created}},
		"the default branch":          {sweep("main", ""), subjects{"recipe": created, "branch/main": created}},
		"a release":                   {sweep("", "1.0.0+1"), subjects{"recipe": created}},
		"a sweep of an older version": {sweep("", ""), subjects{"recipe": created}},
		"merged as it was tested": {merge(ccci.Merge{Branch: "main", Default: true, Same: true}),
			subjects{"pr/7": created, "branch/update": created, "branch/main": mergedAt, "recipe": mergedAt}},
		"merged with other files":    {merge(ccci.Merge{Branch: "main", Default: true}), subjects{"pr/7": created, "branch/update": created}},
		"merged into another branch": {merge(ccci.Merge{Branch: "stable", Same: true}), subjects{"pr/7": created, "branch/update": created, "branch/stable": mergedAt}},
		"running":                    {status(ccci.StatusRunning, sweep("main", "")), nil},
		"queued":                     {status(ccci.StatusQueued, sweep("main", "")), nil},
		"cancelled":                  {status(ccci.StatusCancelled, sweep("main", "")), nil},
		"another base":               {options(ccci.Options{From: "1.0.0"}, merge(ccci.Merge{Branch: "main", Default: true, Same: true})), nil},
		"some stages":                {options(ccci.Options{Stages: []ccci.StageName{ccci.StageInstall}}, of(7, "update")), nil},
		"quick":                      {options(ccci.Options{Quick: true}, of(7, "update")), nil},
		"by hand":                    {func(*ccci.Run) {}, subjects{}},
	} {
		run := ccci.Run{Status: ccci.StatusPassed, Created: created}
		test.change(&run)
		if diff := cmp.Diff(test.want, run.SpeaksFor()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
