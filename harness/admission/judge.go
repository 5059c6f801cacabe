package admission

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// Policy is what a run may have. It comes from our side, never from the pull
// request.
type Policy struct {
	RunID   ccci.RunID
	Domains []string // the run's own host names
	Waivers []ccci.Waiver
	Now     time.Time
	Network string // the proxy's network; "" stands for "proxy"
	// Entrypoints are those of the proxy for TCP that belong to whichever recipe asks:
	// a router on them alone may match every host.
	Entrypoints []string
}

// Refusal is one thing that a recipe asks for and does not get.
type Refusal struct {
	Rule    string // of the table in [Rules]
	File    string // the compose or env file it stands in
	Line    int    // from 1; 0 when unknown
	Service string // "" for what belongs to the whole stack
	Value   string // what a waiver would have to name
	Waiver  string // the entry of recipe.yml that would lift it, "" when none can
	What    string // what is asked for, a sentence that begins with the service
	Note    string // why a waiver does not lift it, "" when there is none
	Hint    string // the way out
}

// Message is one sentence with the place, the service, the rule and the note.
func (r Refusal) Message() string {
	text := fmt.Sprintf("%s: %s (rule %s)", place{r.File, r.Line}, r.What, r.Rule)
	if r.Note != "" {
		text += "; " + r.Note
	}
	return text
}

func (r *Refusal) addNote(format string, args ...any) {
	r.Note = strings.TrimPrefix(r.Note+"; "+fmt.Sprintf(format, args...), "; ")
}

// judge collects refusals about one stack.
type judge struct {
	stack    *recipe.Stack
	policy   Policy
	sources  []source
	out      []Refusal
	seen     map[[3]string]bool // rule, service, value: said once
	large    map[string]bool    // services of which nothing but the size is judged
	matched  map[int]bool       // waivers of the policy, by index, that name something refused
	pending  []pending          // refusals that only waivers without a value may lift
	notes    []recipe.Warning   // what is admitted and does not work as its author expects
	located  int                // lines searched for
	contents map[object]int     // bytes of configs and secrets at their longest
	routed   int                // routers of the proxy
	chains   chains             // of the proxy's middlewares
	uses     []use              // of middlewares, by routers
	fills    map[*yaml.Node]string
	paths    map[string]bool  // absolute paths that the files hold, see written
	set      map[string]place // where variables are set, see variable
}

// Judge looks at a rendered stack, and at the files it was made from, and
// returns everything that is refused, ordered by file, service and rule. An
// empty list admits the stack. The model must be exactly what is deployed.
func Judge(stack *recipe.Stack, p Policy) []Refusal {
	refusals, _ := judgeStack(stack, p)
	return refusals
}

// judgeStack is Judge, with notes on what is admitted and does not work as expected.
func judgeStack(stack *recipe.Stack, p Policy) ([]Refusal, []recipe.Warning) {
	j, err := newJudge(stack, p)
	if err != nil {
		// Nothing can be proven about files that cannot be read.
		return []Refusal{{Rule: ruleFileOutside, File: strings.Join(stack.Files, ", "), What: err.Error(), Hint: ccci.HintOf(err)}}, nil
	}
	if !j.size() {
		return j.sorted(), nil
	}
	j.waiverNames()
	j.raw()
	for i := range stack.Config.Services {
		if s := &stack.Config.Services[i]; !j.large[s.Name] {
			j.service(s)
		}
	}
	j.exposed()
	j.middlewareChains()
	j.tasks()
	j.keys()
	j.volumes()
	j.networks()
	j.fileObjects()
	j.templates()
	j.fileMemory()
	j.variables()
	j.settle()
	j.idleWaivers()
	return j.sorted(), j.notes
}

// JudgeFiles judges the compose files alone, for a stack that did not
// render: what the loader's schema rejects as unknown may be a refusal with a name.
// Dir, Files and Env of the stack are used.
func JudgeFiles(stack *recipe.Stack, p Policy) []Refusal {
	j, err := newJudge(stack, p)
	if err != nil {
		return nil
	}
	j.raw()
	j.settle()
	return j.sorted()
}

func newJudge(stack *recipe.Stack, p Policy) (*judge, error) {
	p.Network = cmp.Or(p.Network, "proxy")
	sources, err := readSources(stack.Dir, stack.Files)
	return &judge{stack: stack, policy: p, sources: sources, seen: map[[3]string]bool{}, large: map[string]bool{}, matched: map[int]bool{}, contents: map[object]int{}, fills: map[*yaml.Node]string{}}, err
}

