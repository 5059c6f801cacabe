package recipe

import (
	"bytes"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// RenderOptions say for which app a tree is rendered.
type RenderOptions struct {
	Domain       string            // the run's own domain
	Env          map[string]string // overrides of the env file, appended last
	EnvFile      []byte            // an app's env file to use unchanged in place of .env.sample; nil: from the sample
	ExtraDomains map[string]string // env key -> host
	ChaosVersion string            // commit label value, 8 digits; "": a released version is deployed
	Overlays     []string          // absolute paths of compose files of ours, merged last
	Labels       map[string]string // added to services, containers, networks, volumes, configs and secrets
}

// Render makes the model of one app: what abra would hand to docker stack deploy.
// It creates nothing. Whatever would be refused half-way through a deployment for its name or
// its files is refused here.
func (t *Tree) Render(o RenderOptions) (*Stack, error) {
	app, err := t.appEnv(o)
	if err != nil {
		return nil, err
	}
	s := &Stack{
		Name: StackName(o.Domain), Domain: o.Domain, Recipe: t.Recipe, Commit: t.Commit, Dir: t.Dir,
		Env: app.env, EnvFile: app.text, Labels: maps.Clone(o.Labels), Warnings: app.warnings,
	}
	if s.Files, err = t.ComposeFiles(app.file.Env); err != nil {
		return nil, err
	}
	files, err := t.composeSet(s.Files, o.Overlays)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := t.checkReferences(f, s.Env.Lookup); err != nil {
			return nil, err
		}
	}
	var single []*types.Config
	if s.Config, single, err = load(files, t.Dir, s.Env.Map()); err != nil {
		return nil, err
	}
	if err := checkDeclared(files, s.Config); err != nil {
		return nil, err
	}
	s.Warnings = append(s.Warnings, warnings(files, single, s)...)

	setNames(s)
	if err := readPayloads(s, files); err != nil {
		return nil, err
	}
	if err := deriveSecrets(s, files, app); err != nil {
		return nil, err
	}
	if err := checkNames(s); err != nil {
		return nil, err
	}
	s.setAppLabels(o.ChaosVersion)
	s.injectEnv()
	s.setLabels()
	s.setTimeout()
	return s, nil
}

