package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// instance is one app of a run: that of the recipe under test, or one that it
// depends on. It is one app whatever version of the recipe it runs.
type instance struct {
	*Config
	recipe   string
	settings ccci.Recipe
	domain   string
	deps     map[string]string // what templates may know of the run's dependencies

	web     bool          // a version of it means to answer by HTTP
	current *recipe.Stack // what is deployed
	runner  *checks.Runner
	secrets map[string]ccci.Secret
}

// newInstance names an app; id tells it from every other one. The hosts of all apps of a run
// are what its steps reach.
func newInstance(c *Config, id ccci.RunID, recipe string, settings ccci.Recipe) *instance {
	in := &instance{Config: c, recipe: recipe, settings: settings, domain: id.AppName(recipe) + "." + c.CIDomain, deps: map[string]string{}}
	if c.reached == nil {
		c.reached = &checks.Hosts{}
	}
	c.reached.Add(in.hosts()...)
	return in
}

func (in *instance) stackName() string { return recipe.StackName(in.domain) }

// hosts lists the app's own host names.
func (in *instance) hosts() []string {
	hosts := []string{in.domain}
	for _, host := range in.extraHosts() {
		hosts = append(hosts, host)
	}
	return hosts
}

// extraHosts maps the names of extra domains to host names, one level under
// the CI domain so that the one wildcard certificate covers them.
func (in *instance) extraHosts() map[string]string {
	hosts := map[string]string{}
	for name := range in.settings.Domains {
		hosts[name] = name + "-" + in.domain
	}
	return hosts
}

// vars is what templates may name before anything is deployed.
func (in *instance) vars() checks.Vars {
	return checks.Vars{
		Domain: in.domain, Recipe: in.recipe, Domains: in.extraHosts(),
		Secrets: map[string]string{}, Vars: map[string]string{}, Deps: in.deps,
	}
}

// open reads a commit's files as this app's recipe.
func (in *instance) open(ctx context.Context, clone *checkout, name string, commit ccci.Commit) (*recipe.Tree, error) {
	dir, err := clone.tree(ctx, name, commit)
	if err != nil {
		return nil, err
	}
	tree, err := recipe.Open(dir, commit)
	if err != nil {
		return nil, err
	}
	tree.Recipe = in.recipe // what a pull request writes into its files names nothing
	return tree, nil
}

// render makes the model of one version for this app, and judges it.
func (in *instance) render(tree *recipe.Tree, envFile []byte, env map[string]string, overlays []string, chaos bool) (*recipe.Stack, error) {
	vars, err := in.vars().ExpandMap(env)
	if err != nil {
		return nil, err
	}
	o := recipe.RenderOptions{
		Domain: in.domain, Env: vars, EnvFile: envFile, ExtraDomains: map[string]string{},
		Overlays: overlays,
		Labels:   map[string]string{RunLabel: string(in.Job.RunID)},
	}
	if chaos {
		o.ChaosVersion = tree.Commit.Short()
	}
	hosts := in.extraHosts()
	for name, key := range in.settings.Domains {
		o.ExtraDomains[key] = hosts[name]
	}
	stack, err := admission.Admit(tree, o, admission.DefaultLimits(), admission.Policy{
		RunID: in.Job.RunID, Domains: in.hosts(), Waivers: in.settings.Waivers, Now: in.Now(), Network: in.Network, Entrypoints: in.Entrypoints,
	})
	if err != nil {
		return nil, err
	}
	in.web = in.web || servesWeb(stack)
	return stack, limitMemory(stack, in.settings.Limits.Memory)
}

// pull makes a version's images present.
func (in *instance) pull(ctx context.Context, stack *recipe.Stack) ([]ccci.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, in.settings.Timeouts.Pull)
	defer cancel()
	return in.Deployer.Pull(ctx, stack)
}

// makeSecrets gives a value to each secret that has none yet.
func (in *instance) makeSecrets(stack *recipe.Stack) error {
	if in.secrets == nil {
		in.secrets = map[string]ccci.Secret{}
	}
	for _, s := range stack.Secrets {
		if _, done := in.secrets[s.Key]; done {
			continue
		}
		secret, err := in.makeSecret(s)
		if err != nil {
			return err
		}
		in.secrets[s.Key] = secret
		in.runner.Vars.Secrets[s.Key] = secret.Reveal()
	}
	return nil
}

