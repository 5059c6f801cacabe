package recipe

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/compose/schema"
	"github.com/docker/cli/cli/compose/types"
)

var (
	variablePattern = regexp.MustCompile(`\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)[^}]*\}|([A-Za-z_][A-Za-z0-9_]*))`)
	// nestedDefault is a substitution within a substitution's default: the loader ends the outer
	// one at the first closing brace.
	nestedDefault  = regexp.MustCompile(`(?:^|[^$])(?:\$\$)*\$\{[A-Za-z_][A-Za-z0-9_]*:?[-?][^}]*\$\{[^}]*\}`)
	windowsVolume  = regexp.MustCompile(`^[A-Za-z]:[/\\]`)
	externalObject = []string{"networks", "volumes", "secrets", "configs"}
)

// variablesIn lists the variables that a compose text refers to, in order.
func variablesIn(text string) []string {
	var out []string
	for _, m := range variablePattern.FindAllStringSubmatch(text, -1) {
		if name := m[1] + m[2]; name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// warnings says aloud what docker's loader and the conversion to a swarm service drop,
// misread or leave literal without a word, and what abra refuses where docker does not.
func warnings(files []*composeFile, single []*types.Config, s *Stack) []Warning {
	var out []Warning
	for _, f := range files {
		out = append(out, f.droppedProperties()...)
		out = append(out, f.misreadTexts()...)
		out = append(out, f.oldExternals()...)
		for _, p := range f.abraRefusals() {
			out = append(out, Warning{f.name, p.line, p.message})
		}
	}
	out = append(out, collapsedPorts(files, single, s.Config)...)
	out = out[:min(len(out), maxWarnings)]
	if s.app() == nil {
		out = append(out, Warning{File: composeName, Message: "no service is named app: abra's labels and the env file reach none"})
	}
	return out
}

// dropped is what a service may state and swarm does not do, with the way out.
var dropped = map[string]string{
	"tmpfs":          "it is dropped without a word; write a volume of type tmpfs",
	"build":          "images are pulled, never built, by a stack",
	"restart":        "it counts only without deploy.restart_policy; write that instead",
	"cgroupns_mode":  "a swarm service has no such setting",
	"cgroup_parent":  "a swarm service has no such setting",
	"devices":        "a swarm service gets no devices",
	"domainname":     "a swarm service has no such setting",
	"external_links": "services find each other by name in a network",
	"ipc":            "a swarm service has no such setting",
	"links":          "services find each other by name in a network",
	"mac_address":    "a swarm service has no such setting",
	"network_mode":   "a swarm service joins networks; list them under networks",
	"pid":            "a swarm service has no such setting",
	"privileged":     "a swarm service is never privileged",
	"security_opt":   "a swarm service has no such setting",
	"shm_size":       "mount a volume of type tmpfs at /dev/shm",
	"userns_mode":    "a swarm service has no such setting",
	"container_name": "swarm names containers itself",
	"expose":         "services in one network reach each other on any port",
	"depends_on":     "swarm starts services in no order; let the entrypoint wait",
}

// Dropped reports whether swarm ignores a key of a service, and says why or what to write in its place.
func Dropped(key string) (why string, ok bool) {
	why, ok = dropped[key]
	return why, ok
}

func (f *composeFile) droppedProperties() []Warning {
	var out []Warning
	services := f.section("services")
	for _, name := range sortedKeys(services) {
		service, _ := services[name].(map[string]any)
		for _, key := range sortedKeys(service) {
			reason, ok := dropped[key]
			if !ok {
				continue
			}
			if key == "restart" && f.section("services", name, "deploy", "restart_policy") == nil {
				continue // docker reads it then
			}
			out = append(out, Warning{f.name, f.line("services", name, key),
				fmt.Sprintf("service %s: %s has no effect on a swarm: %s", shorten(name), key, reason)})
		}
	}
	return out
}

// misreadTexts finds texts that mean something else than they say.
func (f *composeFile) misreadTexts() []Warning {
	var out []Warning
	walkTexts(f.dict, nil, func(path []string, text string) {
		if m := nestedDefault.FindString(text); m != "" {
			out = append(out, Warning{f.name, f.line(path...),
				fmt.Sprintf("%s: docker does not resolve a variable within a default (%q): the inner one stays as text", shortPath(path), shorten(m))})
		}
		if len(path) < 4 || path[0] != "services" || path[2] != "volumes" {
			return
		}
		where := f.line(path...)
		long := len(path) > 4
		switch {
		case !long && windowsVolume.MatchString(text):
			out = append(out, Warning{f.name, where,
				fmt.Sprintf("service %s: the volume %q is read as a Windows path, and becomes an anonymous volume; a name needs two letters", shorten(path[1]), shorten(text))})
		case strings.HasPrefix(text, "~") && (!long || path[4] == "source"):
			out = append(out, Warning{f.name, where,
				fmt.Sprintf("service %s: ~ in %q is not a home directory here; write an absolute path or a volume", shorten(path[1]), shorten(text))})
		}
	})
	return out
}

// shortPath is a path as messages name it.
func shortPath(path []string) string {
	short := make([]string, 0, len(path))
	for _, key := range path {
		short = append(short, shorten(key))
	}
	return strings.Join(short, ".")
}

// walkTexts visits every string value with its path; items of lists have their index.
func walkTexts(node any, path []string, visit func(path []string, text string)) {
	switch node := node.(type) {
	case string:
		visit(path, node)
	case map[string]any:
		for _, key := range sortedKeys(node) {
			walkTexts(node[key], append(slices.Clip(path), key), visit)
		}
	case []any:
		for i, item := range node {
			walkTexts(item, append(slices.Clip(path), strconv.Itoa(i)), visit)
		}
	}
}

func (f *composeFile) oldExternals() []Warning {
	var out []Warning
	for _, section := range externalObject {
		objects := f.section(section)
		for _, key := range sortedKeys(objects) {
			object, _ := objects[key].(map[string]any)
			external, _ := object["external"].(map[string]any)
			if external["name"] != nil {
				out = append(out, Warning{f.name, f.line(section, key, "external"),
					fmt.Sprintf("%s.%s: external.name is deprecated; write external: true and name: beside it", section, shorten(key))})
			}
		}
	}
	return out
}

type refusal struct {
	path    []string
	line    int
	message string
}

// abraRefusals validates the file before interpolation, as abra does: a variable in a field
// that is a duration or a number deploys with docker and not with abra. Each finding is
// taken out of a copy until the rest is valid, or maxAbraRefusals are found: each costs a
// validation of the whole file.
func (f *composeFile) abraRefusals() []refusal {
	var out []refusal
	rest, _ := deepCopy(f.dict).(map[string]any)
	dropTexts(rest)
	for range maxAbraRefusals {
		err := validateRaw(rest, f.version())
		if err == nil {
			return out
		}
		m := schemaPath.FindStringSubmatch(err.Error())
		if m == nil {
			return out
		}
		path := strings.Split(m[1], ".")
		text, ok := lookupPath(rest, path).(string)
		if !ok || len(variablesIn(text)) == 0 || !removePath(rest, path) {
			return out // not about a variable; the loader itself reports it
		}
		out = append(out, refusal{path, f.line(path...),
			fmt.Sprintf("%s is %q: abra checks the file before it fills in variables, and refuses this one (%s); write the value itself", shortPath(path), shorten(text), m[2])})
	}
	return out
}

const maxAbraRefusals = 20

// dropTexts takes out of services what takes any text, variables included, and is most of
// a file: validating it again and again is of no use.
func dropTexts(dict map[string]any) {
	services, _ := dict["services"].(map[string]any)
	for _, service := range services {
		service, _ := service.(map[string]any)
		for _, key := range []string{"environment", "labels", "command", "entrypoint", "extra_hosts"} {
			delete(service, key)
		}
		for _, key := range []string{"volumes", "configs", "secrets"} {
			if items, ok := service[key].([]any); ok {
				service[key] = slices.DeleteFunc(items, func(item any) bool { _, text := item.(string); return text })
			}
		}
		if deploy, ok := service["deploy"].(map[string]any); ok {
			delete(deploy, "labels")
		}
	}
	for key := range dict {
		if strings.HasPrefix(key, "x-") {
			delete(dict, key)
		}
	}
}

func validateRaw(dict map[string]any, version string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the schema cannot be applied")
		}
	}()
	return schema.Validate(dict, version)
}

