package recipe

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

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
	s.ConfigData, s.SecretData, s.ConfigVersion = map[string][]byte{}, map[string][]byte{}, map[string]string{}
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
		for _, variable := range variablesIn(rawName(files, "configs", key)) {
			if variable != "STACK_NAME" {
				s.ConfigVersion[key] = variable
			}
		}
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

// Replicas is how many tasks a service asks for. A global one counts as that of a single node.
func Replicas(s types.ServiceConfig) uint64 {
	if s.Deploy.Replicas == nil {
		return 1
	}
	return *s.Deploy.Replicas
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
