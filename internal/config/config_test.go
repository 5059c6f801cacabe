package config

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestDefaultsAreSound(t *testing.T) {
	c, err := Read("")
	if err != nil {
		t.Fatal(err)
	}
	if c.Engine.Capacity != 1 || c.Engine.Deadline != time.Hour { // A15, A16
		t.Errorf("engine: %+v", c.Engine)
	}
	if c.URL != "http://127.0.0.1:8480" || c.Domain != "ci.localhost" {
		t.Errorf("got %+v", c)
	}
}

func TestEveryMistakeAtOnceWithLineAndWayOut(t *testing.T) {
	_, err := Parse("cc-ci.yml", []byte(`listen: nowhere
domian: ci.example.org
url: example
log: loud
forge:
  kind: locla
  poll: 5m
repos:
  - repo: alone
  - repo: coop/wiki
  - repo: coop/wiki
engine:
  capacity: many
  deadline: 1s
keep: {runs: 0}
limits: {memory: much, disk: 1K, cpus: "0", processes: 1}
`))
	if ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`cc-ci.yml:1: listen: "nowhere" is not an address; write an address and a port`,
		`cc-ci.yml:2: domian: there is no such setting; did you mean "domain"?`,
		`cc-ci.yml:3: url: "example" is not a web address`,
		`cc-ci.yml:4: log: there is no log level "loud"`,
		`cc-ci.yml:6: forge.kind: there is no forge of kind "locla"; did you mean "local"?`,
		`cc-ci.yml:7: forge.poll: 5m0s is not between 0 and 30s`, // A4
		`cc-ci.yml:9: repos[0].repo: "alone" is not a repository; write owner/name`,
		`cc-ci.yml:11: repos[2].repo: coop/wiki is already enrolled as repos[1]`,
		`cc-ci.yml:13: engine.capacity: this must be a number, not "many"`,
		`cc-ci.yml:14: engine.deadline: 1s is not between 1m and 6h`,
		`cc-ci.yml:15: keep.runs: 0 is less than 1`,
		`cc-ci.yml:16: limits.memory: "much" is not a size; write a size as 512M or 6G`,
		`cc-ci.yml:16: limits.disk: 1K is less than 100MiB`,
		`cc-ci.yml:16: limits.cpus: "0" is not between 0.1 and 1024`,
		`cc-ci.yml:16: limits.processes: 1 is not between 32 and 1048576`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestRelativePathsAreTakenFromTheFile(t *testing.T) {
	c, err := Parse("/etc/cc-ci/cc-ci.yml", []byte("data: state\ntests: ../enrolments\nrepos: [{repo: coop/wiki}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != filepath.FromSlash("/etc/cc-ci/state") || c.Tests != "/etc/enrolments" || c.Repos[0].Recipe != "wiki" {
		t.Errorf("got %+v", c)
	}
}

func TestURLOf(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8480": "http://127.0.0.1:8480", ":8480": "http://localhost:8480", "0.0.0.0:80": "http://localhost:80",
		"[::]:80": "http://localhost:80", "[::1]:80": "http://[::1]:80", "ci.example.org:80": "http://ci.example.org:80",
	} {
		if got := URLOf(listen); got != want {
			t.Errorf("%s: %s, not %s", listen, got, want)
		}
	}
}

func TestWhatMustNotBeEmptyOrNonsense(t *testing.T) {
	for _, text := range []string{
		`title: ""`, `tests: ""`, `network: ""`, `forge: {org: ""}`, `forge: {user: ""}`, `badge: {stale: -1h}`, `badge: {stale: 0}`,
		`listen: "127.0.0.1:http"`, `listen: "127.0.0.1:70000"`, `ingress: {listen: "127.0.0.1:x"}`, `roles: {cancel: membre}`,
	} {
		_, err := Parse("cc-ci.yml", []byte(text))
		if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.HasPrefix(err.Error(), "cc-ci.yml:1: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Every text is refused or gives a configuration that the program can run with.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "data: x", "listen: ':0'", "repos: [{repo: a/b}]", "roles: {ask: '7, member'}", "domain: a.b", "url: http://x/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("cc-ci.yml", []byte(text))
		if err != nil {
			if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
				t.Fatalf("refused without class or hint: %v", err)
			}
			return
		}
		_, roleErr := ParseRole(c.Roles.Testme)
		if !filepath.IsAbs(c.Data) || c.URL == "" || c.Engine.Capacity < 1 || c.Forge.Poll > 30*time.Second || roleErr != nil {
			t.Fatalf("%q gives %+v", text, c)
		}
	})
}