func deepCopy(node any) any {
	switch node := node.(type) {
	case map[string]any:
		out := make(map[string]any, len(node))
		for key, value := range node {
			out[key] = deepCopy(value)
		}
		return out
	case []any:
		out := make([]any, len(node))
		for i, value := range node {
			out[i] = deepCopy(value)
		}
		return out
	}
	return node
}

func lookupPath(node any, path []string) any {
	for _, key := range path {
		switch at := node.(type) {
		case map[string]any:
			node = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				return nil
			}
			node = at[i]
		default:
			return nil
		}
	}
	return node
}

// removePath takes a value out; an item of a list takes its list along.
func removePath(dict map[string]any, path []string) bool {
	for n := len(path) - 1; n >= 0; n-- {
		if parent, ok := lookupPath(dict, path[:n]).(map[string]any); ok {
			delete(parent, path[n])
			return true
		}
	}
	return false
}

// collapsedPorts finds ports that a merge lost: the loader keeps one for each published
// number, so that several without a number, or one number as tcp and udp, become one.
func collapsedPorts(files []*composeFile, single []*types.Config, merged *types.Config) []Warning {
	if len(single) < 2 {
		return nil
	}
	kept := map[string][]types.ServicePortConfig{}
	for _, service := range merged.Services {
		kept[service.Name] = service.Ports
	}
	var out []Warning
	for i, config := range single {
		for _, service := range config.Services {
			for _, port := range service.Ports {
				siblings := 0
				for _, other := range service.Ports {
					siblings += boolInt(other.Published == port.Published)
				}
				lost := !slices.ContainsFunc(kept[service.Name], func(k types.ServicePortConfig) bool {
					return k.Target == port.Target && k.Protocol == port.Protocol
				})
				if siblings > 1 && lost {
					out = append(out, Warning{files[i].name, files[i].line("services", service.Name, "ports"),
						fmt.Sprintf("service %s: the port %d/%s is lost when the files are merged, as another one has the same published number (%d)",
							shorten(service.Name), port.Target, port.Protocol, port.Published)})
				}
			}
		}
	}
	return out
}
