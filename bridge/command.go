package bridge

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// Verb is what a command line asks for.
type Verb string

// The verbs, as they are written.
const (
	VerbTest   Verb = "!testme"
	VerbRetest Verb = "!retest"
	VerbStatus Verb = "!status"
	VerbCancel Verb = "!cancel"
	VerbHelp   Verb = "!help"
)

// MaxLine is the longest command line in bytes; a longer body is prose.
const MaxLine = 400

// Command is a well-formed wish.
type Command struct {
	Verb    Verb
	Options ccci.Options
	// SHA is the commit that was named, in lower case: 7 to 64 hexadecimal
	// digits, or "". Whether it is full and is the right one is not the parser's to say.
	SHA string
}

// Kind says what a comment is to the bridge.
type Kind int

// A comment is talk among people, a command, a command with a mistake in its options,
// or a near miss: something that was meant as a command and is none.
const (
	Ignore Kind = iota
	IsCommand
	IsReply
	IsNear
)

// Parsed is a comment as the bridge understands it.
type Parsed struct {
	Kind    Kind
	Command Command // for IsCommand; for IsReply and IsNear only its Verb is set
	Reply   string  // for IsReply and IsNear: Markdown that says what is wrong and how to write it
}

// option is a row of the table below.
type option struct {
	name    string // as written before "=", as a flag is written, or the placeholder of a bare word
	usage   string
	explain string
	// set reads the value into c, or returns a sentence about what is wrong with it.
	set func(c *Command, value string) string
}

type command struct {
	verb    Verb
	explain string
	options []option
}

// starts reports whether a command starts a run. Such a one counts only when it is
// written exactly (A6); the case of the others is forgiven.
func (v Verb) starts() bool { return v == VerbTest || v == VerbRetest }

func (v Verb) is(word string) bool {
	return word == string(v) || !v.starts() && strings.EqualFold(word, string(v))
}

// commands is the one table of the grammar: the parser and !help both read it.
var commands = []command{
	{VerbTest, "test this pull request as it is now: install, upgrade, backup, restore, checks", []option{
		{"stages", "stages=a,b", "only these stages (" + stageList() + "); install always runs", setStages},
		{"from", "from=VERSION", "upgrade from this released version instead of the one chosen by rule", setFrom},
		{"--quick", "--quick", "only the upgrade from the recipe's last good version with its data; it counts for no level", setQuick},
		{"sha", "COMMIT", "test exactly this commit, written in full", setSHA},
	}},
	{VerbRetest, "repeat the failed stages of the last finished run on the same commit", nil},
	{VerbStatus, "what runs and what waits for this pull request, and when it is expected to start", nil},
	{VerbCancel, "end every unfinished run of this pull request; each one's comment then shows the proof of its teardown", nil},
	{VerbHelp, "this text", nil},
}

// Parse reads the body of a comment. It is total and pure. A command is the
// whole body, on one line, that begins with the verb itself; white space after
// it is forgiven. Whatever quotes, hides, formats or explains a command is not
// one: code, quotations, HTML, other lines, invisible characters, leading space.
// Of these, what a person may have meant as a command is a near miss.
func Parse(body string) Parsed {
	if p := parseLine(body); p.Kind != Ignore {
		return p
	}
	return nearMiss(body)
}

func parseLine(body string) Parsed {
	line := strings.TrimRight(body, " \t\r\n")
	if len(line) > MaxLine || !ordinary(line) {
		return Parsed{}
	}
	words := strings.Fields(line)
	if len(words) == 0 || !strings.HasPrefix(line, words[0]) {
		return Parsed{}
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.verb.is(words[0]) })
	if i < 0 {
		return Parsed{}
	}
	cmd := Command{Verb: commands[i].verb}
	seen := map[string]bool{}
	for _, word := range words[1:] {
		opt, value, found := commands[i].lookup(word)
		switch {
		case !found:
			return wrong(cmd.Verb, commands[i].unknown(word))
		case seen[opt.name]:
			return wrong(cmd.Verb, fmt.Sprintf("%s is given twice.", report.Code(opt.usage)))
		}
		seen[opt.name] = true
		if problem := opt.set(&cmd, value); problem != "" {
			return wrong(cmd.Verb, problem)
		}
	}
	if cmd.Options.Quick && (len(cmd.Options.Stages) > 0 || cmd.Options.From != "") {
		return wrong(cmd.Verb, fmt.Sprintf("%s chooses stages and base itself, so neither %s nor %s goes with it.", report.Code("--quick"), report.Code("stages="), report.Code("from=")))
	}
	if cmd.Options.From != "" && !cmd.Options.Wants(ccci.StageUpgrade) {
		return wrong(cmd.Verb, fmt.Sprintf("%s says where the upgrade starts, and %s leaves the upgrade out.", report.Code("from="), report.Code("stages=")))
	}
	return Parsed{Kind: IsCommand, Command: cmd}
}

