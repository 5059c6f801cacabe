package recipe_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/types"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func service(t testing.TB, s *recipe.Stack, name string) types.ServiceConfig {
	t.Helper()
	for _, service := range s.Config.Services {
		if service.Name == name {
			return service
		}
	}
	t.Fatalf("the stack has no service %s", name)
	return types.ServiceConfig{}
}

func TestRenderWholeRecipe(t *testing.T) {
	tree := open(t, unpack(t, "commons"))
	if tree.Version() != "2.0.1+1.0.6-social" {
		t.Errorf("version %q", tree.Version())
	}
	s := render(t, tree, recipe.RenderOptions{ChaosVersion: head.Short(), Labels: map[string]string{"cc-ci.run": "r1"}})

	if s.Name != stack || s.Recipe != "commons" || s.Version != "2.0.1+1.0.6-social" || s.Timeout != 420*time.Second {
		t.Errorf("name %q recipe %q version %q timeout %v", s.Name, s.Recipe, s.Version, s.Timeout)
	}
	if diff := cmp.Diff([]string{"compose.yml", "db/compose.db.yml"}, s.Files); diff != "" {
		t.Error(diff)
	}
	app := service(t, s, "app")
	for label, want := range map[string]string{
		"coop-cloud." + stack + ".recipe":                                           "commons",
		"coop-cloud." + stack + ".version":                                          "2.0.1+1.0.6-social",
		"coop-cloud." + stack + ".chaos":                                            "true",
		"coop-cloud." + stack + ".chaos-version":                                    "01234567",
		"traefik.http.routers." + stack + ".rule":                                   "Host(`" + domain + "`)",
		"traefik.http.routers." + stack + ".tls.certresolver":                       "",
		"traefik.http.middlewares." + stack + "-redirect.redirectregex.replacement": "https://${1}",
		"cc-ci.run": "r1",
	} {
		if got, ok := app.Deploy.Labels[label]; !ok || got != want {
			t.Errorf("label %s is %q (%v), want %q", label, got, ok, want)
		}
	}
	for key, want := range map[string]string{
		"DOMAIN": domain, "STACK_NAME": stack, "APP_NAME": "Commons of " + domain, "GREETING": "costs $5 # really",
		"SHARED_SETTING": "one", "DB_PASSWORD_FILE": "/run/secrets/db_password", "ENTRYPOINT_VERSION": "v7",
		"FLAVOUR": "social", "LETS_ENCRYPT_ENV": "", "COMPOSE_FILE": "compose.yml:db/compose.db.yml",
	} {
		if got := app.Environment[key]; got == nil || *got != want {
			t.Errorf("app's environment %s is %v, want %q", key, got, want)
		}
	}
	if db := service(t, s, "db"); db.Environment["GREETING"] != nil {
		t.Error("the env is injected into db, and only app gets it")
	}
	if got := s.Config.Configs["entrypoint"].Name; got != stack+"_entrypoint_v7" {
		t.Errorf("config name %q", got)
	}
	if !strings.HasPrefix(string(s.ConfigData["pg_backup"]), "#!/bin/sh\nset -e") {
		t.Errorf("config data %q", s.ConfigData["pg_backup"])
	}
	if got := s.Config.Volumes["db-data"]; got.Name != stack+"_db-data" || got.Labels["cc-ci.run"] != "r1" {
		t.Errorf("volume %+v", got)
	}
	if got := s.Config.Networks["proxy"]; got.Name != "proxy" || got.Labels != nil {
		t.Errorf("the external network was changed: %+v", got)
	}
	if !slices.ContainsFunc(s.Warnings, func(w recipe.Warning) bool {
		return w.File == "abra.sh" && w.Line == 4 && strings.Contains(w.Message, "BUILT_AT")
	}) {
		t.Errorf("no warning about the computed export: %v", s.Warnings)
	}
}