func (j *judge) sorted() []Refusal {
	slices.SortStableFunc(j.out, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Service, b.Service),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Value, b.Value))
	})
	return j.out
}

// maxRefusals bounds how many refusals are kept, maxListed how many a message lists.
const (
	maxRefusals = 1000
	maxListed   = 40
)

// refuse records a refusal unless a waiver lifts it. what completes the
// sentence "service app …".
func (j *judge) refuse(rule, service, value string, at place, hint, what string, args ...any) {
	j.add(true, rule, service, value, at, hint, what, args...)
}

// add is refuse. Without offer the refusal has no entry of a waiver: one would change nothing.
func (j *judge) add(offer bool, rule, service, value string, at place, hint, what string, args ...any) {
	id := [3]string{rule, service, value}
	if j.seen[id] || len(j.out)+len(j.pending) >= maxRefusals {
		return
	}
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = short(text)
		}
	}
	j.seen[id] = true
	doc, _ := ruleDoc(rule)
	lifted, note, entry := false, "", ""
	var open []int
	if doc.Waivable {
		lifted, open, note = j.waived(rule, service, value)
		if offer {
			entry = j.waiverEntry(rule, service, value)
		}
	}
	if lifted {
		return
	}
	subject := "the stack"
	if service != "" {
		subject = "service " + service
	}
	refusal := Refusal{Rule: rule, File: at.file, Line: at.line, Service: service, Value: value, Waiver: entry,
		What: subject + " " + fmt.Sprintf(what, args...), Note: note, Hint: hint}
	if len(open) > 0 {
		j.pending = append(j.pending, pending{refusal, open})
		return
	}
	j.out = append(j.out, refusal)
}

// pending is a refusal, and the waivers without a value, by index, that name its rule and service.
type pending struct {
	Refusal
	open []int
}

// settle decides about waivers without a value: one lifts the rule's one finding. Of
// several it lifts none: a pull request may have added to what was allowed.
func (j *judge) settle() {
	values := map[int]map[string]bool{}
	for _, p := range j.pending {
		for _, i := range p.open {
			if values[i] == nil {
				values[i] = map[string]bool{}
			}
			values[i][p.Value] = true
		}
	}
	for _, p := range j.pending {
		if slices.ContainsFunc(p.open, func(i int) bool { return len(values[i]) == 1 }) {
			continue
		}
		i := p.open[0]
		p.addNote("the waiver in %s states no value, and so lifts one finding and not %d", j.enrolment(j.policy.Waivers[i].Line), len(values[i]))
		j.out = append(j.out, p.Refusal)
	}
	j.pending = nil
}

// waived reports whether a waiver lifts a refusal, and lists those without a value, which may do so,
// see settle; when one would but for its own faults, the note says which.
func (j *judge) waived(rule, service, value string) (lifted bool, open []int, note string) {
	for i, w := range j.policy.Waivers {
		if w.Rule != rule || !j.allows(w, rule, value) || !serves(w, service) {
			continue
		}
		j.matched[i] = true
		_, err := time.Parse(time.DateOnly, w.Expires)
		switch {
		case strings.TrimSpace(w.Reason) == "" || strings.TrimSpace(w.Owner) == "":
			note = "the waiver for it has no reason or no owner"
		case err != nil:
			note = fmt.Sprintf("the waiver of %s for it has no date it expires on", w.Owner)
		case w.Expired(j.policy.Now):
			note = fmt.Sprintf("the waiver of %s for it expired on %s", w.Owner, w.Expires)
		case w.Value == "" && value != "":
			open = append(open, i)
		default:
			lifted = true
		}
	}
	return lifted, open, note
}

func serves(w ccci.Waiver, service string) bool { return w.Service == "*" || w.Service == service }

// allows reports whether a waiver is for a value.
func (j *judge) allows(w ccci.Waiver, rule, value string) bool {
	return w.Value == "" || covers(rule, j.filledIn(w.Value), value)
}

// enrolment is where a line of our own settings stands.
func (j *judge) enrolment(line int) place {
	return place{"tests/" + j.stack.Recipe + "/recipe.yml", line}
}

