package recipe

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Severities of a finding.
const (
	severityError   = "error"
	severityWarning = "warning"
)

// Rule is one rule of the linter. R-rules are abra's, C-rules are our own.
type Rule struct {
	ID       string
	Severity string // "error" or "warning"
	Title    string
	Hint     string
	// Needs says what the rule is not judged without; "" when it always is.
	Needs string
	// AbraRefuses says that abra deploys no recipe that breaks the rule in a file which it loads.
	AbraRefuses bool

	check func(*lintRun) []place
}

// place is where a rule is broken, and how.
type place struct {
	file    string
	line    int
	message string
}

// LintOptions are what the linter cannot read from the files themselves.
type LintOptions struct {
	Releases  []Release // version tags of the repository (R014)
	Unbumped  *Release  // release of the version that the tree states, with other files (C011)
	Catalogue []string  // versions that the catalogue lists (R006); nil: not known
	// Bounds is asked before a tree is rendered: a few lines of YAML can stand for gigabytes. Nil is
	// for trees that are trusted.
	Bounds func(*Tree, RenderOptions) error
}

// Lint judges a tree by every rule. base is the version that operators have, for the rules
// that compare; nil leaves those out. Findings are ordered by file, line and rule; a
// tree that keeps every rule has none, and one that breaks them often has maxFindings and one more for
// each rule that lost some. Lint reads files only.
func Lint(ctx context.Context, t *Tree, base *Tree, o LintOptions) []ccci.Finding {
	run := newLintRun(t, base, o)
	var out []ccci.Finding
	for _, rule := range Rules() {
		if ctx.Err() != nil {
			return out
		}
		seen := map[place]bool{}
		for _, p := range rule.check(run) {
			p.message = shortMessage(p.message)
			if seen[p] {
				continue
			}
			seen[p] = true
			out = append(out, ccci.Finding{Rule: rule.ID, Severity: rule.Severity, File: p.file, Line: p.line, Message: p.message, Hint: rule.Hint,
				AbraRefuses: rule.AbraRefuses && run.loads(p.file)})
		}
	}
	out = fewest(out)
	slices.SortStableFunc(out, func(a, b ccci.Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule))
	})
	return out
}

// A recipe decides how much there is to find and how long names are; reports and logs hold every
// finding.
const (
	maxFindings = 300
	maxMessage  = 1 << 10 // bytes
)

func shortMessage(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.Clone(s[:cut]) + "…"
}

// fewest cuts findings to maxFindings, errors before warnings, and says of each rule how many of its
// findings are left out.
func fewest(found []ccci.Finding) []ccci.Finding {
	if len(found) <= maxFindings {
		return found
	}
	out := make([]ccci.Finding, 0, maxFindings)
	without, refused := map[string]int{}, map[string]bool{}
	for _, severity := range []string{severityError, severityWarning} {
		for _, f := range found {
			switch {
			case f.Severity != severity:
			case len(out) < maxFindings:
				out = append(out, f)
			default:
				without[f.Rule]++
				refused[f.Rule] = refused[f.Rule] || f.AbraRefuses
			}
		}
	}
	for _, rule := range Rules() {
		if n := without[rule.ID]; n > 0 {
			out = append(out, ccci.Finding{Rule: rule.ID, Severity: rule.Severity, Message: fmt.Sprintf("%d more findings of this rule are left out", n), Hint: rule.Hint, AbraRefuses: refused[rule.ID]})
		}
	}
	return out
}

// LintDir is Lint for a folder that may not even open as a recipe: what Open refuses for
// its text becomes a finding, so that every report has one form. Other errors, such as a
// folder that is not there, are returned.
func LintDir(ctx context.Context, dir string, commit ccci.Commit, base *Tree, o LintOptions) ([]ccci.Finding, error) {
	t, err := Open(dir, commit)
	if err == nil {
		return Lint(ctx, t, base, o), nil
	}
	if code := ccci.CodeOf(err); code != ccci.CodeInvalid && code != ccci.CodeRefused || commit != "" && !commit.Valid() {
		return nil, err
	}
	finding := ccci.Finding{Rule: "C007", Severity: severityError, File: composeName, Message: shortMessage(err.Error()), Hint: ccci.HintOf(err)}
	if strings.HasPrefix(err.Error(), sampleName) {
		finding.Rule, finding.File, finding.Line = "R008", sampleName, errorLine(err)
	}
	return []ccci.Finding{finding}, nil
}

// Rules lists all rules, in the order of their identifiers. R013 (the repository
// exists on git.coopcloud.tech) asks the network and R016's meaning is not
// published; neither is judged here.
func Rules() []Rule {
	return slices.Concat(abraRules, ownRules)
}

// lintDomain stands for a run's domain; its stack name has 33 characters.
const lintDomain = "lint-000000.ci.commoninternet.net"

// lintRun is what the rules look at, read once.
type lintRun struct {
	tree, base *Tree
	options    LintOptions
	files      []*composeFile // every compose file of the tree, compose.yml first
	unread     []place        // compose files that do not parse
	stack      *Stack         // rendered from the sample; nil when that fails
	renderErr  error
	sample     *EnvFile
	sampleErr  error
	abra       Env
	abraLines  map[string]int

	defaults    Env // of the sample and abra.sh
	defaultsErr error
}

