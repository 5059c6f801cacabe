package enrol

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

var (
	envKey     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	hostLabel  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$`)
	stepName   = regexp.MustCompile(`^[a-z0-9][a-z0-9 ._-]{0,79}$`)
	objectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	byteSize   = regexp.MustCompile(`^[1-9][0-9]{0,6}[KMGT]$`)
	method     = regexp.MustCompile(`^[A-Z]{1,16}$`)
)

// forcedEnv are keys that the harness itself decides for every run.
var forcedEnv = []string{"DOMAIN", "STACK_NAME", "TYPE", "RECIPE", "LETS_ENCRYPT_ENV"}

// checker looks at what types cannot say: ranges, names, exactly-one-of,
// references and templates. It adds to the decoder's problems.
type checker struct {
	*settings.Decoder
	recipe *ccci.Recipe
	vars   map[string]bool // saved by some step
	broken map[string]bool // keys that could not even be decoded
	setup  bool            // within the setup of a dependency
	early  bool            // within what is filled in before anything is deployed
}

// bad adds a problem, unless key or what holds it is already reported: a value
// that has the wrong type is not also missing.
func (c *checker) bad(key, hint, format string, args ...any) {
	for k := key; k != ""; k = k[:max(strings.LastIndexAny(k, ".["), 0)] {
		if c.broken[k] {
			return
		}
	}
	c.Add(c.Line(key), key, hint, format, args...)
}

// brokenBelow reports whether something within key could not be decoded, so that what is missing
// there may be no mistake of its own.
func (c *checker) brokenBelow(key string) bool {
	for k := range c.broken {
		if strings.HasPrefix(k, key+".") || strings.HasPrefix(k, key+"[") {
			return true
		}
	}
	return false
}

func check(r *ccci.Recipe, d *settings.Decoder) {
	c := &checker{Decoder: d, recipe: r, vars: map[string]bool{}, broken: map[string]bool{}}
	for _, p := range d.Problems() {
		c.broken[p.Key] = true
	}
	for _, steps := range [][]ccci.Step{r.Seed, r.Change, r.Verify, r.Checks} {
		saved(steps, func(name string) { c.vars[name] = true })
	}
	for _, d := range r.Depends {
		saved(d.Setup, func(name string) { c.vars[name] = true })
	}
	c.health(r.Health)
	c.timeouts(r.Timeouts)
	c.early = true
	c.env("env", r.Env)
	c.env("upgrade_env", r.UpgradeEnv)
	c.early = false
	c.domains()
	c.secrets()
	c.depends()
	probes := map[string]string{}
	for i, p := range r.Ready {
		k := fmt.Sprintf("ready[%d]", i)
		c.probe(p, k)
		c.unique(probes, k+".name", p.Name)
	}
	c.steps("seed", r.Seed, true)
	c.steps("change", r.Change, true)
	c.steps("verify", r.Verify, true)
	c.steps("checks", r.Checks, false)
	c.roundTrip()
	c.upgradeAndBackup()
	c.skips()
	c.waivers()
	if p := r.Screenshot.Path; !strings.HasPrefix(p, "/") {
		c.bad("screenshot.path", "", "%q must start with /", p)
	}
	c.template("screenshot.path", r.Screenshot.Path, false)
	c.browser("screenshot.steps", r.Screenshot.Steps, false)
	c.limits()
	c.overlays("overlays", r.Overlays)
}

func (c *checker) overlays(key string, paths []string) {
	for i, o := range paths {
		if !insideFolder(o) || !strings.HasSuffix(o, ".yml") && !strings.HasSuffix(o, ".yaml") {
			c.bad(fmt.Sprintf("%s[%d]", key, i), "write a path like compose.ccci.yml, relative to this file",
				"%q is not the path of a compose file within this folder", o)
		}
	}
}

// insideFolder reports whether p is a clean relative path that stays inside.
func insideFolder(p string) bool {
	return p != "" && p != "." && path.Clean(p) == p && !path.IsAbs(p) && p != ".." &&
		!strings.HasPrefix(p, "../") && !strings.ContainsAny(p, "\\\x00")
}

func (c *checker) health(h ccci.Health) {
	if !strings.HasPrefix(h.Path, "/") {
		c.bad("health.path", "", "%q must start with /", h.Path)
	}
	c.template("health.path", h.Path, false)
	c.status("health.status", h.Status)
}

func (c *checker) status(key string, codes []int) {
	if len(codes) == 0 {
		c.bad(key, "", "at least one status code is needed")
	}
	for i, code := range codes {
		if code < 100 || code > 599 {
			c.bad(fmt.Sprintf("%s[%d]", key, i), "", "%d is not an HTTP status code", code)
		}
	}
}

// maxWait is the longest that any single wait may be set to; a build is killed
// after an hour in any case (A16).
const maxWait = time.Hour

func (c *checker) timeouts(t ccci.Timeouts) {
	for _, x := range []struct {
		name string
		d    time.Duration
	}{
		{"pull", t.Pull}, {"deploy", t.Deploy}, {"healthy", t.Healthy}, {"backup", t.Backup},
		{"restore", t.Restore}, {"step", t.Step}, {"hook", t.Hook},
	} {
		if x.d < time.Second || x.d > maxWait {
			c.bad("timeouts."+x.name, "", "%s is not between 1s and %s", x.d, maxWait)
		}
	}
}

func (c *checker) env(key string, env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value, k := env[name], settings.Join(key, name)
		switch {
		case !envKey.MatchString(name):
			c.bad(k, "", "%q is not the name of an environment variable", name)
		case slices.Contains(forcedEnv, name):
			c.bad(k, "further host names are set with domains", "%s is set by the harness for every run", name)
		case strings.ContainsAny(value, "\n\r\x00"):
			c.bad(k, "", "a value in an env file is one line")
		}
		c.template(k, value, false)
	}
}

func (c *checker) domains() {
	takenBy := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.recipe.Domains)) {
		key, k := c.recipe.Domains[name], settings.Join("domains", name)
		switch {
		case !hostLabel.MatchString(name):
			c.bad(k, "", "%q cannot be the beginning of a host name: lower-case letters, digits and hyphens, at most 50", name)
		case !envKey.MatchString(key):
			c.bad(k, "write the env key that takes the host name, as SANDBOX_DOMAIN", "%q is not the name of an environment variable", key)
		case slices.Contains(forcedEnv, key):
			c.bad(k, "", "%s is set by the harness for every run", key)
		case takenBy[key] != "":
			c.bad(k, "", "%s already takes the domain %q", key, takenBy[key])
		default:
			takenBy[key] = name
		}
	}
}

func (c *checker) secrets() {
	for _, name := range slices.Sorted(maps.Keys(c.recipe.Secrets)) {
		value, k := c.recipe.Secrets[name], settings.Join("secrets", name)
		if !objectName.MatchString(name) {
			c.bad(k, "", "%q is not the name of a secret in a compose file", name)
		}
		if value == "" {
			c.bad(k, "write a dummy value", "a secret cannot be empty")
		}
		c.template(k, value, false)
	}
}

// roundTrip demands that seed and verify prove something together (N4).
func (c *checker) roundTrip() {
	r := c.recipe
	if len(r.Seed) > 0 && len(r.Verify) == 0 && c.Line("verify") == 0 {
		c.bad("seed", "add verify steps that read {{.Marker}} back", "seed without verify proves nothing")
	}
	if len(r.Verify) > 0 && len(r.Seed) == 0 && c.Line("seed") == 0 {
		c.bad("verify", "add seed steps that write {{.Marker}}", "verify without seed has nothing to read")
	}
	if len(r.Change) > 0 && len(r.Seed) == 0 && c.Line("seed") == 0 {
		c.bad("change", "add seed steps", "change without seed has nothing to overwrite")
	}
	for key, steps := range map[string][]ccci.Step{"seed": r.Seed, "change": r.Change, "verify": r.Verify} {
		if len(steps) > 0 && !c.brokenBelow(key) && !strings.Contains(fmt.Sprintf("%+v", flat(steps)), ".Marker") {
			c.bad(key, "", "none of its steps uses {{.Marker}}, so it would pass with any data")
		}
	}
}

func (c *checker) upgradeAndBackup() {
	u := c.recipe.Upgrade
	c.tag("upgrade.base", u.Base)
	c.tag("upgrade.repair_for", u.RepairFor)
	c.overlays("upgrade.repair", u.Repair)
	if len(u.Repair) > 0 && u.RepairFor == "" {
		c.bad("upgrade.repair", "add repair_for with the version that cannot be deployed any more", "a repair that names no version would go on changing later ones (U9)")
	}
	if u.RepairFor != "" && len(u.Repair) == 0 {
		c.bad("upgrade.repair_for", "add repair with the overlays, or take repair_for away", "there is no repair for %s", u.RepairFor)
	}
	for i, e := range c.recipe.Backup.Expect {
		volume, rest, ok := strings.Cut(e, "/")
		if !ok || !objectName.MatchString(volume) || !insideFolder(rest) {
			c.bad(fmt.Sprintf("backup.expect[%d]", i), "", "%q is not <volume>/<path within it>", e)
		}
	}
}

func (c *checker) tag(key, tag string) {
	if strings.HasPrefix(tag, "-") || strings.ContainsAny(tag, " \t\n:~^?*[\\") {
		c.bad(key, "write a tag as 1.2.0+3.4.5", "%q is not a version tag", tag)
	}
}

func (c *checker) skips() {
	may := []string{string(ccci.StageUpgrade), string(ccci.StageBackup), string(ccci.StageRestore), string(ccci.StageChecks)}
	seen := map[ccci.StageName]bool{}
	for i, s := range c.recipe.Skip {
		k := fmt.Sprintf("skip[%d]", i)
		switch {
		case s.Stage == ccci.StageInstall:
			c.bad(k+".stage", "", "install cannot be skipped: everything else needs it")
		case !slices.Contains(may, string(s.Stage)):
			hint := settings.Suggest(string(s.Stage), may, "stages are "+strings.Join(may, ", "))
			c.bad(k+".stage", hint, "%q is not a stage that can be skipped", s.Stage)
		case seen[s.Stage]:
			c.bad(k+".stage", "", "%s is already skipped", s.Stage)
		}
		seen[s.Stage] = true
		if strings.TrimSpace(s.Reason) == "" {
			c.bad(k+".reason", "", "a skip needs its reason, it is shown on every run")
		}
	}
}

func (c *checker) waivers() {
	for i, w := range c.recipe.Waivers {
		k := fmt.Sprintf("waivers[%d]", i)
		for _, f := range []struct{ name, value, why string }{
			{"rule", w.Rule, "name the rule as the refusal does"},
			{"service", w.Service, "name the service, or * for the whole stack"},
			{"reason", w.Reason, "say why the recipe needs it"},
			{"owner", w.Owner, "say who answers for it"},
			{"expires", w.Expires, "give its last day, as YYYY-MM-DD"},
		} {
			if strings.TrimSpace(f.value) == "" {
				c.bad(k+"."+f.name, f.why, "a waiver needs its %s", f.name)
			}
		}
		if w.Expires != "" {
			if _, err := time.Parse(time.DateOnly, w.Expires); err != nil {
				c.bad(k+".expires", "write YYYY-MM-DD", "%q is not a date", w.Expires)
			}
		}
	}
}

func (c *checker) limits() {
	if m := c.recipe.Limits.Memory; m != "" && !byteSize.MatchString(m) {
		c.bad("limits.memory", "write 512M or 2G", "%q is not a size", m)
	}
	if l := c.recipe.Limits.Log; !byteSize.MatchString(l) {
		c.bad("limits.log", "write 512K or 10M", "%q is not a size", l)
	}
}
