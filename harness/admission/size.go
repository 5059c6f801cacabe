package admission

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/docker/cli/cli/compose/template"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Bounds of a stack. The largest known recipe has a third of each.
const (
	maxServices   = 50
	maxTasks      = 60 // replicas of all services together
	maxVolumes    = 100
	maxNetworks   = 20
	maxConfigs    = 100
	maxSecrets    = 100
	maxLabels     = 300       // of one service, those of its containers included
	maxLabelBytes = 64 << 10  // of one service, keys and values
	maxEnvBytes   = 128 << 10 // of one service, keys and values
	maxEnvSum     = 1 << 20   // of all services
	maxWords      = 1000      // of command, entrypoint and healthcheck of one service
	maxFileSum    = 8 << 20   // bytes of all files of configs and secrets
	maxFileMemory = 32 << 20  // bytes of configs and secrets in the containers of all tasks
	maxEnvFileSum = 1 << 20   // bytes of all files of env_file, counted as often as they are named
	maxRouters    = 100
)

var maxObjects = map[string]int{
	"services": maxServices, "volumes": maxVolumes, "networks": maxNetworks, "configs": maxConfigs, "secrets": maxSecrets,
}

// sections are the names that the files of a stack declare, by section. They are
// counted before the stack is rendered, as rendering thousands of services takes minutes.
type sections map[string]map[string]bool

func (s sections) add(file string, doc *yaml.Node) error {
	for _, section := range sorted(maxObjects) {
		node := child(doc, section)
		if s[section] == nil {
			s[section] = map[string]bool{}
		}
		for _, p := range pairs(node) {
			s[section][p[0].Value] = true
		}
		if n, most := len(s[section]), maxObjects[section]; n > most {
			return ccci.Errorf(ccci.CodeRefused, "%s:%d: the stack has %d %s, and may have %d (rule %s)", file, follow(node).Line, n, section, most, ruleSize).
				WithHint("test a smaller set of overlays: COMPOSE_FILE in .env.sample chooses them")
		}
	}
	return nil
}

// referred sums up the files that compose files refer to, which rendering reads.
type referred struct {
	root   *os.Root
	dir    string
	lookup func(string) (string, bool)
	env    int64
	files  int64
}

func (r *referred) add(name string, doc *yaml.Node) error {
	for _, p := range pairs(child(doc, "services")) {
		for _, item := range items(child(p[1], "env_file")) {
			r.env += r.size(item)
		}
	}
	for _, section := range []string{"configs", "secrets"} {
		for _, p := range pairs(child(doc, section)) {
			r.files += r.size(child(p[1], "file"))
		}
	}
	switch {
	case r.env > maxEnvFileSum:
		return ccci.Errorf(ccci.CodeRefused, "%s: the files of env_file have more than %d KiB together (rule %s)", name, maxEnvFileSum>>10, ruleSize)
	case r.files > maxFileSum:
		return ccci.Errorf(ccci.CodeRefused, "%s: the files of configs and secrets have more than %d KiB together (rule %s)", name, maxFileSum>>10, ruleSize)
	}
	return nil
}

// size is that of the file that a value names; 0 when it is not there, which rendering
// reports, or lies elsewhere, which is refused.
func (r *referred) size(n *yaml.Node) int64 {
	if n = follow(n); n == nil || n.Kind != yaml.ScalarNode {
		return 0
	}
	name, err := template.Substitute(n.Value, r.lookup)
	if err != nil {
		return 0
	}
	if filepath.IsAbs(name) {
		if name, err = filepath.Rel(r.dir, name); err != nil {
			return 0
		}
	}
	info, err := r.root.Lstat(name)
	if err != nil {
		return 0
	}
	const least = 512 // a file costs something, however small
	return info.Size() + least
}

// hintUnjudged goes with what is too large.
const hintUnjudged = "nothing else of a service that is too large is judged, so that more may be refused afterwards"

