package admission

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// publicRecipes is a folder of real recipes, which belong to others and are not kept here: that of
// CC_CI_RECIPES, else shared/recipes beside this checkout or further up. Its README.md says from which
// repository and commit each is.
func publicRecipes(t *testing.T) string {
	t.Helper()
	if root := os.Getenv("CC_CI_RECIPES"); root != "" {
		return root
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		root := filepath.Join(dir, "shared", "recipes")
		if _, err := os.Stat(root); err == nil {
			return root
		}
	}
	const missing = "the public recipes are neither at CC_CI_RECIPES nor at shared/recipes beside this checkout"
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// publicOutcomes says of each public recipe, with the compose files that its .env.sample chooses, what
// is refused, with its place and rule. Of a recipe without a line nothing is.
var publicOutcomes = map[string][]string{
	"abramon":         {".env.sample:29 control-variable", "compose.yml:29 bind-mount", "compose.yml:58 docker-socket"},
	"agora":           {"compose.yml:12 published-port"},
	"bonfire-1.0.0":   nil,
	"bonfire-main":    nil,
	"custom-php":      nil,
	"foodsharing-cms": nil,
	"go-ssb-room":     {"compose.yml:23 foreign-host"}, // see TestN3_AFurtherEntrypointServesEveryHost
	"llamenos":        nil,
	"traefik-v2.4.8": {
		"compose.yml:12 docker-socket", "compose.yml:38 label-namespace", "compose.yml:36 label-namespace", "compose.yml:10 published-port",
		"compose.yml:9 published-port", "compose.yml:41 traefik-label", "compose.yml:36 traefik-label",
	},
	"pairs/bonfire-2.0.0-to-2.0.1/base":          nil,
	"pairs/bonfire-2.0.0-to-2.0.1/head":          nil,
	"pairs/bonfire-config-moved-to-overlay/base": nil,
	"pairs/bonfire-config-moved-to-overlay/head": nil,
	"pairs/bonfire-labels-moved-to-deploy/base":  nil,
	"pairs/bonfire-labels-moved-to-deploy/head":  nil,
	"pairs/bonfire-secret-version-lowered/base":  {"compose.yml:53 published-port"},
	"pairs/bonfire-secret-version-lowered/head":  {"compose.yml:53 published-port"},
}

// outcome reads place and rule of what an error refuses.
var outcome = regexp.MustCompile(`(?m)^(\S+:\d+): .*\(rule ([a-z-]+)\)$`)

// Every public recipe is admitted, or refused with file, line, rule and the waivers that admit it.
func TestN3_OutcomesOfPublicRecipes(t *testing.T) {
	root := publicRecipes(t)
	var seen []string
	for _, pattern := range []string{"*/compose.yml", "pairs/*/*/compose.yml"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			dir := filepath.Dir(file)
			name, err := filepath.Rel(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, name)
			want, known := publicOutcomes[name]
			if !known {
				t.Errorf("%s has no outcome in the table", name)
				continue
			}
			p := testPolicy()
			_, err = admitDir(dir, p)
			if err != nil && ccci.CodeOf(err) != ccci.CodeRefused {
				t.Errorf("%s is not judged: %v", name, err)
				continue
			}
			if err == nil {
				if want != nil {
					t.Errorf("%s is admitted, want %q", name, want)
				}
				continue
			}
			var got []string
			for _, m := range outcome.FindAllStringSubmatch(err.Error(), -1) {
				got = append(got, m[1]+" "+m[2])
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
			p.Waivers = entries(t, err.Error())
			if len(p.Waivers) != len(want) {
				t.Errorf("%s: %d waivers to paste for %d refusals", name, len(p.Waivers), len(want))
			}
			if _, err := admitDir(dir, p); err != nil {
				t.Errorf("%s is refused with every waiver pasted: %v", name, err)
			}
		}
	}
	for name := range publicOutcomes {
		if !slices.Contains(seen, name) {
			t.Errorf("%s is not there", name)
		}
	}
}

// With each of its overlays alone, a public recipe is admitted or refused as without it.
func TestN3_OverlaysOfPublicRecipes(t *testing.T) {
	root := publicRecipes(t)
	seen := 0
	for _, pattern := range []string{"*/compose.*.yml", "pairs/*/*/compose.*.yml"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			dir, base := filepath.Split(file)
			name, err := filepath.Rel(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			t.Run(name+"/"+base, func(t *testing.T) {
				t.Parallel()
				r := testRender()
				r.Env = map[string]string{"COMPOSE_FILE": "compose.yml:" + base}
				_, err := admitWith(dir, r, testPolicy())
				switch {
				case err != nil && ccci.CodeOf(err) != ccci.CodeRefused:
					// An overlay that needs another one, or a version of a secret.
				case (err == nil) != (publicOutcomes[name] == nil):
					t.Errorf("%v, want %q", err, publicOutcomes[name])
				}
			})
		}
	}
	if seen < 60 {
		t.Errorf("%d overlays of public recipes, want at least 60", seen)
	}
}

func TestN3_AFurtherEntrypointServesEveryHost(t *testing.T) {
	dir := filepath.Join(publicRecipes(t), "go-ssb-room")
	p := testPolicy()
	p.Entrypoints = []string{"ssb-muxrpc"}
	stack, err := admitDir(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(stack.Warnings, func(w recipe.Warning) bool { return strings.Contains(w.Message, "default certificate") && w.Line > 0 }) {
		t.Errorf("nothing says that the certificate does not cover names below the app's: %v", stack.Warnings)
	}
}