// idleWaivers says of each waiver that names nothing refused what differs from the refusal of
// its rule that is most like it. One whose rule refuses nothing is not needed, and no mistake.
func (j *judge) idleWaivers() {
	if len(j.out) >= maxRefusals {
		return // the waiver may be for one that was not kept
	}
	j.sorted() // the loader's order of services differs from run to run
	for i, w := range j.policy.Waivers {
		if j.matched[i] {
			continue
		}
		var near *Refusal
		what := ""
		for k := range j.out {
			switch r := &j.out[k]; {
			case r.Rule != w.Rule || r.Waiver == "":
			case serves(w, r.Service):
				near, what = r, fmt.Sprintf("its value is %q", short(w.Value))
			case what == "" && j.allows(w, r.Rule, r.Value):
				near, what = r, fmt.Sprintf("it is for the service %q", short(w.Service))
			case near == nil:
				near = r
			}
		}
		if near != nil {
			what = cmp.Or(what, fmt.Sprintf("it is for the service %q and the value %q", short(w.Service), short(w.Value)))
			near.addNote("the waiver in %s lifts nothing: %s", j.enrolment(w.Line), what)
		}
	}
}

// ownNames are what differs from run to run, and how the value of a waiver names it. No other
// variable is filled in: a pull request sets those.
func (j *judge) ownNames() [][2]string {
	return [][2]string{{"${STACK_NAME}", j.stack.Name}, {"${DOMAIN}", j.stack.Domain}}
}

// domainTemplate is the run's domain as the other settings of recipe.yml name it.
var domainTemplate = regexp.MustCompile(`\{\{\s*\.Domain\s*\}\}`)

// filledIn is the value of a waiver, in this run.
func (j *judge) filledIn(value string) string {
	value = domainTemplate.ReplaceAllString(value, "$${DOMAIN}")
	for _, n := range j.ownNames() {
		value = strings.ReplaceAll(value, n[0], n[1])
	}
	return value
}

// maxWaiverValue bounds the value that an entry states, in bytes: values are a stranger's.
const maxWaiverValue = 500

// waiverEntry is what recipe.yml would have to hold under waivers to lift a refusal: YAML in
// one line, in which reason, owner and expires are left to the operator. It is "" for a value
// that no entry can state.
func (j *judge) waiverEntry(rule, service, value string) string {
	shown := j.general(value)
	if len(shown) > maxWaiverValue || j.filledIn(shown) != value {
		return ""
	}
	service = cmp.Or(service, "*")
	if !plainName.MatchString(service) {
		service = strconv.Quote(service)
	}
	return fmt.Sprintf(`- {rule: %s, service: %s, value: %q, reason: "", owner: "", expires: ""}`, rule, service, shown)
}

// waiverNames refuses waivers that can never lift anything.
func (j *judge) waiverNames() {
	for _, w := range j.policy.Waivers {
		if wrong, hint := waiverRule(w.Rule); wrong != "" {
			j.refuse(ruleWaiver, "", w.Rule, j.enrolment(w.Line), hint, "has a waiver that lifts nothing: %s", wrong)
		}
	}
}

// waiverRule says why a waiver of a rule can never lift anything, or "".
func waiverRule(rule string) (wrong, hint string) {
	doc, known := ruleDoc(rule)
	switch {
	case doc.Waivable:
		return "", ""
	case known:
		return fmt.Sprintf("the rule %q cannot be waived", rule), ""
	}
	var names []string
	for _, r := range ruleDocs {
		if r.Waivable {
			names = append(names, r.Name)
		}
	}
	return fmt.Sprintf("there is no rule %q", rule), settings.Suggest(rule, names, "")
}

// CheckWaivers returns an error that lists the waivers of a recipe.yml that lift nothing whatever
// the recipe asks for: those of rules that cannot be waived or do not exist, and expired ones.
func CheckWaivers(file string, waivers []ccci.Waiver, now time.Time) error {
	var problems settings.Problems
	for i, w := range waivers {
		p := settings.Problem{File: file, Line: w.Line, Key: fmt.Sprintf("waivers[%d].rule", i)}
		if p.Message, p.Hint = waiverRule(w.Rule); p.Message == "" && w.Expired(now) {
			p.Key = fmt.Sprintf("waivers[%d].expires", i)
			p.Message = fmt.Sprintf("the waiver of %s expired on %s", w.Rule, w.Expires)
			p.Hint = "remove it, or write a later day if the recipe still needs it"
		}
		if p.Message != "" {
			problems = append(problems, p)
		}
	}
	return problems.Err("docs/admission.md lists the rules, and which can be waived")
}

// own reports whether a name on the daemon belongs to this stack.
func (j *judge) own(name string) bool {
	return strings.HasPrefix(name, j.stack.Name+"_") && plainName.MatchString(name)
}
