package admission

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// controlVar are variables that steer programs on the host: Docker's and
// abra's command lines, git, ssh, shells and the dynamic loader.
var controlVar = regexp.MustCompile(`^(` +
	`DOCKER_(HOST|CONTEXT|CONFIG|CERT_PATH|API_VERSION|DEFAULT_PLATFORM|BUILDKIT|STACK_ORCHESTRATOR|CONTENT_TRUST.*|TLS.*|CLI_.*|AUTH_CONFIG)` +
	`|COMPOSE_.*|SWARM_.*_HOST|CONTAINER_HOST` +
	`|PATH|PWD|OLDPWD|SHELL|SHELLOPTS|BASHOPTS|BASH_ENV|IFS|PS4|CDPATH|PROMPT_COMMAND|BASH_FUNC_.*` +
	`|LD_(PRELOAD|LIBRARY_PATH|AUDIT|DEBUG|DEBUG_OUTPUT|PROFILE|PROFILE_OUTPUT|ORIGIN_PATH|BIND_NOW|BIND_NOT|DYNAMIC_WEAK|HWCAP_MASK|ASSUME_KERNEL|TRACE_LOADED_OBJECTS)` +
	`|DYLD_.*(PATH|LIBRARIES)|GLIBC_TUNABLES|GCONV_PATH|GODEBUG|XDG_.*_(HOME|DIR)` +
	`|GIT_(SSH|SSH_COMMAND|DIR|WORK_TREE|ASKPASS|EXEC_PATH|TEMPLATE_DIR|CONFIG.*|PROXY_COMMAND|EXTERNAL_DIFF|PAGER|EDITOR)` +
	`|SSH_(AUTH_SOCK|ASKPASS)|ABRA_(DIR|SERVER|CONFIG|RECIPES?|CATALOGUE|VENDOR|CI|TOKEN|DEBUG)|CCCI_.*)$`)

// variables judges the names in env file and abra.sh.
func (j *judge) variables() {
	env := j.stack.Env
	for _, key := range env.Keys() {
		if key != "COMPOSE_FILE" && controlVar.MatchString(key) {
			value, _ := env.Lookup(key)
			j.refuse(ruleControlVar, "", j.keyValue(key, value), j.variable(key), "rename the variable", "sets %s, which steers tools on the host", key)
		}
	}
	if name, ok := env.Lookup("STACK_NAME"); ok && name != j.stack.Name {
		j.refuse(ruleControlVar, "", "STACK_NAME="+name, j.variable("STACK_NAME"), "leave it out, it follows from the domain", "sets STACK_NAME to %q, which is not its own", name)
	}
	if domain, ok := env.Lookup("DOMAIN"); ok && !slices.Contains(j.policy.Domains, domain) {
		j.refuse(ruleControlVar, "", "DOMAIN="+domain, j.variable("DOMAIN"), "", "sets DOMAIN to %q, which is not a host of this run", domain)
	}
	// Everything above trusts the stack's name, so it must follow from the run.
	if j.stack.Name != recipe.StackName(j.stack.Domain) || !slices.Contains(j.policy.Domains, j.stack.Domain) {
		j.refuse(ruleControlVar, "", "STACK_NAME", j.variable("STACK_NAME"), "leave it out, it follows from the domain", "is called %q, which is not the name of this run", j.stack.Name)
	}
}

// variable finds the line that sets a variable: that in abra.sh wins.
func (j *judge) variable(key string) place {
	if j.set == nil {
		j.set = j.assignments()
	}
	if at, ok := j.set[key]; ok {
		return at
	}
	return place{file: "the app's env file"}
}

// assignments are the places of all variables that abra.sh and .env.sample set.
func (j *judge) assignments() map[string]place {
	set := map[string]place{}
	root, err := os.OpenRoot(j.stack.Dir)
	if err != nil {
		return set
	}
	defer root.Close()
	for _, name := range []string{"abra.sh", ".env.sample"} {
		text, err := readPlain(root, name, 1<<20)
		if err != nil {
			continue
		}
		line := 0
		for l := range strings.Lines(string(text)) {
			line++
			l = strings.TrimPrefix(strings.TrimSpace(l), "export ")
			key, _, ok := strings.Cut(l, "=")
			key = strings.TrimSpace(key)
			if _, known := set[key]; ok && !known {
				set[key] = place{name, line}
			}
		}
	}
	return set
}
