package ccci_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/recipe-maintainers/cc-ci"

// importRule says what a package of this module may import of it, and which
// other modules. The first rule whose pattern matches counts.
type importRule struct {
	pkg    string   // pattern of path.Match, relative to the module
	ours   []string // patterns of packages of this module
	others []string // prefixes of other modules; "*" for any
	why    string
}

var importRules = []importRule{
	{".", nil, nil,
		"the root package holds nouns and ports; whoever imports it must not get more than the standard library"},
	{"cmd/cc-ci", []string{"*"}, []string{"*"},
		"the only place that picks adapters"},
	{"bridge", []string{".", "internal/report", "internal/enrol", "internal/settings", "internal/censor"}, nil,
		"the bridge speaks through ports: no SDK, no adapter, neither dashboard nor harness"},
	{"bridge/hook", []string{".", "internal/quota"}, nil,
		"what is open to everybody knows nobody: it hands on a hint"},
	{"dashboard", []string{".", "internal/report", "internal/enrol", "internal/censor", "internal/plain", "internal/quota", "internal/runlog", "internal/forecast"}, []string{"github.com/yuin/goldmark"},
		"the dashboard reads ports and renders; it knows neither bridge nor harness nor any adapter"},
	{"harness/recipe", []string{".", "internal/gitcmd", "internal/scratch"}, []string{"github.com/docker/cli/cli/compose", "github.com/docker/go-connections", "github.com/docker/go-units", "golang.org/x/mod", "go.yaml.in/yaml", "golang.org/x/sys"},
		"the recipe format knows docker/cli's compose loader and nothing of the daemon"},
	{"harness/admission", []string{".", "harness/recipe", "internal/settings", "internal/traefik"}, []string{"github.com/docker/cli/cli/compose", "github.com/distribution/reference", "go.yaml.in/yaml", "golang.org/x/sys"},
		"admission judges the rendered model; it never talks to a daemon"},
	{"harness/checks", []string{"."}, nil,
		"steps reach the app through what the harness hands them"},
	{"harness", []string{".", "harness/recipe", "harness/admission", "harness/checks", "internal/censor", "internal/enrol", "internal/gitcmd", "internal/plain", "internal/process", "internal/repro"},
		[]string{"github.com/docker/cli/cli/compose/types", "github.com/docker/go-units", "github.com/gofrs/flock"},
		"the harness knows no forge, no database and no Docker client: those are behind its ports"},
	{"harness/recipetest", []string{"."}, nil,
		"what Go tests of an enrolment import stays small"},
	{"internal/*/*test", []string{".", "harness", "harness/recipe", "internal/deploy/deploytest/*"}, []string{"github.com/google/go-cmp", "github.com/docker/docker", "github.com/docker/cli/cli/compose"},
		"a conformance suite knows the port alone, so that it fits the next adapter"},
	{"internal/forge/*", []string{".", "internal/sqlitefile", "internal/gitcmd"}, []string{"*"}, adapterWhy},
	{"internal/engine/*", []string{".", "internal/process"}, []string{"*"}, adapterWhy},
	{"internal/store/*", []string{".", "internal/sqlitefile"}, []string{"*"}, adapterWhy},
	{"internal/bus/*", []string{"."}, []string{"*"}, adapterWhy},
	{"internal/blob/*", []string{"."}, []string{"*"}, adapterWhy},
	{"internal/deploy/*", []string{".", "harness", "harness/recipe", "internal/beneath"}, []string{"*"}, adapterWhy},
	{"internal/backup", []string{".", "harness", "harness/recipe", "internal/box"}, []string{"*"}, adapterWhy},
	{"internal/browser", []string{".", "harness/checks", "internal/host"}, []string{"*"}, adapterWhy},
	{"internal/ingress", []string{".", "harness/recipe", "internal/box", "internal/quota", "internal/traefik"}, []string{"*"}, adapterWhy},
	{"internal/reconcile", []string{".", "internal/host", "internal/dronelimits", "internal/firewall"}, []string{"github.com/docker/docker", "github.com/containerd/errdefs", "github.com/gofrs/flock", "go.yaml.in/yaml"}, "a unit is what its options say; the configuration is wired to it elsewhere"},
	{"internal/metrics", []string{".", "bridge"}, []string{"github.com/prometheus/client_golang"}, "figures are kept by whoever watches; nobody who is watched knows Prometheus"},
	{"internal/doctor", []string{".", "internal/config", "internal/dronelimits"}, []string{"github.com/docker/docker", "github.com/docker/go-units", "github.com/containerd/errdefs", "golang.org/x/sys"}, "the doctor looks from outside; what an adapter knows it says itself"},
	{"internal/dronelimits", []string{"."}, nil, "which settings limit Drone is a list; whoever makes and whoever checks them read the same one"},
	{"internal/health", []string{"."}, nil, "health is what others say of themselves"},
	{"internal/report", []string{".", "internal/plain"}, nil, "a report is a pure function of run and result"},
	{"internal/enrol", []string{".", "internal/settings"}, nil, "an enrolment is read, not acted on"},
	{"internal/config", []string{".", "internal/settings"}, []string{"github.com/docker/go-units"}, "configuration is read, not acted on; sizes are written as Docker reads them"},
	{"internal/settings", []string{"."}, []string{"go.yaml.in/yaml"}, "the strict reader knows no setting"},
	{"internal/gitcmd", []string{"."}, nil, "how git is run is the same everywhere, and knows nobody"},
	{"internal/repro", []string{".", "internal/censor", "internal/enrol", "internal/gitcmd", "internal/secretfile/leak"}, nil, "an archive is written and read; what is done with it is not known here"},
	{"internal/plain", nil, nil, "whether text is harmless depends on nothing else"},
	{"internal/censor", []string{".", "internal/plain"}, nil, "masking knows nobody; what a terminal hides it reads as terminals do"},
	{"internal/secretfile", []string{"."}, []string{"filippo.io/age", "filippo.io/edwards25519", "github.com/getsops/sops/v3/age", "go.yaml.in/yaml", "golang.org/x/crypto/ssh"}, "an encrypted file is read and written; what its values are for is not known here, and of sops all but its age keys would bring every cloud along"},
	{"internal/testserver/redis", []string{"internal/testserver/child"}, nil, "a test server is spoken to from outside, by plain requests"},
	{"internal/sweep", []string{".", "harness/recipe", "internal/gitcmd", "internal/report"}, nil, "the sweep speaks through ports, as the bridge does"},
	{"internal/secretfile/inventory", []string{"."}, nil, "which secrets the appliance needs is a list, and knows no file"},
	{"internal/secretfile/leak", []string{".", "internal/censor", "internal/gitcmd"}, nil, "whoever looks for leaks is told what to look for"},
	{"internal/testserver/peers", nil, []string{"github.com/gofrs/flock"}, "what builds test servers knows none of them"},
	{"internal/testserver/drone", []string{".", "internal/testserver/child", "internal/testserver/dockerd", "internal/testserver/gitea", "internal/testserver/peers"}, nil, "a test server is spoken to from outside, by plain requests"},
	{"internal/testserver/gitea", []string{"internal/testserver/child", "internal/testserver/peers"}, nil, "a test server is spoken to from outside, by plain requests"},
	{"internal/testserver/traefik", []string{"internal/testserver/peers", "internal/testserver/dockerd"}, nil, "a test server is spoken to from outside, by plain requests"},
	{"internal/testserver/attacker", []string{"internal/testserver/dockerd"}, nil, "an image of a test is made in the test's daemon"},
	{"internal/testserver/attacker/program", nil, nil, "it is compiled into an image alone"},
	{"internal/testserver/dockerd", []string{".", "internal/host", "internal/testserver/child"}, []string{"*"}, "a test server is started, and knows none of the others"},
	{"internal/beneath", []string{"."}, []string{"golang.org/x/sys"}, "what touches an app's files knows the kernel alone"},
	{"internal/host", []string{".", "internal/process"}, []string{"*"}, "what makes a machine ready knows nothing of what runs on it"},
	{"internal/forecast", []string{"."}, nil, "what is expected depends on runs alone; pages and terminal show it"},
	{"internal/runlog", []string{"."}, nil, "who reads a run's log has it from ports"},
	{"internal/traefik", nil, nil, "how Traefik reads a label is the same for who judges, who serves and who hands on"},
	{"internal/quota", nil, nil, "who holds how much depends on addresses alone"},
	{"internal/process", nil, nil, "which process it is depends on the kernel alone"},
	{"internal/box/emptied", nil, []string{"golang.org/x/sys"}, "it is compiled into a test's image as well"},
	{"internal/box", []string{".", "internal/beneath", "internal/box/emptied"}, []string{"*"}, "the helper image runs what touches an app's files"},
	{"internal/*", []string{".", "internal/box", "internal/host"}, []string{"*"}, "small things for the wiring"},
	{"internal/*/*", []string{".", "internal/*"}, []string{"*"}, "small things for the wiring"},
	{"internal/testserver/githubfake/extract", nil, nil, "it reads one file and writes another"},
	{"examples", []string{"."}, []string{"golang.org/x/mod"}, "files and how to lay them out"},
	{"tests", []string{"."}, nil, "files and how to lay them out"},
}

