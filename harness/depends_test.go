package harness

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

// tellingDeployer says which app an operation is on.
type tellingDeployer struct{ worldDeployer }

func (d tellingDeployer) New(_ context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error {
	return d.did("new %s token=%s", stack.Name[:4], secrets["token"].Reveal())
}

func (d tellingDeployer) Deploy(_ context.Context, stack *recipe.Stack) error {
	d.stack, d.up = stack, true
	return d.did("deploy %s", stack.Name[:4])
}

func (d tellingDeployer) Remove(_ context.Context, app App) (map[string]int, error) {
	return map[string]int{"service": 1}, d.did("remove %s run=%s", app.StackName[:4], app.RunID)
}

// dependent is a run of the example that depends on two others: canary-good
// under another name, which begins with the same letters, and wiki.
func dependent(t *testing.T, w *world) (Config, map[string]ccci.Recipe) {
	t.Helper()
	repos := t.TempDir()
	for _, name := range []string{"canary-provider.git", "wiki"} {
		repo, err := examples.Materialise(t.TempDir(), "canary-good")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(repo, filepath.Join(repos, name)); err != nil {
			t.Fatal(err)
		}
	}
	repo, head := example(t)
	if err := os.Rename(repo, filepath.Join(repos, "canary-good.git")); err != nil {
		t.Fatal(err)
	}
	c := w.config(t, filepath.Join(repos, "canary-good.git"), head)
	c.Deployer = tellingDeployer{worldDeployer{world: w}}
	enrolled := map[string]ccci.Recipe{"canary-provider": enrol.Default("canary-provider"), "wiki": enrol.Default("wiki")}
	c.Enrolment = func(name string) (ccci.Recipe, error) {
		r, ok := enrolled[name]
		if !ok {
			return r, ccci.ErrNotFound
		}
		return r, nil
	}
	c.Settings.Depends = []ccci.Dependency{
		{Recipe: "canary-provider", Setup: []ccci.Step{{Name: "make a client", HTTP: &ccci.HTTPStep{
			Method: "GET", Path: "/client?for={{.App}}", Expect: ccci.HTTPExpect{Status: []int{200}, Contains: []string{"hello"}},
		}}}},
		{Recipe: "wiki", Source: filepath.Join(repos, "wiki"), Version: "0.1.0+1.0.0"},
	}
	c.Settings.Env = map[string]string{"ISSUER": `https://{{index .Deps "canary-provider.domain"}}`}
	c.Settings.Secrets = map[string]string{"token": `{{index .Deps "wiki.secret.token"}}`}
	return c, enrolled
}

func TestU10_DependenciesComeFirstAndGoLast(t *testing.T) {
	w := newWorld()
	c, _ := dependent(t, w)
	r := live(t, w, c, t.Context())
	if r.Status != ccci.StatusPassed || r.Deployments != 3 {
		t.Fatalf("%s, %d deployments, cause %+v", r.Status, r.Deployments, r.Cause)
	}
	wiki := "" // the secret that the dependency was given
	var order []string
	for _, event := range w.events {
		if name, token, ok := strings.Cut(event, " token="); ok {
			if strings.HasPrefix(name, "new wiki") {
				wiki = token
			} else if len(order) > 0 && wiki != "" && token != wiki {
				t.Errorf("%s got another secret than its dependency's", name)
			}
			order = append(order, name)
		} else if strings.HasPrefix(event, "deploy ") || strings.HasPrefix(event, "remove ") {
			order = append(order, event)
		}
	}
	want := []string{
		"new cana", "deploy cana", "new wiki", "deploy wiki", "new cana", "deploy cana", "deploy cana",
		"remove cana run=", "remove wiki run=", "remove cana run=", "remove cana run=261121-030405-abcdef",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(r.Dependencies) != 2 || r.Dependencies[0].Domain == r.Domain || r.Dependencies[1].Version != "0.1.0+1.0.0" || !r.Dependencies[1].Commit.Valid() {
		t.Errorf("%+v", r.Dependencies)
	}
	var names []string
	for _, check := range r.Stage(ccci.StageInstall).Checks {
		names = append(names, check.Name)
	}
	if i, j := slices.Index(names, "install/dep-canary-provider-setup"), slices.Index(names, "install/created"); i < 0 || j < i {
		t.Errorf("checks in the order %q", names)
	}
	text, err := os.ReadFile(filepath.Join(c.OutDir, "result.json"))
	if err != nil || wiki == "" || strings.Contains(string(text), wiki) {
		t.Errorf("the secret %q is in the result, or there is none (%v)", wiki, err)
	}
}

// A dependency that is not there is red, never a skip, and never the recipe's fault.
func TestU10_DependencyThatCannotBeHadTurnsTheRunRed(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Config, map[string]ccci.Recipe, *world)
		check string
		says  string
	}{
		"not enrolled": {func(_ *Config, e map[string]ccci.Recipe, _ *world) { delete(e, "wiki") }, "install/fetch", "dependency wiki: "},
		"has its own": {func(_ *Config, e map[string]ccci.Recipe, _ *world) {
			e["wiki"] = ccci.Recipe{Name: "wiki", Depends: []ccci.Dependency{{Recipe: "mail"}}}
		}, "install/fetch", "dependency wiki: it has dependencies of its own"},
		"no such repository": {func(c *Config, _ map[string]ccci.Recipe, _ *world) { c.Settings.Depends[1].Source = "/nowhere" }, "install/admitted", "dependency wiki: fetching from /nowhere"},
		"no such release":    {func(c *Config, _ map[string]ccci.Recipe, _ *world) { c.Settings.Depends[1].Version = "9.0.0+1" }, "install/admitted", `dependency wiki: the recipe has no release "9.0.0+1"`},
		"setup fails": {func(c *Config, _ map[string]ccci.Recipe, _ *world) {
			c.Settings.Depends[0].Setup[0].HTTP.Expect.Contains = []string{"a client"}
		}, "install/dep-canary-provider-setup", `dependency canary-provider: step "make a client"`},
		"does not converge": {func(_ *Config, _ map[string]ccci.Recipe, w *world) {
			w.fail("deploy wiki", &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "it never became healthy")})
		}, "install/dep-wiki-converged", "dependency wiki: it never became healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			config, enrolled := dependent(t, w)
			c.spoil(&config, enrolled, w)
			r := live(t, w, config, t.Context())
			if r.Status != ccci.StatusErrored || r.Cause == nil || r.Cause.Check != c.check || !strings.Contains(r.Cause.Message, c.says) {
				t.Errorf("%s, %+v", r.Status, r.Cause)
			}
			if r.Teardown == nil || !r.Teardown.Clean {
				t.Errorf("teardown: %+v", r.Teardown)
			}
			for _, s := range r.Stages[1:] {
				if s.Status != ccci.Unverified {
					t.Errorf("%s is %s", s.Name, s.Status)
				}
			}
		})
	}
}