// size judges how much a stack is. It reports whether the rest can be judged; of services in
// j.large nothing else is.
func (j *judge) size() bool {
	c := j.stack.Config
	for section, n := range map[string]int{
		"services": len(c.Services), "volumes": len(c.Volumes), "networks": len(c.Networks), "configs": len(c.Configs), "secrets": len(c.Secrets),
	} {
		if most := maxObjects[section]; n > most {
			j.refuse(ruleSize, "", section, j.locate("", section), "", "has %d %s, and may have %d", n, section, most)
		}
	}
	env := 0
	for i := range c.Services {
		s := &c.Services[i]
		env += valueBytes(s.Environment)
		j.bytes(s.Name, "environment", maxEnvBytes, values{s.Environment, []string{"environment"}})
		j.bytes(s.Name, "labels", maxLabelBytes, values{pointers(s.Labels), []string{"labels"}}, values{pointers(s.Deploy.Labels), []string{"deploy", "labels"}})
		if n := len(s.Labels) + len(s.Deploy.Labels); n > maxLabels {
			path := []string{"services", s.Name, "labels"}
			if len(s.Deploy.Labels) > len(s.Labels) {
				path = []string{"services", s.Name, "deploy", "labels"}
			}
			j.tooLarge(s.Name, "labels", j.locate("", path...), "", "has %d labels, and may have %d", n, maxLabels)
		}
		words, longest, key := 0, 0, "command"
		for k, list := range map[string][]string{"command": s.Command, "entrypoint": s.Entrypoint} {
			words += len(list)
			if len(list) > longest {
				longest, key = len(list), k
			}
		}
		if s.HealthCheck != nil {
			words += len(s.HealthCheck.Test)
			if len(s.HealthCheck.Test) > longest {
				key = "healthcheck"
			}
		}
		if words > maxWords {
			j.tooLarge(s.Name, "command", j.locate("", "services", s.Name, key), "", "has commands of %d words, and may have %d", words, maxWords)
		}
	}
	if env > maxEnvSum {
		j.refuse(ruleSize, "", "environment", j.locate("", "services"), "", "has environments of %d KiB together, and may have %d", env>>10, maxEnvSum>>10)
	}
	return !slices.ContainsFunc(j.out, func(r Refusal) bool { return r.Service == "" })
}

func (j *judge) tooLarge(service, what string, at place, hint, format string, args ...any) {
	j.large[service] = true
	j.refuse(ruleSize, service, what, at, hint+hintUnjudged, format, args...)
}

// tasks judges how many tasks the services have together.
func (j *judge) tasks() {
	sum := uint64(0)
	for _, s := range j.stack.Config.Services {
		sum += min(recipe.Replicas(s), 1<<32)
	}
	if sum > maxTasks {
		j.refuse(ruleSize, "", "tasks", j.locate("", "services"), "ask for fewer replicas", "asks for %d tasks, and may have %d", sum, maxTasks)
	}
}

// object is a config or a secret, by its key.
type object struct{ kind, key string }

// fileMemory judges how much memory configs and secrets take, with templates at their longest. dockerd writes
// them for each container to a file system in memory, which no limit of the container counts.
func (j *judge) fileMemory() {
	sum, largest, most := 0, "", 0
	for _, s := range j.stack.Config.Services {
		named := map[object]bool{} // one that is named twice is written once
		for _, ref := range s.Configs {
			named[object{"config", ref.Source}] = true
		}
		for _, ref := range s.Secrets {
			named[object{"secret", ref.Source}] = true
		}
		size := 0
		for o := range named {
			size += j.contents[o]
		}
		size *= int(min(recipe.Replicas(s), maxTasks))
		sum += size
		if size > most {
			largest, most = s.Name, size
		}
	}
	if sum > maxFileMemory {
		j.refuse(ruleSize, "", "files", j.locate("", "services", largest), "use fewer replicas, or keep long texts in the image or a volume",
			"has configs and secrets of %d MiB in the containers of all its tasks, templates at their longest, and may have %d MiB; those of service %s have %d MiB",
			sum>>20, maxFileMemory>>20, largest, most>>20)
	}
}

// values are those of a mapping of a service, and the path of keys that leads to it.
type values struct {
	of   map[string]*string
	path []string
}

// bytes judges the sum of keys and values.
func (j *judge) bytes(service, what string, most int, parts ...values) {
	sum, largest, key := 0, 0, ""
	var path []string
	for _, part := range parts {
		sum += valueBytes(part.of)
		for _, k := range sorted(part.of) {
			if n := valueBytes(map[string]*string{k: part.of[k]}); n > largest {
				largest, key, path = n, k, append([]string{"services", service}, part.path...)
			}
		}
	}
	if sum > most {
		j.tooLarge(service, what, j.locate(key, path...), "ship long texts as configs; ",
			"has %s of %s, and may have %s; the largest is %q with %s", what, kib(sum), kib(most), key, kib(largest))
	}
}

func kib(bytes int) string { return fmt.Sprintf("%d KiB", bytes>>10) }

func valueBytes(values map[string]*string) int {
	sum := 0
	for key, value := range values {
		sum += len(key)
		if value != nil {
			sum += len(*value)
		}
	}
	return sum
}

func pointers(values map[string]string) map[string]*string {
	out := make(map[string]*string, len(values))
	for key, value := range values {
		out[key] = &value
	}
	return out
}
