package recipe_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// What docker's loader refuses is told with file, line and, where there is one, a way out.
func TestRenderErrorsHaveAPlace(t *testing.T) {
	const image = "    image: nginx:1.27.2\n"
	cases := map[string]struct {
		old, text string
		want      []string
	}{
		"unknown key":        {image, image + "    profiles: [x]\n", []string{"compose.yml line 7:", "services.app", "profiles"}},
		"root name":          {"services:", "name: x\nservices:", []string{"compose.yml line 4:", "name"}},
		"depends_on as map":  {image, image + "    depends_on:\n      db: {condition: service_healthy}\n", []string{"compose.yml line 7:", "services.app.depends_on must be a list"}},
		"forbidden":          {image, image + "    mem_limit: 1G\n", []string{"compose.yml line 7: service app uses mem_limit"}},
		"bool in env":        {image, image + "    environment:\n      A: true\n", []string{"compose.yml line 8:", "services.app.environment.A"}},
		"alternate value":    {image, "    image: nginx:${X:+1}\n", []string{"compose.yml line 6:", "invalid interpolation format for services.app.image"}},
		"required variable":  {image, "    image: nginx:${X:?set it}\n", []string{"compose.yml line 6:", "set it"}},
		"no number":          {"    deploy:\n", "    deploy:\n      replicas: ${DOMAIN}\n", []string{"compose.yml line 14:", "services.app.deploy.replicas"}},
		"undeclared network": {"      - proxy\n", "      - proxy\n      - ghost\n", []string{`compose.yml line 7: service app uses the network "ghost"`}},
		"undeclared volume":  {"content:/usr", "ghost:/usr", []string{`compose.yml line 9: service app uses the volume "ghost"`}},
		"undeclared secret":  {image, image + "    secrets: [ghost]\n", []string{`compose.yml line 7: service app uses the secret "ghost"`}},
		"undeclared config":  {image, image + "    configs: [ghost]\n", []string{`compose.yml line 7: service app uses the config "ghost"`}},
		"no mapping":         {"---\n", "- a\n---\n", []string{"compose.yml: "}},
		"key twice":          {"services:", "version: \"3.8\"\nservices:", []string{"compose.yml: ", "already defined"}},
		"ports as a map":     {image, image + "    ports: {a: b}\n", []string{"compose.yml line 7:", "services.app.ports"}},
		"odd ulimits":        {image, image + "    ulimits: {nofile: {soft: 1}}\n", []string{"compose.yml line "}},
		"services is a list": {"services:\n", "services: [a]\nx-services:\n", []string{"compose.yml line 4:"}},
		"service is null":    {"services:\n", "services:\n  side:\n", []string{"compose.yml line 5:", "services.side"}},
		"other version":      {`"3.8"`, `"9"`, []string{"compose.yml", "9"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "page")
			replace(t, dir, "compose.yml", c.old, c.text)
			_, err := open(t, dir).Render(recipe.RenderOptions{Domain: domain})
			if err == nil {
				t.Fatal("no error")
			}
			if code := ccci.CodeOf(err); code != ccci.CodeInvalid {
				t.Errorf("code %s", code)
			}
			for _, text := range c.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q lacks %q", err, text)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
		})
	}
}

// Short texts that stand for much are refused before the loader writes them out.
func TestRenderBoundsYAML(t *testing.T) {
	bomb := "x-a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
	for c := 'b'; c <= 'h'; c++ {
		bomb += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 9), ", "))
	}
	for name, text := range map[string]string{
		"aliases":        bomb,
		"depth":          "x-a: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "\n",
		"many values":    "x-a: [" + strings.Repeat("1,", 250_000) + "]\n",
		"alias to above": "x-a: &a\n  b: *a\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "page")
			replace(t, dir, "compose.yml", "services:", text+"services:")
			tree := open(t, dir)
			_, err := tree.Render(recipe.RenderOptions{Domain: domain})
			wantError(t, err, ccci.CodeInvalid, "compose.yml")
			if tree.Version() != "" {
				t.Error("the version was read all the same")
			}
		})
	}
}

