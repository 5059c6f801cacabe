package ccci

import "time"

// Bases are the releases of a recipe, as what an upgrade to one of its commits can start from.
type Bases struct {
	Usable   []string          // their tags, newest first
	Unusable map[string]string // the tags of the others, with the reason as a sentence's end: "it is built upon the head"
}

// Recipe is how one recipe is enrolled: tests/<recipe>/recipe.yml read
// strictly, with defaults filled in. The zero value plus defaults is the
// zero-config floor (U1). Strings marked "template" may use {{.Domain}},
// {{.Recipe}}, {{.Marker}} (in seed, change and verify steps), {{index .Domains
// "name"}}, {{index .Secrets "name"}}, {{index .Vars "name"}} and, of a dependency,
// {{index .Deps "<recipe>.domain"}}, "<recipe>.host" (its app service's name on the
// proxy's network), "<recipe>.secret.<key>" and "<recipe>.<saved name>".
//
// The yaml tag is the key in recipe.yml, doc its line in docs/settings.md,
// default the value when the key is absent.
type Recipe struct {
	Name string `yaml:"-"`
	Dir  string `yaml:"-"` // the enrolment folder, absolute; "" when there is none

	Health     Health            `yaml:"health" doc:"What a healthy app answers. Not asked of a recipe that routes nothing by HTTP."`
	Timeouts   Timeouts          `yaml:"timeouts" doc:"Upper bounds. Waiting ends as soon as the condition holds."`
	Env        map[string]string `yaml:"env" doc:"Extra lines of the app's env file, for base and head. Values are templates."`
	UpgradeEnv map[string]string `yaml:"upgrade_env" doc:"Extra lines from the upgrade on. By default the old env file is kept unchanged, as an operator would."`
	Domains    map[string]string `yaml:"domains" doc:"Extra host names: name -> env key that takes it. Each becomes <name>-<app>.<ci domain>."`
	Secrets    map[string]string `yaml:"secrets" doc:"Values for secrets, by key; templates. Needed for those that are not generated (generate=false). Dummies only, this file is public, or what a dependency gave."`
	Ready      []Probe           `yaml:"ready" doc:"Further probes that must succeed after install, upgrade and restore."`
	Depends    []Dependency      `yaml:"depends" doc:"Apps that must run before this one, in this order: a login provider, say. Each is deployed for the run alone and removed after it."`
	Seed       []Step            `yaml:"seed" doc:"Writes {{.Marker}} into the app, through the app."`
	Change     []Step            `yaml:"change" doc:"Overwrites what seed wrote with {{.Marker}} (a new one), after the backup. Default: the seed steps again."`
	Verify     []Step            `yaml:"verify" doc:"Reads {{.Marker}} back; must fail when another marker is there."`
	Checks     []Step            `yaml:"checks" doc:"The recipe's own functional checks."`
	Upgrade    UpgradeSettings   `yaml:"upgrade" doc:"How the upgrade is tested."`
	Backup     BackupSettings    `yaml:"backup" doc:"What a backup must hold."`
	Skip       []SkipStage       `yaml:"skip" doc:"Stages that cannot be tested, each with its reason. Shown on every run; the level stays below them."`
	Waivers    []Waiver          `yaml:"waivers" doc:"Admission rules that are lifted for this recipe."`
	Screenshot Screenshot        `yaml:"screenshot" doc:"How to reach a view that is worth a picture and shows no credentials."`
	Limits     Limits            `yaml:"limits" doc:"What the app may use."`
	Overlays   []string          `yaml:"overlays" doc:"Compose overlays of ours, paths within this folder, applied to base and head. For the environment only (grace periods, memory), never for versions."`
}

// Dependency is another recipe that is deployed, as it was last released, before
// the one under test (U10). Its health, env, secrets and waivers are those of its own
// enrolment.
type Dependency struct {
	Recipe  string `yaml:"recipe" doc:"Name of the recipe."`
	Source  string `yaml:"source" doc:"Where its git repository is; default: beside that of this recipe, under its own name."`
	Version string `yaml:"version" doc:"Release to deploy; default: the newest."`
	Setup   []Step `yaml:"setup" doc:"Steps against the dependency once it serves, to make what this recipe needs of it. {{.Domain}}, {{.Secrets}} are the dependency's; {{.App}} is this recipe's domain. What they save is {{index .Deps \"<recipe>.<name>\"}} afterwards."`
}

// Health is the HTTP probe that decides whether the app serves.
type Health struct {
	Path     string `yaml:"path" default:"/" doc:"Path that is asked for on the app's domain."`
	Status   []int  `yaml:"status" default:"[200, 301, 302]" doc:"Accepted status codes."`
	Contains string `yaml:"contains" doc:"Text that the body must hold; after a redirection, that of the page it leads to."`
}