func TestRenderSecrets(t *testing.T) {
	tree := open(t, unpack(t, "commons"))
	s := render(t, tree, recipe.RenderOptions{Env: map[string]string{
		"COMPOSE_FILE":            "compose.yml:db/compose.db.yml:compose.mail.yml",
		"SECRET_MAIL_KEY_VERSION": "v1",
	}})
	want := []recipe.Secret{
		{Key: "db_password", Name: stack + "_db_password_v1", Version: "v1", Generate: true},
		{Key: "key_base", Name: stack + "_key_base_v2", Version: "v2", Length: 128, Charset: "hex", Generate: true},
		{Key: "mail_key", Name: stack + "_mail_key_v1", Version: "v1", Generate: false}, // from the commented-out line
		{Key: "signing", Name: stack + "_signing_v1", Version: "v1", Length: 40, Charset: "default,safespecial", Generate: true},
	}
	if diff := cmp.Diff(want, s.Secrets); diff != "" {
		t.Error(diff)
	}
	if s := render(t, tree, recipe.RenderOptions{}); len(s.Secrets) != 3 {
		t.Errorf("a secret of an overlay that is not used is listed: %v", s.Secrets)
	}
}

func TestRenderKeepsOldEnvFile(t *testing.T) {
	tree := open(t, unpack(t, "commons"))
	base := render(t, tree, recipe.RenderOptions{Env: map[string]string{"FLAVOUR": "it's $5\n\"x\""}})
	app := service(t, base, "app")
	if got := *app.Environment["FLAVOUR"]; got != "it's $5\n\"x\"" {
		t.Errorf("the override is %q", got)
	}

	dir := unpack(t, "commons")
	replace(t, dir, ".env.sample", "TIMEOUT=420", "TIMEOUT=999\nNEW_KEY=x")
	next := render(t, open(t, dir), recipe.RenderOptions{EnvFile: base.EnvFile, ChaosVersion: head.Short()})
	if diff := cmp.Diff(string(base.EnvFile), string(next.EnvFile)); diff != "" {
		t.Errorf("the old env file was changed:\n%s", diff)
	}
	if _, ok := next.Env.Lookup("NEW_KEY"); ok {
		t.Error("the new sample's key is in the old app")
	}
	changed := render(t, open(t, dir), recipe.RenderOptions{EnvFile: base.EnvFile, Env: map[string]string{"NEW_KEY": "y"}})
	if string(changed.EnvFile) != string(base.EnvFile)+"NEW_KEY=y\n" {
		t.Errorf("the override is not one line at the end: %q", changed.EnvFile)
	}
}

// A secret that is new in the head has no line in an app's old env file: its version comes
// from the default in the compose file, its form from the new sample.
func TestRenderNewSecretInOldApp(t *testing.T) {
	dir := unpack(t, "commons")
	base := render(t, open(t, dir), recipe.RenderOptions{})
	replace(t, dir, ".env.sample", "FLAVOUR=", "SECRET_FRESH_VERSION=v1 # length=12\nFLAVOUR=")
	replace(t, dir, "compose.yml", "secrets:\n  db_password:", "secrets:\n  fresh:\n    external: true\n    name: ${STACK_NAME}_fresh_${SECRET_FRESH_VERSION:-v1}\n  db_password:")
	replace(t, dir, "compose.yml", "      - signing\n", "      - signing\n      - fresh\n")
	s := render(t, open(t, dir), recipe.RenderOptions{EnvFile: base.EnvFile})
	want := recipe.Secret{Key: "fresh", Name: stack + "_fresh_v1", Version: "v1", Length: 12, Generate: true}
	if !slices.Contains(s.Secrets, want) {
		t.Errorf("secrets %v lack %v", s.Secrets, want)
	}
}