// composeSet parses the files of the tree, then our overlays.
func (t *Tree) composeSet(names, overlays []string) ([]*composeFile, error) {
	var files []*composeFile
	for _, name := range names {
		f, err := t.composeFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	for _, path := range overlays {
		f, err := overlayFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, checkVersions(files, len(names))
}

// appEnv is the environment of one app on its way into a stack.
type appEnv struct {
	text     []byte   // the env file
	file     *EnvFile // the same, parsed
	sample   *EnvFile // .env.sample as it is
	env      Env      // the env file, then abra.sh, then what is forced
	warnings []Warning
}

// AppEnv returns the variables that Render would use, so that the compose files of a
// rendering can be found before it.
func (t *Tree) AppEnv(o RenderOptions) (Env, error) {
	app, err := t.appEnv(o)
	if err != nil {
		return Env{}, err
	}
	return app.env, nil
}

func (t *Tree) appEnv(o RenderOptions) (*appEnv, error) {
	if err := checkDomain(o.Domain); err != nil {
		return nil, err
	}
	sample, err := t.sample()
	if err != nil {
		return nil, err
	}
	name, text := sampleName, o.EnvFile
	if text == nil {
		raw, err := t.ReadFile(sampleName, maxEnvText)
		if err != nil {
			return nil, err
		}
		text = bytes.ReplaceAll(raw, []byte(t.Recipe+".example.com"), []byte(o.Domain))
	} else {
		name = "the app's env file"
	}
	app := &appEnv{sample: sample}
	if app.file, err = ParseEnv(name, text); err != nil {
		return nil, err
	}
	app.text = appendOverrides(text, app.file.Env, o)
	if app.file, err = ParseEnv(name, app.text); err != nil {
		return nil, err
	}
	app.warnings = app.file.Warnings
	for _, key := range []string{"POST_DEPLOY_CMDS", "POST_UPGRADE_CMDS", "POST_UNDEPLOY_CMDS"} {
		if app.file.Get(key) != "" {
			app.warnings = append(app.warnings, Warning{name, app.file.Lines[key], key + " is not run here; abra runs it for operators"})
		}
	}

	abra, lines, abraWarnings, err := t.abra()
	if err != nil {
		return nil, err
	}
	app.warnings = append(app.warnings, abraWarnings...)
	app.env = app.file.Env.Clone()
	forced := forcedEnv(o)
	for _, key := range abra.keys {
		if want, ok := forced[key]; ok && abra.Get(key) != want {
			app.warnings = append(app.warnings, Warning{abraName, lines[key], "the export of " + key + " is not used: the run sets it"})
			continue
		}
		app.env.Set(key, abra.Get(key))
	}
	if stated, ok := app.file.Lookup("STACK_NAME"); ok && stated != StackName(o.Domain) {
		app.warnings = append(app.warnings, Warning{name, app.file.Lines["STACK_NAME"], "STACK_NAME is not used: the run derives it from its domain"})
	}
	app.env.Set("STACK_NAME", StackName(o.Domain))
	return app, nil
}

// forcedEnv is what a run decides, whatever the recipe says: where the app lives, and
// that nobody asks an ACME server for certificates (the proxy has a wildcard).
func forcedEnv(o RenderOptions) map[string]string {
	forced := map[string]string{"DOMAIN": o.Domain, "LETS_ENCRYPT_ENV": "", "STACK_NAME": StackName(o.Domain)}
	maps.Copy(forced, o.ExtraDomains)
	return forced
}

// appendOverrides adds lines for what differs. An env file in which nothing
// differs stays as it is, byte for byte.
func appendOverrides(text []byte, env Env, o RenderOptions) []byte {
	wanted := maps.Clone(o.Env)
	if wanted == nil {
		wanted = map[string]string{}
	}
	maps.Copy(wanted, forcedEnv(o))
	delete(wanted, "STACK_NAME") // abra derives it too; it is not in env files
	var lines bytes.Buffer
	for _, key := range sortedKeys(wanted) {
		if have, ok := env.Lookup(key); !ok || have != wanted[key] {
			lines.WriteString(envLine(key, wanted[key]))
		}
	}
	if lines.Len() == 0 {
		return text
	}
	out := bytes.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, lines.Bytes()...)
}

// setNames writes out the names that docker would derive, and the default network.
func setNames(s *Stack) {
	scoped := func(name, key string) string {
		if name != "" {
			return name
		}
		return s.Name + "_" + key
	}
	for i := range s.Config.Services {
		service := &s.Config.Services[i]
		if len(service.Networks) == 0 {
			service.Networks = map[string]*types.ServiceNetworkConfig{"default": nil}
		}
		if _, ok := service.Networks["default"]; !ok {
			continue
		}
		if s.Config.Networks == nil {
			s.Config.Networks = map[string]types.NetworkConfig{}
		}
		if _, ok := s.Config.Networks["default"]; !ok {
			s.Config.Networks["default"] = types.NetworkConfig{}
		}
	}
	for key, object := range s.Config.Networks {
		object.Name = scoped(object.Name, key)
		s.Config.Networks[key] = object
	}
	for key, object := range s.Config.Volumes {
		object.Name = scoped(object.Name, key)
		s.Config.Volumes[key] = object
	}
	for key, object := range s.Config.Configs {
		object.Name = scoped(object.Name, key)
		s.Config.Configs[key] = object
	}
	for key, object := range s.Config.Secrets {
		object.Name = scoped(object.Name, key)
		s.Config.Secrets[key] = object
	}
}

// readPayloads reads the files of configs and secrets once, so that what is
// judged and what is deployed are the same bytes.
func readPayloads(s *Stack, files []*composeFile) error {
	s.ConfigData, s.SecretData = map[string][]byte{}, map[string][]byte{}
	read := func(section, key, path string, limit int64) ([]byte, error) {
		var err error
		for i := len(files) - 1; i >= 0; i-- { // the tree, or the overlay that it came from
			var text []byte
			if text, err = files[i].read(path, limit); err == nil {
				return text, nil
			}
		}
		file, line := findLine(files, section, key, "file")
		return nil, ccci.Errorf(ccci.CodeOf(err), "%s: %s %s: %w", at(file, line), strings.TrimSuffix(section, "s"), key, err)
	}
	for _, key := range sortedKeys(s.Config.Configs) {
		object := s.Config.Configs[key]
		if object.External.External || object.File == "" {
			continue
		}
		text, err := read("configs", key, object.File, maxConfigFile)
		if err != nil {
			return err
		}
		s.ConfigData[key] = text
	}
	for _, key := range sortedKeys(s.Config.Secrets) {
		object := s.Config.Secrets[key]
		if object.External.External || object.File == "" {
			continue
		}
		text, err := read("secrets", key, object.File, maxSecretFile)
		if err != nil {
			return err
		}
		s.SecretData[key] = text
	}
	return nil
}

// app returns the service that abra labels and feeds, or nil.
func (s *Stack) app() *types.ServiceConfig {
	for i := range s.Config.Services {
		if s.Config.Services[i].Name == "app" {
			return &s.Config.Services[i]
		}
	}
	return nil
}

// LabelName is the full name of one of abra's labels, as "version" or "chaos-version".
func (s *Stack) LabelName(name string) string { return "coop-cloud." + s.Name + "." + name }

// setAppLabels adds what abra adds at deploy time.
func (s *Stack) setAppLabels(chaos string) {
	app := s.app()
	if app == nil {
		return
	}
	if app.Deploy.Labels == nil {
		app.Deploy.Labels = types.Labels{}
	}
	labels := app.Deploy.Labels
	s.Version = labels[s.LabelName("version")]
	if s.Version == "" {
		s.Version = labels[s.LabelName("app.version")]
	}
	labels[s.LabelName("recipe")] = s.Recipe
	labels[s.LabelName("chaos")] = strconv.FormatBool(chaos != "")
	if chaos != "" {
		labels[s.LabelName("chaos-version")] = chaos
	}
}

// injectEnv gives the service app every variable that it does not set itself, as
// abra does; templates of configs rely on it.
func (s *Stack) injectEnv() {
	app := s.app()
	if app == nil {
		return
	}
	if app.Environment == nil {
		app.Environment = types.MappingWithEquals{}
	}
	for key, value := range s.Env.Map() {
		if _, ok := app.Environment[key]; !ok {
			app.Environment[key] = &value
		}
	}
}

// setLabels marks every object that is made for this stack.
func (s *Stack) setLabels() {
	mark := func(labels types.Labels) types.Labels {
		if len(s.Labels) == 0 {
			return labels
		}
		if labels == nil {
			labels = types.Labels{}
		}
		maps.Copy(labels, s.Labels)
		return labels
	}
	for i := range s.Config.Services {
		service := &s.Config.Services[i]
		service.Labels = mark(service.Labels)
		service.Deploy.Labels = mark(service.Deploy.Labels)
	}
	for key, object := range s.Config.Networks {
		if !object.External.External {
			object.Labels = mark(object.Labels)
			s.Config.Networks[key] = object
		}
	}
	for key, object := range s.Config.Volumes {
		if !object.External.External {
			object.Labels = mark(object.Labels)
			s.Config.Volumes[key] = object
		}
	}
	for key, object := range s.Config.Configs {
		if !object.External.External {
			object.Labels = mark(object.Labels)
			s.Config.Configs[key] = object
		}
	}
	for key, object := range s.Config.Secrets {
		if !object.External.External {
			object.Labels = mark(object.Labels)
			s.Config.Secrets[key] = object
		}
	}
}

// maxTimeout bounds what a recipe may ask for.
const maxTimeout = 2 * time.Hour

func (s *Stack) setTimeout() {
	for _, service := range s.Config.Services {
		text, ok := service.Deploy.Labels[s.LabelName("timeout")]
		if !ok || text == "" {
			continue
		}
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds <= 0 || time.Duration(seconds) > maxTimeout/time.Second {
			s.Warnings = append(s.Warnings, Warning{File: composeName,
				Message: fmt.Sprintf("the timeout label of service %s is %q; it must be 1 to %d seconds and is ignored", service.Name, shorten(text), maxTimeout/time.Second)})
			continue
		}
		s.Timeout = max(s.Timeout, time.Duration(seconds)*time.Second)
	}
}