// Timeouts bound each wait.
type Timeouts struct {
	Pull    time.Duration `yaml:"pull" default:"15m" doc:"Pulling all images of one version."`
	Deploy  time.Duration `yaml:"deploy" default:"10m" doc:"Services converge after install, upgrade and restore. The recipe's own timeout label counts when it is longer."`
	Healthy time.Duration `yaml:"healthy" default:"5m" doc:"The app answers as health demands, after its services converged."`
	Backup  time.Duration `yaml:"backup" default:"10m" doc:"Backup with its hooks."`
	Restore time.Duration `yaml:"restore" default:"10m" doc:"Restore with its hooks."`
	Step    time.Duration `yaml:"step" default:"60s" doc:"One seed, change, verify, check or screenshot step, retries included."`
	Hook    time.Duration `yaml:"hook" default:"5m" doc:"One executable in hooks/, or the Go tests."`
}

// Probe asks for readiness beyond the health path. Exactly one of HTTP and TCP is set.
type Probe struct {
	Name   string     `yaml:"name" doc:"Shown in the result."`
	HTTP   *HTTPProbe `yaml:"http" doc:"An HTTP request through the proxy."`
	TCP    *TCPProbe  `yaml:"tcp" doc:"A connection to a service's port inside the app's own networks."`
	Stable int        `yaml:"stable" default:"1" doc:"How many times in a row it must succeed."`
}

// HTTPProbe is like [Health], for another path or domain.
type HTTPProbe struct {
	Domain   string `yaml:"domain" doc:"Name of an extra domain; default the app's own."`
	Path     string `yaml:"path" default:"/" doc:"Path."`
	Status   []int  `yaml:"status" default:"[200]" doc:"Accepted status codes."`
	Contains string `yaml:"contains" doc:"Text that the body must hold."`
}

// TCPProbe connects to a port of a service.
type TCPProbe struct {
	Service string `yaml:"service" default:"app" doc:"Service of the compose file."`
	Port    int    `yaml:"port" doc:"Port, 1 to 65535."`
}

// Step is one declarative action with its expectation. Exactly one of HTTP,
// TCP, Exec and Browser is set. A step is repeated until it succeeds or its
// time is up only when Retry is set.
type Step struct {
	Name    string        `yaml:"name" doc:"Shown in the result; lower-case words."`
	HTTP    *HTTPStep     `yaml:"http" doc:"A request to the app."`
	TCP     *TCPStep      `yaml:"tcp" doc:"A conversation with a port of a service."`
	Exec    *ExecStep     `yaml:"exec" doc:"A command inside a service's container. No shell unless you name one."`
	Browser []BrowserStep `yaml:"browser" doc:"Actions in a real browser, one after the other in one page."`
	Retry   bool          `yaml:"retry" default:"false" doc:"Repeat until it succeeds or timeout is over. For reads only."`
	Timeout time.Duration `yaml:"timeout" doc:"Default: timeouts.step."`
}

// HTTPStep is a request and what its response must be. Strings are templates.
type HTTPStep struct {
	Domain  string            `yaml:"domain" doc:"Name of an extra domain; default the app's own."`
	Method  string            `yaml:"method" default:"GET" doc:"Request method."`
	Path    string            `yaml:"path" default:"/" doc:"Path and query."`
	Headers map[string]string `yaml:"headers" doc:"Request headers."`
	Basic   string            `yaml:"basic" doc:"user:password for basic authentication."`
	JSON    any               `yaml:"json" doc:"Request body as YAML, sent as JSON."`
	Form    map[string]string `yaml:"form" doc:"Request body as a form."`
	Body    string            `yaml:"body" doc:"Request body as it stands."`
	Expect  HTTPExpect        `yaml:"expect" doc:"What the response must be."`
	Save    map[string]string `yaml:"save" doc:"Variable -> dotted path into the JSON response (items.0.id), for later steps as {{index .Vars \"name\"}}."`
}

// HTTPExpect is what a response must be.
type HTTPExpect struct {
	Status   []int             `yaml:"status" default:"[200]" doc:"Accepted status codes."`
	Contains []string          `yaml:"contains" doc:"Texts that the body must hold."`
	Lacks    []string          `yaml:"lacks" doc:"Texts that the body must not hold."`
	JSON     map[string]string `yaml:"json" doc:"Dotted path -> value that must be there, compared as text."`
	Headers  map[string]string `yaml:"headers" doc:"Header -> text that its value must hold."`
}