func (in *instance) makeSecret(s recipe.Secret) (ccci.Secret, error) {
	value, given := in.settings.Secrets[s.Key]
	if given {
		// A dummy, which everybody may read, unless a dependency made a part of it.
		text, err := in.runner.Vars.Expand(value)
		if err == nil && text != value {
			in.Censor.Add("secret "+s.Key, ccci.NewSecret(text))
		}
		return ccci.NewSecret(text), err
	}
	if !s.Generate {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeInvalid, "secret %s is not generated (generate=false) and recipe.yml gives it no value", s.Key).
			WithHint("add it under secrets: in tests/%s/recipe.yml, with a dummy value", in.recipe)
	}
	secret, err := recipe.GenerateSecret(s, in.Rand)
	if err == nil {
		in.Censor.Add("secret "+s.Key, secret)
	}
	return secret, err
}

// deploy brings the stack up, or the running app to it, and makes it reachable.
func (in *instance) deploy(ctx context.Context, stack *recipe.Stack) error {
	in.current = stack
	if err := in.Router.Route(ctx, stack); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, max(in.settings.Timeouts.Deploy, stack.Timeout))
	defer cancel()
	return in.Deployer.Deploy(ctx, stack)
}

// question is something to ask of an app, and what the answer is kept under.
type question struct {
	name string
	ask  func(context.Context) error
}

// readiness asks whether the app itself answers, when it routes something, and every further probe.
func (in *instance) readiness() []question {
	within := func(ask func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			limited, cancel := context.WithTimeout(ctx, in.settings.Timeouts.Healthy)
			defer cancel()
			err := ask(limited)
			var failure *checks.Failure
			if errors.As(err, &failure) && limited.Err() != nil && ctx.Err() == nil {
				return &checks.Failure{Message: fmt.Sprintf("the app did not become healthy within %s: %s", ccci.DurationWords(in.settings.Timeouts.Healthy), failure.Message), Detail: failure.Detail, Of: failure.Of,
					Hint: "read the log of the app for what it waits for; timeouts.healthy in recipe.yml is the limit, and health says what counts as an answer"}
			}
			return err
		}
	}
	var questions []question
	if in.web {
		questions = []question{{"serves", within(func(ctx context.Context) error { return in.runner.Healthy(ctx, in.settings.Health) })}}
	}
	for i, probe := range in.settings.Ready {
		name := probe.Name
		if name == "" {
			name = fmt.Sprintf("probe %d", i+1)
		}
		questions = append(questions, question{"ready-" + ccci.CheckWord(name), within(func(ctx context.Context) error { return in.runner.Ready(ctx, probe) })})
	}
	return questions
}

// inStep says in which step something went wrong.
func inStep(name string, err error) error {
	var failure *checks.Failure
	if errors.As(err, &failure) {
		return &checks.Failure{Message: fmt.Sprintf("step %q: %s", name, failure.Message), Detail: failure.Detail, Of: failure.Of, Hint: failure.Hint}
	}
	return fmt.Errorf("step %q: %w", name, err)
}

// makeRunner prepares the steps' view of the app.
func (in *instance) makeRunner() {
	target := checks.Target{
		Domain: in.domain, Domains: in.extraHosts(), Hosts: in.reached, HTTP: in.client(),
		Exec: func(ctx context.Context, service, user string, args []string, stdin []byte) (int, []byte, error) {
			r, err := in.Deployer.Exec(ctx, in.current, ExecCmd{Service: service, User: user, Args: args, Stdin: stdin})
			return r.ExitCode, append(r.Stdout, r.Stderr...), err
		},
		Dial: func(ctx context.Context, service string, port int) (io.ReadWriteCloser, error) {
			return in.Deployer.Dial(ctx, in.current, service, port)
		},
		Behind:   in.behind,
		Unrouted: func(host, path string) (why, hint string) { return in.Router.Unrouted(in.current, host, path) },
	}
	in.runner = &checks.Runner{Target: target, Limit: in.settings.Timeouts.Step, Vars: in.vars()}
}

// client speaks to the run's apps through the proxy and follows no redirect.
func (in *instance) client() *http.Client {
	return &http.Client{
		Transport:     in.reached.Within(in.Router.Transport()),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
