package main

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/internal/browser"
)

// A27, A28, N5: the way of a person who has never seen cc-ci: open the
// dashboard, open the pull request, write !testme, watch, read the verdict, see
// the badge change; mistype an option; cancel a second run and read the proof.
func TestA27_APersonsWay(t *testing.T) {
	together(t)
	s, url, _ := served(t, "canary-good")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b, err := browser.Start(ctx, browser.Options{Route: browser.Only(url)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	page, err := b.Page(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	do := func(what string, err error) {
		t.Helper()
		if err == nil {
			return
		}
		seen, _ := page.Visible(context.WithoutCancel(ctx))
		t.Fatalf("%s: %v\nthe page shows:\n%s", what, err, seen)
	}
	see := func(text string, limit time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		do("waiting for "+text, page.Text(ctx, text))
	}
	write := func(body string) {
		t.Helper()
		do("writing", page.Fill(ctx, "#body", body))
		do("sending", page.Click(ctx, "form#write button[type=submit]"))
	}

	do("opening the dashboard", page.Open(ctx, url+"/"))
	see("Recipes", 10*time.Second)
	if badge := get(t, url+"/badge/canary-good.svg"); strings.Contains(badge, "level 5") {
		t.Errorf("the badge shows a level before any run: %s", badge)
	}
	do("opening the pull requests", page.Open(ctx, url+"/pulls"))
	do("opening the pull request", page.Click(ctx, `a[href="/pulls/coop/canary-good/1"]`))
	do("finding the comment box", page.See(ctx, "#body"))

	write("!testme stagse=install")
	see("Did you mean stages", 20*time.Second)

	write("!testme")
	see("install passed", 90*time.Second) // live, without a reload
	see("Level 5 of 5", 2*time.Minute)
	see("complete, nothing is left", 10*time.Second)
	if badge := get(t, url+"/badge/canary-good.svg?pr=1"); !strings.Contains(badge, "level 5") {
		t.Errorf("the pull request's badge does not show the level: %s", badge)
	}
	if badge := get(t, url+"/badge/canary-good.svg"); !strings.Contains(badge, "not tested") {
		t.Errorf("a pull request that is not merged speaks for the recipe: %s", badge)
	}

	write("!testme")
	see("install passed", 90*time.Second) // of a run that has ended it says what was installed
	write("!cancel")
	see("cancelled", time.Minute)
	seeTimes(t, ctx, page, "complete, nothing is left", 2, time.Minute)
	if badge := get(t, url+"/badge/canary-good.svg?pr=1"); !strings.Contains(badge, "level 5") {
		t.Errorf("a cancelled run changed the badge: %s", badge)
	}

	runs := runsOn(get(t, url+"/pulls/coop/canary-good/1"))
	do("opening the queue", page.Open(ctx, url+"/queue"))
	see("Queue", 10*time.Second)
	page.Close()
	b.Close()
	s.cmd.Process.Signal(syscall.SIGINT)
	if code := s.wait(t, 2*time.Minute); code != exitInterrupt {
		t.Errorf("exit code %d", code)
	}
	if len(runs) != 2 {
		t.Errorf("the page names the runs %v, not two", runs)
	}
	for _, run := range runs {
		nothingLeftOf(t, run)
	}
}

// seeTimes waits until the page shows a text n times.
func seeTimes(t *testing.T, ctx context.Context, page checks.Page, text string, n int, limit time.Duration) {
	t.Helper()
	var seen string
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; {
		seen, _ = page.Visible(ctx)
		if strings.Count(seen, text) >= n {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("the page does not show %q %d times:\n%s", text, n, seen)
}
