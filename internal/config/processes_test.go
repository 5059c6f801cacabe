package config

import (
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestProcesses(t *testing.T) {
	const apart = "processes: apart\nbridge: {listen: ':8481'}\n"
	for text, want := range map[string]string{
		"":                      "",
		"processes: together\n": "",
		"bus: {kind: redis, redis: {url_file: r}}\n":         "", // serve may use Redis as well
		apart + "bus: {kind: redis, redis: {url_file: r}}\n": "",
		apart: "processes: apart, bridge and dashboard cannot hear each other: bus.kind is inproc, which ends at the process; write bus: {kind: redis, redis: {url_file: …}}, or processes: together",
		"processes: apart\nbus: {kind: redis, redis: {url_file: r}}\n": "bridge.listen: apart, the bridge has no dashboard",
		"processes: apar\n":                  `there is no way to spread processes "apar"; did you mean "apart"?`,
		"bus: {kind: rabbit}\n":              `bus.kind: there is no bus of kind "rabbit"; write inproc or redis`,
		"bus: {kind: redis}\n":               "bus.redis.url_file: the bus needs the address of Redis",
		"bus: {redis: {url_file: r}}\n":      "bus.redis: the bus is within one process",
		"bus: {redis: {url: 'redis://x'}}\n": "bus.redis.url: there is no such setting",
	} {
		c, err := Parse("/etc/cc-ci/cc-ci.yml", []byte(text))
		if want == "" {
			if err != nil || c.Bus.Redis.URLFile != "" && c.Bus.Redis.URLFile != "/etc/cc-ci/r" {
				t.Errorf("%q: %v, %+v", text, err, c.Bus)
			}
		} else if err == nil || !strings.Contains(err.Error()+ccci.HintOf(err), want) {
			t.Errorf("%q:\n%v\nwant %q", text, err, want)
		}
	}
}

func TestProcessesAndCommands(t *testing.T) {
	c := Default()
	if err := c.Needs(Together, "cc-ci serve"); err != nil {
		t.Error(err)
	}
	err := c.Needs(Apart, "cc-ci bridge")
	if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(ccci.HintOf(err), "processes: apart and bus: {kind: redis") {
		t.Errorf("%v; %s", err, ccci.HintOf(err))
	}
	c.Processes = Apart
	if err := c.Needs(Together, "cc-ci serve"); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Error(err)
	}
}

func TestServices(t *testing.T) {
	for text, want := range map[string]string{
		"reconcile: {drone: {host: Drone}}":           `reconcile.drone.host: "Drone" is not a host name`,
		"reconcile: {drone: {admin: 'a,admin:true'}}": `reconcile.drone.admin: "a,admin:true" is not an account`,
		"reconcile: {backup: {repository: backups}}":  `reconcile.backup.repository: "backups" does not begin at /`,
	} {
		if _, err := Parse("x.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	c, err := Parse("/etc/cc-ci/cc-ci.yml", []byte("domain: ci.example.org\n"+twoForges))
	if err != nil {
		t.Fatal(err)
	}
	if c.Reconcile.Drone.Host != "drone.ci.example.org" || c.Reconcile.Drone.RPCSecret != "/etc/cc-ci/drone_rpc_secret" {
		t.Errorf("%+v", c.Reconcile.Drone)
	}
	want := []string{"/etc/cc-ci/secrets/drone", "/etc/cc-ci/secrets/gitea", "/etc/cc-ci/secrets/new", "/run/secrets/old", "/run/secrets/app.pem"}
	if got := c.BridgeSecrets(); !slices.Equal(got, want) {
		t.Errorf("the bridge reads %v", got)
	}
	if got := c.DashboardSecrets(); len(got) != 0 {
		t.Errorf("the dashboard reads %v", got)
	}
}
