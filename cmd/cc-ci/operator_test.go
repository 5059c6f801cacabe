package main

import (
	"encoding/json"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

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
	holds(cli(0, "cancel", works[:len(works)-1]), `^run `+works+` is being cancelled by operator `, `^http.*/runs/`+works+`$`)
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
