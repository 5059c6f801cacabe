package box

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
)

// answers asks the box for an address, by its name.
func (o *operator) answers(url string, want int) (body string, location string) {
	o.t.Helper()
	res, err := o.client.Get(url)
	if err != nil {
		o.t.Errorf("%s: %v", url, err)
		return "", ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != want {
		o.t.Errorf("%s: %s, want %d", url, res.Status, want)
	}
	return string(text), res.Header.Get("Location")
}

// serves looks at the box from outside (A25, A35).
func (o *operator) serves(dashboard int) {
	o.t.Helper()
	o.answers("https://"+domain+"/", dashboard)
	o.answers("https://nothing."+domain+"/", http.StatusNotFound)
	if _, location := o.answers("http://"+domain+"/", http.StatusMovedPermanently); location != "https://"+domain+"/" {
		o.t.Errorf("plain HTTP leads to %q", location)
	}
}

var chainOfUnits = []string{
	"cc-ci-image.service", "cc-ci-reconcile-firewall.service", "cc-ci-reconcile-proxy.service", "cc-ci-reconcile-drone.service", "cc-ci-reconcile-bridge.service",
	"cc-ci-reconcile-dashboard.service", "cc-ci-reconcile-backupbot.service",
}

// A34: a blank box with the units as they are evaluated comes to a green run by the steps of
// docs/install.md, in less than five minutes with images at hand; rebooted, it is as before
// and does it again. A32, A33: one switch, in order. A35: by SNI with the wildcard certificate.
func TestA34_BlankBoxToGreen(t *testing.T) {
	b := newBox(t)
	o := prepare(t, b)
	o.furnish(o.world)
	began := time.Now()
	processes := b.watch() // before there is one
	since := func(what string) { t.Logf("%6.1f s: %s", time.Since(began).Seconds(), what) }

	b.powerOn()
	o.connect()
	b.settle()
	since("the box has booted")
	// Drone has no account of the forge's yet: its unit says what to do, and the rest waits.
	b.order(chainOfUnits[:3]...)
	b.until("the unit of Drone says that somebody has to sign in", 30*time.Second, func() bool {
		return strings.Contains(b.journal("cc-ci-reconcile-drone.service"), "sign in once as cibot")
	})
	o.serves(http.StatusNotFound)
	since("it serves HTTPS")
	if t.Failed() {
		return
	}

	drone.SignIn(t, o.client.Transport, "https://drone."+domain, o.forge)
	if out := b.ask("systemctl", "start", "cc-ci.target"); out != "" {
		t.Errorf("systemctl start says %s", out)
	}
	b.settle()
	o.converged()
	since("every unit has converged")
	if t.Failed() {
		return
	}
	o.testme()
	since("the run is green")
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("from a blank box to a green run it took %s", took)
	}
	o.unchanged()
	o.keepsSecrets(processes)
	since("no secret is where none may be")

	before := b.kept()
	b.powerOff()
	began = time.Now()
	b.powerOn()
	o.connect()
	b.settle()
	o.converged()
	since("it has booted again and every unit has converged")
	o.unchanged()
	if after := b.kept(); after != before {
		t.Errorf("before the reboot there were\n%s\nand after it\n%s", before, after)
	}
	if t.Failed() {
		return
	}
	o.testme()
	since("the run is green")

	// N3: rules know the slice by a number, which a restart of Docker does not change.
	o.guarded()
	if out := b.ask("systemctl", "restart", "docker.service"); out != "" {
		t.Errorf("systemctl restart says %s", out)
	}
	o.guarded()
	since("it is guarded after a restart of Docker")
}

// guarded looks whether dockerd is where the firewall knows it, and kept from the box itself.
func (o *operator) guarded() {
	o.t.Helper()
	for _, address := range []string{"127.0.0.1:9", public + ":9"} { // which nothing serves
		if out := o.ask("docker", "pull", address+"/app"); !strings.Contains(out, "no route to host") {
			o.t.Errorf("dockerd says of a registry at %s: %s", address, out)
		}
	}
	out := o.ask("env", "PATH="+store+"cc-ci-run/bin", store+"cc-ci/bin/cc-ci", "--config", "/etc/cc-ci/cc-ci.yml", "doctor")
	for _, want := range []string{"ok       firewall: rules", "ok       firewall: dockerd"} {
		if !strings.Contains(out, want) {
			o.t.Errorf("the doctor does not say %q:\n%s", want, out)
		}
	}
}

// converged looks whether every unit did its part, in order, and the target is reached.
func (o *operator) converged() {
	o.t.Helper()
	o.order(chainOfUnits...)
	for _, unit := range []string{"cc-ci.target", "cc-ci-runner.service"} {
		if state := o.property(unit, "ActiveState"); state != "active" {
			o.t.Errorf("%s is %s", unit, state)
		}
	}
	o.serves(http.StatusOK)
}

// unchanged asks the program itself (A32), by hand and by the unit of the drift timer.
func (o *operator) unchanged() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := o.command(ctx, "env", "PATH="+store+"cc-ci-run/bin", store+"cc-ci/bin/cc-ci", "--config", "/etc/cc-ci/cc-ci.yml", "reconcile", "all")
	var trouble strings.Builder
	cmd.Stderr = &trouble // there it says that it waits for the drift timer's
	out, err := cmd.Output()
	want := ""
	for _, unit := range []string{"swarm", "firewall", "proxy", "drone", "bridge", "dashboard", "backupbot"} {
		want += unit + ": nothing to do\n"
	}
	if err != nil || string(out) != want {
		o.t.Errorf("then cc-ci reconcile all says\n%s%s%v", out, &trouble, err)
	}
	// What the timers start, whenever they do.
	said := func() int { return strings.Count(o.journal("cc-ci-drift.service"), want) }
	before := said()
	for _, name := range []string{"drift", "janitor", "prune", "backup"} {
		unit := "cc-ci-" + name + ".service"
		if trouble := o.ask("systemctl", "start", unit); trouble != "" || o.property(unit, "Result") != "success" {
			o.t.Errorf("%s: %s\n%s", unit, trouble, o.journal(unit))
		}
	}
	o.until("the unit of the drift timer says that there is nothing to do", 30*time.Second, func() bool { return said() > before })
}

// testme comments as a member and waits for the verdict.
func (o *operator) testme() {
	o.t.Helper()
	before := len(o.comments())
	begin := time.Now()
	o.gitea.Comment(o.t, recipe, o.pull, member, "!testme")
	verdict := ""
	o.until("the verdict", 5*time.Minute, func() bool {
		all := o.comments()
		if len(all) <= before {
			return false
		}
		verdict = all[len(all)-1]
		return !strings.Contains(verdict, "### ⏳") && !strings.Contains(verdict, "### 🔄")
	})
	o.t.Logf("from the comment to the verdict it took %s:\n%s", time.Since(begin).Round(100*time.Millisecond), verdict)
	if !strings.Contains(verdict, "### ✅ passed: ") || len(o.comments()) != before+1 {
		o.t.Errorf("%d comments are new, and the verdict is\n%s", len(o.comments())-before, verdict)
	}
	// It was a build of Drone, and there is one runner: the unit.
	if builds := o.builds(); len(builds) == 0 || builds[0] != "custom success" {
		o.t.Errorf("Drone's builds are %q", builds)
	}
	if page, _ := o.answers(fmt.Sprintf("https://%s/badge/canary-good.svg?pr=%d", domain, o.pull), http.StatusOK); !strings.Contains(page, "level 5") {
		o.t.Errorf("the badge is\n%s", page)
	}
}