// ordinary reports whether a line holds nothing but visible ASCII, blanks and
// tabs, and no character that Markdown or HTML would use to wrap a command.
func ordinary(line string) bool {
	for i := range len(line) {
		c := line[i]
		if (c < ' ' && c != '\t') || c > '~' || c == '`' || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

// isFlag reports whether an option is written as it stands, with or without its hyphens.
func (o option) isFlag() bool { return strings.HasPrefix(o.name, "--") }

func (c command) lookup(word string) (option, string, bool) {
	if name, value, ok := strings.Cut(word, "="); ok {
		for _, o := range c.options {
			if o.name == name && strings.Contains(o.usage, "=") {
				return o, value, true
			}
		}
		return option{}, "", false
	}
	for _, o := range c.options {
		if o.isFlag() && (word == o.name || "--"+word == o.name) {
			return o, "", true
		}
	}
	if n := len(word); n >= 7 && n <= 64 && strings.Trim(strings.ToLower(word), "0123456789abcdef") == "" {
		for _, o := range c.options {
			if o.name == "sha" {
				return o, strings.ToLower(word), true
			}
		}
	}
	return option{}, "", false
}

// unknown says what a word is not, and what its writer probably meant.
func (c command) unknown(word string) string {
	if len(c.options) == 0 {
		return fmt.Sprintf("%s takes no options; %s is not understood.", report.Code(string(c.verb)), report.Code(short(word)))
	}
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	names := make([]string, 0, len(c.options))
	for _, o := range c.options {
		if strings.Contains(o.usage, "=") || o.isFlag() {
			names = append(names, strings.TrimLeft(o.name, "-"))
		}
	}
	if near := nearest(strings.ToLower(name), names); near != "" {
		i := slices.IndexFunc(c.options, func(o option) bool { return strings.TrimLeft(o.name, "-") == near })
		return fmt.Sprintf("%s is not an option. Did you mean %s, as in %s?", report.Code(short(word)), report.Code(near), report.Code(c.options[i].usage))
	}
	return fmt.Sprintf("%s is not an option of %s.", report.Code(short(word)), report.Code(string(c.verb)))
}

func wrong(verb Verb, problem string) Parsed {
	if verb.starts() {
		problem += " Nothing was started."
	}
	return Parsed{Kind: IsReply, Command: Command{Verb: verb}, Reply: problem + "\n\n" + usage(verb)}
}

func usage(verb Verb) string {
	i := slices.IndexFunc(commands, func(c command) bool { return c.verb == verb })
	return describe(commands[i])
}

func describe(c command) string {
	line := string(c.verb)
	for _, o := range c.options {
		line += " [" + o.usage + "]"
	}
	out := "- `" + line + "`: " + c.explain
	for _, o := range c.options {
		out += "\n  - `" + o.usage + "`: " + o.explain
	}
	return out
}

// Help is the answer to !help.
func Help() string {
	lines := []string{"A comment that is one of these lines, and nothing else, is a command:", ""}
	for _, c := range commands {
		lines = append(lines, describe(c))
	}
	lines = append(lines, "", "A run with options counts for no badge, unless the only one is a commit.")
	return strings.Join(lines, "\n")
}

func setStages(c *Command, value string) string {
	var want []string
	for name := range strings.SplitSeq(value, ",") {
		if !slices.Contains(ccci.StageNames, ccci.StageName(name)) {
			if name == "" {
				return fmt.Sprintf("%s names no stage. The stages are %s.", report.Code(short("stages="+value)), stageList())
			}
			if near := nearest(strings.ToLower(name), stageStrings()); near != "" {
				return fmt.Sprintf("%s is not a stage. Did you mean %s? The stages are %s.", report.Code(short(name)), report.Code(near), stageList())
			}
			return fmt.Sprintf("%s is not a stage. The stages are %s.", report.Code(short(name)), stageList())
		}
		want = append(want, name)
	}
	c.Options.Stages = nil
	for _, s := range ccci.StageNames {
		if slices.Contains(want, string(s)) {
			c.Options.Stages = append(c.Options.Stages, s)
		}
	}
	return ""
}

func setFrom(c *Command, value string) string {
	const chars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+_-"
	if value == "" || len(value) > 80 || strings.Trim(value, chars) != "" || strings.ContainsAny(value[:1], ".+_-") ||
		strings.Contains(value, "..") || strings.HasSuffix(value, ".") || strings.HasSuffix(value, ".lock") {
		return fmt.Sprintf("%s is not a version; write a release tag such as %s.", report.Code(short("from="+value)), report.Code("from=1.2.0+3.4.5"))
	}
	c.Options.From = value
	return ""
}

func setQuick(c *Command, _ string) string {
	c.Options.Quick = true
	return ""
}

func setSHA(c *Command, value string) string {
	c.SHA = value
	return ""
}

// short keeps an echoed word short.
func short(word string) string {
	if len(word) > 40 {
		return word[:40] + "…"
	}
	return word
}

func stageStrings() []string {
	names := make([]string, len(ccci.StageNames))
	for i, s := range ccci.StageNames {
		names[i] = string(s)
	}
	return names
}

func stageList() string { return strings.Join(stageStrings(), ", ") }

// nearest returns the candidate that word was most likely meant to be, or "".
func nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)
	for _, c := range candidates {
		if d := distance(word, c); d < bestDistance && d <= max(1, len(c)/3) {
			best, bestDistance = c, d
		}
	}
	return best
}

// byNearness orders candidates by how likely word was meant to be each of them: first
// those that it is the beginning of, as "1.2.0" of "1.2.0+3.4", then by distance.
// Among equals their order stays.
func byNearness(word string, candidates []string) []string {
	rank := func(c string) int {
		if strings.HasPrefix(strings.TrimPrefix(c, "v"), strings.TrimPrefix(word, "v")) {
			return 0
		}
		return 1 + distance(word, c)
	}
	return slices.SortedStableFunc(slices.Values(candidates), func(a, b string) int { return rank(a) - rank(b) })
}

// distance counts insertions, deletions, changes and swaps of neighbours.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = last, row, before
	}
	return rows[1][len(b)]
}