// TCPStep sends text to a port and expects text.
type TCPStep struct {
	Service string `yaml:"service" default:"app" doc:"Service of the compose file."`
	Port    int    `yaml:"port" doc:"Port, 1 to 65535."`
	Send    string `yaml:"send" doc:"Text to send."`
	Expect  string `yaml:"expect" doc:"Text that must come back."`
}

// ExecStep runs a command in the newest running container of a service.
type ExecStep struct {
	Service  string            `yaml:"service" default:"app" doc:"Service of the compose file."`
	Command  []string          `yaml:"command" doc:"Program and arguments; templates."`
	User     string            `yaml:"user" doc:"User to run as; default the container's."`
	Stdin    string            `yaml:"stdin" doc:"Text for standard input; template."`
	Exit     int               `yaml:"exit" default:"0" doc:"Expected exit code."`
	Contains []string          `yaml:"contains" doc:"Texts that the output must hold."`
	Lacks    []string          `yaml:"lacks" doc:"Texts that the output must not hold."`
	Save     map[string]string `yaml:"save" doc:"Variable -> \"stdout\" (trimmed) for later steps."`
}

// BrowserStep is one action in the browser; exactly one field but Domain and Value is set.
type BrowserStep struct {
	Open   string `yaml:"open" doc:"Path to open."`
	Domain string `yaml:"domain" doc:"With open: name of an extra domain."`
	Fill   string `yaml:"fill" doc:"CSS selector of a field to fill with value."`
	Value  string `yaml:"value" doc:"With fill and select: the value."`
	Select string `yaml:"select" doc:"CSS selector of a list to set to value."`
	Click  string `yaml:"click" doc:"CSS selector of what to click."`
	See    string `yaml:"see" doc:"CSS selector that must become visible."`
	Text   string `yaml:"text" doc:"Text that must become visible on the page."`
	URL    string `yaml:"url" doc:"Text that the address must come to hold."`
	Press  string `yaml:"press" doc:"Key to press: Enter, Tab, Escape."`
}

// UpgradeSettings steer the upgrade stage.
type UpgradeSettings struct {
	Base      string   `yaml:"base" doc:"Version tag to upgrade from; default by rule: the last green canonical, else the newest release older than the head."`
	Repair    []string `yaml:"repair" doc:"Compose overlays of ours for the base alone, when a released version cannot be deployed as it is any more. Removed before the upgrade. Last resort."`
	RepairFor string   `yaml:"repair_for" doc:"The one version that repair holds for; for any other base it is ignored, with a warning."`
}

// BackupSettings steer the backup stage.
type BackupSettings struct {
	Expect []string `yaml:"expect" doc:"Paths that a snapshot must hold, not empty, as <volume>/<path within it>."`
}

// SkipStage declares a stage untestable.
type SkipStage struct {
	Stage  StageName `yaml:"stage" doc:"upgrade, backup, restore or checks."`
	Reason string    `yaml:"reason" doc:"One sentence, shown on every run."`
}

// Waiver lifts one admission rule for one service.
type Waiver struct {
	Rule    string `yaml:"rule" doc:"Rule of the admission table, as the refusal names it."`
	Service string `yaml:"service" doc:"Service it holds for; * for the whole stack."`
	Value   string `yaml:"value" doc:"The exact value that is allowed, as the entry below the refusal has it, with ${STACK_NAME} and ${DOMAIN} (or {{.Domain}}) for the run's own; empty: whatever is refused, if that is one value."`
	Reason  string `yaml:"reason" doc:"Why it is needed."`
	Owner   string `yaml:"owner" doc:"Who answers for it."`
	Expires string `yaml:"expires" doc:"Last day it holds, as YYYY-MM-DD."`

	Line int `yaml:"-"` // where it stands in recipe.yml, from 1
}

// Expired reports whether the last day of a waiver is over. A date that cannot be read is not.
func (w Waiver) Expired(now time.Time) bool {
	day, err := time.Parse(time.DateOnly, w.Expires)
	return err == nil && !now.Before(day.AddDate(0, 0, 1))
}

// Screenshot says what the picture shows.
type Screenshot struct {
	Path  string        `yaml:"path" default:"/" doc:"Page to open."`
	Steps []BrowserStep `yaml:"steps" doc:"What to do before the picture is taken. Never log in with real credentials."`
}

// Limits bound what a run may use.
type Limits struct {
	Memory string `yaml:"memory" form:"size" doc:"Memory of each container, as 512M or 2G; default: what the recipe says."`
	Log    string `yaml:"log" form:"size" default:"10M" doc:"How much of each service's log is kept."`
}