// The loader merges pointers by writing through them.
func TestRenderOverlaySetsWhatTheBaseLacks(t *testing.T) {
	ours := t.TempDir()
	write(t, ours, "o.yml", "services:\n  app:\n    deploy: {replicas: 2, restart_policy: {max_attempts: 3}}\n    healthcheck: {retries: 7}\n    logging: {driver: json-file}\n    ulimits: {nofile: 5}\n")
	s := render(t, open(t, unpack(t, "page")), recipe.RenderOptions{Overlays: []string{ours + "/o.yml"}})
	app := service(t, s, "app")
	if app.Deploy.Replicas == nil || *app.Deploy.Replicas != 2 || *app.HealthCheck.Retries != 7 || *app.Deploy.RestartPolicy.MaxAttempts != 3 {
		t.Errorf("replicas %v, healthcheck %+v", app.Deploy.Replicas, app.HealthCheck)
	}
}

func TestRenderVersionMismatch(t *testing.T) {
	dir := unpack(t, "commons")
	replace(t, dir, "db/compose.db.yml", "version: \"3.8\"\n", "")
	_, err := open(t, dir).Render(recipe.RenderOptions{Domain: domain})
	wantError(t, err, ccci.CodeInvalid, "db/compose.db.yml has version none and compose.yml has 3.8")
}

func TestRenderSecretErrors(t *testing.T) {
	dir := unpack(t, "commons")
	replace(t, dir, ".env.sample", "SECRET_DB_PASSWORD_VERSION=v1\n", "")
	_, err := open(t, dir).Render(recipe.RenderOptions{Domain: domain})
	wantError(t, err, ccci.CodeRecipe, "compose.yml line ", "the secret db_password has no version", "SECRET_DB_PASSWORD_VERSION")
	if !strings.Contains(ccci.HintOf(err), "${SECRET_DB_PASSWORD_VERSION:-v1}") {
		t.Errorf("hint %q", ccci.HintOf(err))
	}

	dir = unpack(t, "commons")
	replace(t, dir, ".env.sample", "length=128", "length=many")
	_, err = open(t, dir).Render(recipe.RenderOptions{Domain: domain})
	wantError(t, err, ccci.CodeInvalid, "the secret key_base", "length=many")
}

