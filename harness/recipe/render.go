package recipe

import (
	"maps"
	"strings"

	"github.com/docker/cli/cli/compose/types"
)

// RenderOptions say for which app a tree is rendered.
type RenderOptions struct {
	Domain       string            // the run's own domain
	Env          map[string]string // overrides of the env file, appended last
	EnvFile      []byte            // an app's env file to use unchanged in place of .env.sample; nil: from the sample
	ExtraDomains map[string]string // env key -> host
	ChaosVersion string            // commit label value, 8 digits; "": a released version is deployed
	Overlays     []string          // absolute paths of compose files of ours, merged last
	Proxy        string            // the host's name of the network that recipes call proxy; "" is proxy
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
		Env: app.env, EnvFile: app.text, Sample: app.sample.Env, Labels: maps.Clone(o.Labels), Warnings: app.warnings,
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
	s.joinProxy(o.Proxy)
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

// proxyNetwork is the external network towards the proxy, as every recipe calls it.
const proxyNetwork = "proxy"

// joinProxy gives the network towards the proxy, and labels that name it, the host's name.
func (s *Stack) joinProxy(name string) {
	if name == "" || name == proxyNetwork {
		return
	}
	joined := false
	for key, n := range s.Config.Networks {
		if n.External.External && n.Name == proxyNetwork {
			n.Name, joined = name, true
			s.Config.Networks[key] = n
		}
	}
	for _, service := range s.Config.Services {
		for key, value := range service.Deploy.Labels {
			switch strings.ToLower(key) { // as Traefik reads keys
			case "traefik.docker.network", "traefik.swarm.network":
				if joined && strings.TrimSpace(value) == proxyNetwork {
					service.Deploy.Labels[key] = name
				}
			}
		}
	}
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