// A21: a run's domain is its own whatever the recipe says, and its names fit the daemon.
func TestA21_DomainIsForced(t *testing.T) {
	dir := unpack(t, "page")
	replace(t, dir, ".env.sample", "DOMAIN=page.example.com", "DOMAIN=hotline.example.com\nSTACK_NAME=evil")
	write(t, dir, "abra.sh", "export DOMAIN=evil.example.com\nexport STACK_NAME=evil\n")
	s := render(t, open(t, dir), recipe.RenderOptions{ExtraDomains: map[string]string{"SANDBOX": "sandbox-" + domain}})
	for key, want := range map[string]string{"DOMAIN": domain, "STACK_NAME": stack, "SANDBOX": "sandbox-" + domain} {
		if got := s.Env.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got := service(t, s, "app").Deploy.Labels["traefik.http.routers."+stack+".rule"]; got != "Host(`"+domain+"`)" {
		t.Errorf("rule %s", got)
	}
	_, err := open(t, dir).Render(recipe.RenderOptions{Domain: "a b"})
	wantError(t, err, ccci.CodeInvalid, `"a b" is not a domain`)
}

func TestA21_NamesAreCheckedBeforeAnythingIsMade(t *testing.T) {
	long := strings.Repeat("l", 40)
	cases := map[string]struct {
		old, text string
		want      []string
	}{
		"secret": {"networks:\n  proxy:", "secrets:\n  " + long + ":\n    external: true\n    name: ${STACK_NAME}_" + long + "_v1\nnetworks:\n  proxy:",
			[]string{"secret " + long, "70 characters", "docker allows 64"}},
		"config": {"networks:\n  proxy:", "configs:\n  " + long + ":\n    file: README.md\n    name: ${STACK_NAME}_" + long + "_v1\nnetworks:\n  proxy:",
			[]string{"config " + long, "docker allows 64"}},
		"service": {"  app:", "  " + long + ":\n    image: nginx:1\n  app:",
			[]string{"service " + long, "67 characters", "docker allows 63"}},
		"empty version": {"networks:\n  proxy:", "configs:\n  c:\n    file: README.md\n    name: ${STACK_NAME}_c_${C_VERSION}\nnetworks:\n  proxy:",
			[]string{"config c", stack + "_c_", "refuses"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "page")
			replace(t, dir, "compose.yml", c.old, c.text)
			_, err := open(t, dir).Render(recipe.RenderOptions{Domain: domain})
			wantError(t, err, ccci.CodeRecipe, c.want...)
		})
	}
	if name := recipe.StackName(strings.Repeat("a", 30) + "." + strings.Repeat("b", 30)); len(name) != 45 {
		t.Errorf("stack name %q has %d characters", name, len(name))
	}
}

func TestRenderOverlaysOfOurs(t *testing.T) {
	ours := t.TempDir()
	write(t, ours, "compose.ccci.yml", "services:\n  app:\n    stop_grace_period: 3s\n    configs: [extra]\nconfigs:\n  extra:\n    file: extra.conf\n")
	write(t, ours, "extra.conf", "ours\n")
	s := render(t, open(t, unpack(t, "page")), recipe.RenderOptions{Overlays: []string{ours + "/compose.ccci.yml"}})
	app := service(t, s, "app")
	if app.StopGracePeriod == nil || time.Duration(*app.StopGracePeriod) != 3*time.Second {
		t.Errorf("grace period %v", app.StopGracePeriod)
	}
	if string(s.ConfigData["extra"]) != "ours\n" {
		t.Errorf("config data %q", s.ConfigData["extra"])
	}
	if slices.Contains(s.Files, ours+"/compose.ccci.yml") {
		t.Error("our overlay is listed among the recipe's files")
	}
}

func TestRenderDefaultNetwork(t *testing.T) {
	dir := unpack(t, "page")
	replace(t, dir, "compose.yml", "  app:", "  side:\n    image: nginx:1.27.2\n  app:")
	s := render(t, open(t, dir), recipe.RenderOptions{Labels: map[string]string{"cc-ci.run": "r1"}})
	if _, ok := service(t, s, "side").Networks["default"]; !ok {
		t.Error("a service without networks has no default one")
	}
	if got := s.Config.Networks["default"]; got.Name != stack+"_default" || got.Labels["cc-ci.run"] != "r1" {
		t.Errorf("default network %+v", got)
	}
	if got := slices.Sorted(maps.Keys(service(t, s, "app").Networks)); !slices.Equal(got, []string{"proxy"}) {
		t.Errorf("app's networks %v", got)
	}
}

// The network that recipes call proxy is the host's, whatever the host calls it; labels follow.
func TestA24_TheProxysNetworkHasTheHostsName(t *testing.T) {
	dir := unpack(t, "page")
	replace(t, dir, "compose.yml", `        - "backupbot.backup=true"`, `        - "traefik.docker.network=proxy"`)
	for name, want := range map[string]string{"": "proxy", "proxy": "proxy", "edge": "edge"} {
		stack, err := open(t, dir).Render(recipe.RenderOptions{Domain: "page-0a1b2c.ci.example.org", Proxy: name})
		if err != nil {
			t.Fatal(err)
		}
		if got, label := stack.Config.Networks["proxy"].Name, stack.Config.Services[0].Deploy.Labels["traefik.docker.network"]; got != want || label != want {
			t.Errorf("%q: network %q, label %q", name, got, label)
		}
	}
}