const adapterWhy = "an adapter knows its port and its one SDK, never another adapter"

func TestImportRules(t *testing.T) {
	imports := map[string]map[string]bool{} // package -> what its shipped files import
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || hasGoMod(file)) {
			return filepath.SkipDir
		}
		if filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(file))
		if imports[pkg] == nil {
			imports[pkg] = map[string]bool{}
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports[pkg][name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, names := range imports {
		if _, ok := names["main"]; ok {
			continue
		}
		i := slices.IndexFunc(importRules, func(r importRule) bool { return matches(r.pkg, pkg) })
		if i < 0 {
			t.Errorf("package %s has no import rule: say in importRules what it may know", pkg)
			continue
		}
		rule := importRules[i]
		for name := range names {
			if !rule.allows(name) {
				t.Errorf("%s imports %s, which it may not: %s", pkg, name, rule.why)
			}
		}
	}
}

func (r importRule) allows(name string) bool {
	if name == module || strings.HasPrefix(name, module+"/") {
		rel := strings.TrimPrefix(strings.TrimPrefix(name, module), "/")
		if rel == "" {
			rel = "."
		}
		return slices.ContainsFunc(r.ours, func(p string) bool { return p == "*" || matches(p, rel) })
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(r.others, func(p string) bool { return p == "*" || strings.HasPrefix(name, p) })
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	if err != nil {
		panic(err)
	}
	return ok
}

func hasGoMod(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