// fillIn fills in the variables of a text from the defaults.
func (r *lintRun) fillIn(text string) string {
	if r.defaultsErr != nil {
		return ""
	}
	out, err := fill(text, r.defaults.Lookup)
	if err != nil {
		return ""
	}
	return out
}

func newLintRun(t, base *Tree, o LintOptions) *lintRun {
	run := &lintRun{tree: t, base: base, options: o}
	run.sample, run.sampleErr = t.sample()
	if run.sampleErr != nil {
		run.sample = &EnvFile{}
	}
	run.defaults, run.defaultsErr = t.defaults()
	run.abra, run.abraLines, _, _ = t.abra() // an unreadable one shows in renderErr
	as := RenderOptions{Domain: lintDomain}
	if o.Bounds != nil {
		run.renderErr = o.Bounds(t, as)
	}
	if run.renderErr == nil {
		run.stack, run.renderErr = t.Render(as)
	}
	run.files = t.parseAll(func(name string, err error) {
		run.unread = append(run.unread, place{name, errorLine(err), err.Error()})
	})
	return run
}

// maxLintNodes bounds the values of all compose files that are linted. Finding the line of each
// takes time that grows with its square; the largest known recipe has a tenth.
const maxLintNodes = 50_000

// maxLintText bounds the text of all compose files that are linted, in bytes.
const maxLintText = 4 << 20

// parseAll parses every compose file of a tree, up to MaxComposeFiles, maxLintText and maxLintNodes.
func (t *Tree) parseAll(failed func(name string, err error)) []*composeFile {
	var files []*composeFile
	nodes, size := 0, 0
	for i, name := range t.allComposeFiles() {
		beyond := func(limit int, of string) []*composeFile {
			failed(name, ccci.Errorf(ccci.CodeInvalid, "%s: there are more than %d %s; this one and those after it are not looked at", name, limit, of))
			return files
		}
		if i == MaxComposeFiles {
			return beyond(MaxComposeFiles, "compose files")
		}
		text, err := t.readCompose(name)
		if err != nil {
			failed(name, err)
			continue
		}
		if size += len(text); size > maxLintText {
			return beyond(maxLintText, "bytes in all compose files")
		}
		f, err := parseCompose(name, t.Dir, text)
		if err != nil {
			failed(name, err)
			continue
		}
		if nodes += f.nodes; nodes > maxLintNodes {
			return beyond(maxLintNodes, "values in all compose files")
		}
		files = append(files, f)
	}
	return files
}

// allComposeFiles lists compose.yml and every overlay, also in subfolders; of more than
// MaxComposeFiles, so many that the caller sees it.
func (t *Tree) allComposeFiles() []string {
	var overlays []string
	_ = filepath.WalkDir(t.Dir, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // unreadable folders hold no overlays; Render names what it misses
		}
		rel, _ := filepath.Rel(t.Dir, full)
		name := entry.Name()
		switch {
		case entry.IsDir() && rel != "." && (strings.HasPrefix(name, ".") || strings.Count(rel, "/") > 4):
			return filepath.SkipDir
		case entry.IsDir() || rel == composeName:
			return nil
		}
		if ok, _ := path.Match("compose.*.yml", name); ok && len(overlays) <= MaxComposeFiles {
			overlays = append(overlays, filepath.ToSlash(rel))
		}
		return nil
	})
	slices.Sort(overlays)
	return append([]string{composeName}, overlays...)
}

var lineInText = regexp.MustCompile(`line (\d{1,6})`)

// errorLine takes the line out of an error's text, for findings.
func errorLine(err error) int {
	m := lineInText.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	line := 0
	for _, c := range m[1] {
		line = line*10 + int(c-'0')
	}
	return line
}

// errorFile takes the file out of an error's text.
func errorFile(err error, known []string) string {
	file := ""
	for _, name := range known {
		if strings.HasPrefix(err.Error(), name) && len(name) > len(file) {
			file = name
		}
	}
	return file
}

// services visits every service of every compose file.
func (r *lintRun) services(visit func(f *composeFile, name string, service map[string]any)) {
	for _, f := range r.files {
		all := f.section("services")
		for _, name := range sortedKeys(all) {
			service, _ := all[name].(map[string]any)
			visit(f, name, service)
		}
	}
}

// loads reports whether abra reads a file by default: overlays that .env.sample does not name it
// leaves alone.
func (r *lintRun) loads(file string) bool {
	return !strings.HasSuffix(file, ".yml") || file == composeName || r.stack != nil && slices.Contains(r.stack.Files, file)
}

// active returns the files that the sample's COMPOSE_FILE names, which is where a
// finding about the rendered stack has its place.
func (r *lintRun) active() []*composeFile {
	var out []*composeFile
	for _, name := range r.stack.Files {
		for _, f := range r.files {
			if f.name == name {
				out = append(out, f)
			}
		}
	}
	return out
}
