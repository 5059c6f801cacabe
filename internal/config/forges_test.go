package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

const twoForges = `
forges:
  - kind: gitea
    url: https://git.example.org/
    org: coop
    token_file: secrets/gitea
    hook_secret_files: [secrets/new, /run/secrets/old]
    discover: topic:cc-ci
    repositories:
      - repo: coop/wiki
      - {repo: coop/page-recipe, recipe: page}
  - kind: github
    org: coop
    app: {id: Iv1.abc, installation: 12, key_file: /run/secrets/app.pem}
    repositories: [{repo: coop/wiki}]
    poll: 30s
engine:
  kind: drone
  drone: {url: "https://drone.example.org", token_file: secrets/drone, repo: coop/cc-ci}
bridge: {listen: "127.0.0.1:8481"}
`

func TestSeveralForges(t *testing.T) {
	c, err := Parse("/etc/cc-ci/cc-ci.yml", []byte(twoForges))
	if err != nil {
		t.Fatal(err)
	}
	g, h := c.Forges[0], c.Forges[1]
	if g.Name != "git.example.org" || g.URL != "https://git.example.org" || g.TokenFile != "/etc/cc-ci/secrets/gitea" || g.HookSecrets[0] != "/etc/cc-ci/secrets/new" ||
		g.HookSecrets[1] != "/run/secrets/old" || g.Repos[0].Recipe != "wiki" || g.Repos[1].Recipe != "page" || g.Poll != 20*time.Second {
		t.Errorf("the first is %+v", g)
	}
	if h.Name != "github.com" || h.URL != "https://github.com" || h.Poll != 30*time.Second || h.Discover != DiscoverNone {
		t.Errorf("the second is %+v", h)
	}
	if _, local := c.Local(); local || len(c.AllForges()) != 2 || c.Engine.Drone.TokenFile != "/etc/cc-ci/secrets/drone" {
		t.Errorf("all: %+v", c.AllForges())
	}
	if c = Default(); len(c.AllForges()) != 1 || c.AllForges()[0].Kind != KindLocal || c.AllForges()[0].Org != c.Forge.Org {
		t.Errorf("without a list: %+v", c.AllForges())
	}
	c, err = Parse("x.yml", []byte("forges: [{kind: local, org: mine, poll: 3s}, {kind: gitea, url: 'http://127.0.0.1:3000', org: coop, token_file: t, discover: org}]"))
	if err != nil {
		t.Fatal(err)
	}
	if local, ok := c.Local(); !ok || local.Name != KindLocal || c.Forge.Org != "mine" || c.Forge.Poll != 3*time.Second || c.Forges[1].Name != "127.0.0.1:3000" {
		t.Errorf("with a local one: %+v", c.Forges)
	}
}