// Section 7.3 of what the loader does: each drop and each literal is said aloud.
func TestRenderWarnings(t *testing.T) {
	const image = "    image: nginx:1.27.2\n"
	cases := map[string]struct {
		old, text string
		want      []string
	}{
		"nothing":                {image, image, nil},
		"tmpfs":                  {image, image + "    tmpfs: /run\n", []string{"compose.yml:7 service app: tmpfs has no effect on a swarm: it is dropped without a word; write a volume of type tmpfs"}},
		"restart without policy": {image, image + "    restart: always\n", nil},
		"restart with policy":    {"    deploy:\n", "    restart: always\n    deploy:\n      restart_policy: {condition: any}\n", []string{"compose.yml:13 service app: restart has no effect"}},
		"several":                {image, image + "    container_name: x\n    links: [a]\n    privileged: true\n", []string{"compose.yml:7 service app: container_name", "compose.yml:8 service app: links", "compose.yml:9 service app: privileged"}},
		"nested default":         {image, "    image: nginx:${A:-${B:-1}}\n", []string{"compose.yml:6 services.app.image: docker does not resolve a variable within a default"}},
		"escaped is no nesting":  {image, image + "    command: echo $${A:-${DOMAIN}}\n", nil},
		"windows path":           {"content:/usr/share/nginx/html", "d:/d", []string{`compose.yml:10 service app: the volume "d:/d" is read as a Windows path`}},
		"home":                   {"content:/usr/share/nginx/html", "~/x:/y", []string{`compose.yml:10 service app: ~ in "~/x:/y"`}},
		"home, long form":        {"- content:/usr/share/nginx/html", "- {type: bind, source: ~/x, target: /y}", []string{`compose.yml:10 service app: ~ in "~/x"`}},
		"old external":           {"    external: true", "    external: {name: proxy}", []string{"compose.yml:23 networks.proxy: external.name is deprecated"}},
		"variable in duration":   {"    deploy:\n", "    stop_grace_period: ${S:-2m}\n    deploy:\n", []string{`compose.yml:13 services.app.stop_grace_period is "${S:-2m}": abra checks the file before it fills in variables`}},
		"variable in port":       {image, image + "    ports: [\"${P:-80}:80\"]\n", []string{`compose.yml:7 services.app.ports.0 is "${P:-80}:80": abra`}},
		"timeout":                {`"backupbot.backup=true"`, "coop-cloud.${STACK_NAME}.timeout=soon", []string{`compose.yml:0 the timeout label of service app is "soon"`}},
		"foreign secret": {"networks:\n  proxy:", "secrets:\n  s:\n    external: true\n    name: other_s_v1\nnetworks:\n  proxy:",
			[]string{"compose.yml:22 the secret s is declared and no service uses it"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "page")
			replace(t, dir, "compose.yml", c.old, c.text)
			s := render(t, open(t, dir), recipe.RenderOptions{})
			var got []string
			for _, w := range s.Warnings {
				got = append(got, strings.TrimSpace(strings.Join([]string{w.File + ":" + itoa(w.Line), w.Message}, " ")))
			}
			if len(got) != len(c.want) {
				t.Fatalf("warnings %q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("warning %q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}

func TestRenderWarnsOfLostPorts(t *testing.T) {
	dir := unpack(t, "commons")
	replace(t, dir, "compose.yml", "    networks: [proxy, internal]\n", "    networks: [proxy, internal]\n    ports: [\"4000\", \"4001\", \"53:53/udp\", \"53:53/tcp\", \"80:80\"]\n")
	s := render(t, open(t, dir), recipe.RenderOptions{})
	lost := 0
	for _, w := range s.Warnings {
		if strings.Contains(w.Message, "is lost when the files are merged") {
			lost++
		}
	}
	if ports := service(t, s, "app").Ports; lost != 5-len(ports) || lost != 2 {
		t.Errorf("%d warnings, %d of 5 ports left: %v", lost, len(ports), s.Warnings)
	}
}

func TestRenderForeignSecretIsNotMade(t *testing.T) {
	dir := unpack(t, "page")
	replace(t, dir, "compose.yml", "networks:\n  proxy:", "secrets:\n  s:\n    external: true\n    name: other_s_v1\nnetworks:\n  proxy:")
	replace(t, dir, "compose.yml", "    networks:\n", "    secrets: [s]\n    networks:\n")
	s := render(t, open(t, dir), recipe.RenderOptions{})
	if s.Secrets != nil || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0].Message, "not this app's") {
		t.Errorf("secrets %v, warnings %v", s.Secrets, s.Warnings)
	}
}

func TestRenderTwiceIsTheSame(t *testing.T) {
	tree := open(t, unpack(t, "commons"))
	o := recipe.RenderOptions{ChaosVersion: head.Short(), Labels: map[string]string{"cc-ci.run": "r"}}
	a, b := render(t, tree, o), render(t, tree, o)
	if diff := cmp.Diff(a.Config, b.Config); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(a.Warnings, b.Warnings); diff != "" {
		t.Error(diff)
	}
}

// Whatever stands in the files of a recipe: an error with a code or a stack, never a panic.
func FuzzRender(f *testing.F) {
	for _, name := range []string{"page", "commons"} {
		dir := unpack(f, name)
		compose, err := os.ReadFile(filepath.Join(dir, "compose.yml"))
		if err != nil {
			f.Fatal(err)
		}
		sample, err := os.ReadFile(filepath.Join(dir, ".env.sample"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(compose), string(sample))
	}
	f.Add("services: {a: {deploy: {labels: [x]}, volumes: [{type: volume}], ports: [1]}}\nsecrets: {a: {external: true}}\n", "A=1")
	f.Add("services: {a: null}\nnetworks: null\nconfigs: [a]\n", "")
	f.Fuzz(func(t *testing.T, compose, sample string) {
		dir := unpack(t, "commons")
		for name, text := range map[string]string{"compose.yml": compose, ".env.sample": sample} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		tree, err := recipe.Open(dir, head)
		if err != nil {
			return
		}
		s, err := tree.Render(recipe.RenderOptions{Domain: domain, Labels: map[string]string{"cc-ci.run": "r"}})
		if err != nil && ccci.CodeOf(err) == ccci.CodeInfra {
			t.Fatalf("a recipe's fault is blamed on the machine: %v", err)
		}
		if err == nil && (s.Env.Get("DOMAIN") != domain || s.Env.Get("STACK_NAME") != stack) {
			t.Fatalf("domain %q, stack %q", s.Env.Get("DOMAIN"), s.Env.Get("STACK_NAME"))
		}
		recipe.Lint(t.Context(), tree, tree, recipe.LintOptions{})
	})
}
