package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// freeAddress is one of this machine that nothing listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// N5: beside a server that works, an operator sees what runs and waits, follows a log, and cancels
// both. The server tears down, and the forge gets its answer.
func TestN5_OperatorBesideAServer(t *testing.T) {
	together(t)
	health := freeAddress(t)
	_, url, config := served(t, "canary-good", "engine: {capacity: 1}\nbridge: {listen: \""+health+"\"}\n")
	cli := func(want int, args ...string) string {
		t.Helper()
		c := start(t, append([]string{"--config", config}, args...)...)
		if code := c.wait(t, time.Minute); code != want {
			t.Fatalf("cc-ci %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, c.out)
		}
		return c.out.String()
	}
	holds := func(text string, patterns ...string) {
		t.Helper()
		for _, p := range patterns {
			if !regexp.MustCompile("(?m)" + p).MatchString(text) {
				t.Errorf("no match for %q in\n%s", p, text)
			}
		}
	}
	queue := func() (runs []runRecord) {
		t.Helper()
		if err := json.Unmarshal([]byte(cli(0, "queue", "--json")), &runs); err != nil {
			t.Fatal(err)
		}
		return runs
	}
	holds(cli(0, "status"), `^server     running, ok$`, `^at work    0 of 1$`, `^queued     0$`)

	pull := url + "/pulls/coop/canary-good/1"
	comment(t, config, "canary-good", "!testme")
	awaitPage(t, pull, `(?s)install.*running`, 2*time.Minute)
	comment(t, config, "canary-good", "!testme stages=install")
	await(t, "a run at work and one that waits", func() bool {
		runs := queue()
		return len(runs) == 2 && runs[0].Status == ccci.StatusRunning && runs[1].Position == 1
	})
	runs := queue()
	works, waits := string(runs[0].Run), string(runs[1].Run)
	holds(cli(0, "status"), `^at work    1 of 1$`, `^queued     1, the oldest waits for `)
	holds(cli(0, "queue"), `^-  +`+works+`  canary-good  running `, `^1  +`+waits+`  canary-good  queued .* coop/canary-good#1 stages=install$`)
	holds(cli(exitUnfinished, "status", works), `^status     running$`)
	holds(cli(exitUsage, "logs", waits), `is queued; its log begins when it starts`)

	follower := start(t, "--config", config, "logs", "--follow", works)
	follower.awaitLine(t, `(?m)^install$`, time.Minute)
	holds(cli(0, "logs", works), `^install$`)
	holds(cli(0, "cancel", waits), `^run `+waits+` is being cancelled by operator `)
	await(t, "the end of the run that waited", func() bool { return len(queue()) == 1 })
	holds(cli(exitInterrupt, "status", waits), `^status     cancelled$`, `^cancelled  by operator `)
	holds(cli(0, "cancel", works[:len(works)-1]), `^run `+works+` is being cancelled by operator `)
	if code := follower.wait(t, 2*time.Minute); code != 0 {
		t.Errorf("logs --follow: exit code %d", code)
	}
	await(t, "the end of the run that was at work", func() bool { return len(queue()) == 0 })
	holds(cli(exitInterrupt, "status", works), `^status     cancelled$`)
	page := awaitPage(t, pull, `(?s)Cancelled by.*operator.*Cancelled by.*operator`, time.Minute)
	if !strings.Contains(page, "Teardown") {
		t.Errorf("the comment does not prove the teardown:\n%s", page)
	}
	nothingLeftOf(t, ccci.RunID(works))
}

// N5: a cancellation from a terminal reaches the bridge through the database, and the pull request
// gets its answer. No run starts here: the engine does not work.
func TestN5_OperatorCancelsWhatWaits(t *testing.T) {
	s := halfServer(t, "repos: [{repo: coop/wiki}]\n")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.bridges.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	pr := wikiPull(t, s)
	if _, err := s.forge.AddComment(t.Context(), pr, "you", "!testme"); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "cc-ci.yml")
	writeFile(t, config, "data: "+s.cfg.Data+"\nlisten: 127.0.0.1:0\n")
	cli := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := run(append([]string{"--config", config}, args...), &out, &out); code != want {
			t.Fatalf("cc-ci %q: exit code %d, want %d\n%s", args, code, want, out.String())
		}
		return out.String()
	}
	var queue []runRecord
	await(t, "the run", func() bool {
		if err := json.Unmarshal([]byte(cli(0, "queue", "--json")), &queue); err != nil {
			t.Fatal(err)
		}
		return len(queue) == 1
	})
	id := string(queue[0].Run)
	if got := cli(exitUnfinished, "status", id); !strings.Contains(got, "queued, position 1") {
		t.Errorf("status says\n%s", got)
	}
	cli(exitInfra, "cancel", id) // this server has no lock yet
	lock := flock.New(lockPath(s.cfg))
	if ok, err := lock.TryLock(); err != nil || !ok {
		t.Fatalf("locking the data folder: %t, %v", ok, err)
	}
	defer lock.Close()
	cli(0, "cancel", id)
	await(t, "the run's end", func() bool { return strings.HasPrefix(cli(0, "queue"), "nothing runs and nothing waits\n") })
	if got := cli(exitInterrupt, "status", id); !strings.Contains(got, "cancelled  by operator ") {
		t.Errorf("status says\n%s", got)
	}
	await(t, "the answer", func() bool {
		thread, err := s.forge.ThreadOf(t.Context(), pr)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range thread {
			if strings.Contains(c.Body, "Cancelled by `operator ") && strings.Contains(c.Body, "The run never started") {
				return true
			}
		}
		return false
	})
}