func TestForgesThatAreRefused(t *testing.T) {
	const good = "url: 'https://a.b', org: coop, token_file: t, discover: org"
	for text, want := range map[string]string{
		"forges: [{" + good + "}]":                                                                                   "forges[0].kind: a forge is of some kind; write gitea, github or local",
		"forges: [{kind: forgejo, " + good + "}]":                                                                    "Forgejo is of kind gitea",
		"forges: [{kind: gihtub, " + good + "}]":                                                                     `did you mean "github"?`,
		"forges: [{kind: gitea, url: git.example.org, org: o, token_file: t, discover: org}]":                        `"git.example.org" is not the web address of a forge`,
		"forges: [{kind: gitea, url: 'https://u:p@a.b', org: o, token_file: t, discover: org}]":                      "is not the web address of a forge",
		"forges: [{kind: gitea, url: 'https://a.b', token_file: t, discover: org}]":                                  "forges[0].org: without an organisation nobody is a member",
		"forges: [{kind: gitea, url: 'https://a.b', org: o, discover: org}]":                                         "forges[0].token_file: cc-ci's account needs a token",
		"forges: [{kind: gitea, url: 'https://a.b', org: o, token: geheim}]":                                         `forges[0].token: there is no such setting`,
		"forges: [{kind: gitea, url: 'https://a.b', org: o, token_file: t}]":                                         "this forge has no repository to look at",
		"forges: [{kind: gitea, " + good + ", poll: 31s}]":                                                           "forges[0].poll: 31s is not between 0 and 30s",
		"forges: [{kind: gitea, url: 'https://a.b', org: o, token_file: t, discover: all}]":                          `"all" says not how to find repositories; write none, org, topic:NAME or team:NAME`,
		"forges: [{kind: gitea, url: 'https://a.b', org: o, token_file: t, discover: 'topic:'}]":                     "says not how",
		"forges: [{kind: gitea, " + good + ", app: {id: x}}]":                                                        "only GitHub has Apps",
		"forges: [{kind: github, org: o, discover: org, app: {id: x}}]":                                              "an App needs id, installation and key_file",
		"forges: [{kind: github, org: o, discover: org, token_file: t, app: {id: x, installation: 1, key_file: k}}]": "exclude each other",
		"forges: [{kind: gitea, " + good + ", hook_secret_files: [a, b, c]}]":                                        "at most two secrets hold at a time, not 3",
		"forges: [{kind: gitea, " + good + "}, {kind: gitea, " + good + "}]":                                         `forges[0] is called "a.b" too`,
		"forges: [{kind: gitea, name: a/b, " + good + "}]":                                                           `a forge cannot be called "a/b"`,
		"forges: [{kind: gitea, " + good + ", repositories: [{repo: x}]}]":                                           `forges[0].repositories[0].repo: "x" is not a repository`,
		"forges: [{kind: gitea, " + good + ", repositories: [{repo: x/y}, {repo: x/y}]}]":                            "x/y is already enrolled as forges[0].repositories[0]",
		"forges: [{kind: local, org: o, token_file: t}]":                                                             "the local forge is in this process",
		"forges: [{kind: local, org: o, name: here}]":                                                                "the local forge is called local",
		"forge: {org: x}\nforges: [{kind: gitea, " + good + "}]":                                                     "cc-ci.yml:1: forge: this has no meaning beside forges; move it into the list",
		"repos: [{repo: a/b}]\nforges: [{kind: gitea, " + good + "}]":                                                "repos: this has no meaning beside forges",
		"engine: {kind: jenkins}":                                                                                    `engine.kind: there is no engine of kind "jenkins"; write local or drone`,
		"engine: {kind: drone, drone: {url: x}}":                                                                     "engine.drone.token_file: starting builds needs a token",
		"engine: {kind: drone, drone: {commit: main}}":                                                               `engine.drone.commit: "main" is not the hash of a commit`,
		"engine: {drone: {url: 'https://a.b'}}":                                                                      "engine.drone: the engine is the built-in one",
		"bridge: {listen: nowhere}":                                                                                  `bridge.listen: "nowhere" is not an address`,
	} {
		_, err := Parse("cc-ci.yml", []byte(text))
		if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v\nwant  %s", text, err, want)
		}
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := Default()
	s, err := c.ReadSecret(write("good", "\n geheim\n"))
	if err != nil || s.Reveal() != "geheim" {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	for name, path := range map[string]string{
		"absent": filepath.Join(dir, "absent"), "empty": write("empty", " \n"), "folder": dir, "large": write("large", strings.Repeat("x", 70<<10)),
		"two lines": write("two", "geheim\ngeheim\n"), "binary": write("binary", "geheim\x00"), "UTF-16": write("wide", "\xff\xfeg\x00"), "marked": write("marked", "\ufeffgeheim"),
	} {
		if _, err := c.ReadSecret(path); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := c.ReadKey(write("key", "-----BEGIN\nx\n-----END\n")); err != nil || s.Reveal() != "-----BEGIN\nx\n-----END" {
		t.Errorf("a key: %q, %v", s.Reveal(), err)
	}
}

// Each setting whose file is read as a secret is in the list, so that an error names its place.
func TestSecretFilesHavePlaces(t *testing.T) {
	var c Config
	settings.Defaults(&c)
	c.Forges = []ForgeEntry{{HookSecrets: []string{""}}}
	listed := map[string]bool{}
	for _, f := range c.secretFiles() {
		listed[f.key] = true
	}
	var visit func(v reflect.Value, key string)
	visit = func(v reflect.Value, key string) {
		switch {
		case v.Kind() == reflect.Struct:
			for _, f := range settings.FieldsOf(v.Type()) {
				visit(v.Field(f.Index), settings.Join(key, f.Key))
			}
		case v.Kind() == reflect.Slice && v.Len() > 0:
			visit(v.Index(0), key+"[0]")
		case v.Kind() == reflect.String && (strings.HasSuffix(key, "_file") || strings.Contains(key, "_files[")):
			if !listed[key] {
				t.Errorf("%s is not listed", key)
			}
			delete(listed, key)
		}
	}
	visit(reflect.ValueOf(c), "")
	for key := range listed {
		t.Errorf("%s is listed, and there is no such setting", key)
	}
}
