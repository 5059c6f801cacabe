package recipe

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Bounds of an env file. Values refer to earlier ones, so a short text could
// otherwise stand for a very long one.
const (
	maxEnvText  = 1 << 20 // bytes of the file
	maxEnvValue = 1 << 16 // bytes of one value
	maxEnvTotal = 4 << 20 // bytes of all assigned values together
)

// Modifiers are the k=v pairs in the comment behind an assignment, as
// length=128 in SECRET_X_VERSION=v1 # length=128.
type Modifiers map[string]string

// EnvFile is a parsed env file: .env.sample, or an app's own.
type EnvFile struct {
	Env
	// Modifiers by key. An assignment that is commented out counts where no
	// active one of its key has any: an operator who switches it on takes
	// the whole line.
	Modifiers map[string]Modifiers
	Lines     map[string]int // key -> line of its last assignment, from 1
	Warnings  []Warning
}

var (
	envKey       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
	envReference = regexp.MustCompile(`^\$\(?\{?([A-Z0-9_]+)\}?`)
	plainly      = regexp.MustCompile(`^\$(?:\{[A-Z0-9_]+\}|[A-Z0-9_]+)$`)
	sampleLine   = regexp.MustCompile(`^#+\s*([A-Za-z_][A-Za-z0-9_]*)=[^#]*\s#(.*)$`)
)

// ParseEnv reads an env file as abra does: one assignment after the other, where
// $KEY and ${KEY} stand for what was assigned before (also to the very key that
// is being assigned), except within single quotes. The later assignment of a key
// wins. abra's reader is github.com/joho/godotenv; where a text means something else to it, or
// nothing, a warning names the line. file is its name in errors, which are of CodeInvalid and name the line.
func ParseEnv(file string, text []byte) (*EnvFile, error) {
	if len(text) > maxEnvText {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s is larger than %d KiB", file, maxEnvText>>10).WithHint("an env file is a few hundred lines at most")
	}
	if !utf8.Valid(text) || strings.ContainsRune(string(text), 0) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s is not UTF-8 text", file).WithHint("save it as plain UTF-8")
	}
	clean := strings.ReplaceAll(strings.TrimPrefix(string(text), "\ufeff"), "\r\n", "\n")
	p := &envParser{
		file: file, rest: clean, line: 1,
		out:       &EnvFile{Modifiers: map[string]Modifiers{}, Lines: map[string]int{}},
		commented: map[string]Modifiers{},
	}
	if strings.HasPrefix(string(text), "\ufeff") {
		p.warnf("the file begins with a byte order mark, at which abra refuses it; save it as UTF-8 without one")
	}
	for p.rest != "" {
		if err := p.statement(); err != nil {
			return nil, err
		}
	}
	for key, mods := range p.commented {
		if p.out.Modifiers[key] == nil {
			p.out.Modifiers[key] = mods
		}
	}
	return p.out, nil
}

type envParser struct {
	file      string
	rest      string
	line      int
	total     int
	out       *EnvFile
	commented map[string]Modifiers
}

func (p *envParser) errorf(line int, hint, format string, args ...any) error {
	return ccci.Errorf(ccci.CodeInvalid, "%s line %d: %s", p.file, line, fmt.Sprintf(format, args...)).WithHint("%s", hint)
}

// maxWarnings bounds what is said about one file, or about all compose files.
const maxWarnings = 200

func (p *envParser) warnf(format string, args ...any) {
	if len(p.out.Warnings) >= maxWarnings {
		return
	}
	p.out.Warnings = append(p.out.Warnings, Warning{File: p.file, Line: p.line, Message: fmt.Sprintf(format, args...)})
}

// takeLine consumes the rest of the current line.
func (p *envParser) takeLine() string {
	line, rest, _ := strings.Cut(p.rest, "\n")
	p.rest = rest
	p.line++
	return line
}

func (p *envParser) statement() error {
	line, _, _ := strings.Cut(p.rest, "\n")
	trimmed := strings.TrimSpace(line)
	switch {
	case trimmed == "":
		p.takeLine()
		return nil
	case trimmed[0] == '#':
		if m := sampleLine.FindStringSubmatch(trimmed); m != nil {
			if mods := parseModifiers(m[2]); mods != nil {
				p.commented[m[1]] = mods
			}
		}
		p.takeLine()
		return nil
	}
	name, _, ok := strings.Cut(line, "=")
	if !ok {
		return p.errorf(p.line, "write KEY=value, or put # in front of a remark", "%q is no assignment", shorten(trimmed))
	}
	if strings.Contains(line, "\r") {
		p.warnf("the line has a carriage return in it, where abra's reader begins another line")
	}
	key := strings.TrimFunc(strings.TrimLeftFunc(name, unicode.IsSpace), envSpace)
	if after, ok := strings.CutPrefix(key, "export "); ok {
		p.warnf("%q: env files have no export; abra reads the key without it", shorten(trimmed))
		key = strings.TrimLeftFunc(after, envSpace)
	}
	if !envKey.MatchString(key) || key == "export" {
		return p.errorf(p.line, "a key has letters, digits and _, and does not start with a digit", "%q is no key", shorten(key))
	}
	p.rest = p.rest[len(name)+1:]
	return p.assignment(key)
}

func (p *envParser) assignment(key string) error {
	start := p.line
	value, comment, err := p.value(key)
	if err != nil {
		return err
	}
	p.total += len(value)
	if len(value) > maxEnvValue || p.total > maxEnvTotal {
		return p.errorf(start, "a value that repeats itself grows with every line", "the value of %s is too long", shorten(key))
	}
	p.out.Set(key, value)
	p.out.Lines[key] = start
	if mods := parseModifiers(comment); mods != nil {
		p.out.Modifiers[key] = mods
	}
	return nil
}

// value consumes what stands behind the equals sign, to the end of the line.
func (p *envParser) value(key string) (value, comment string, err error) {
	trimmed := strings.TrimLeftFunc(p.rest, envSpace)
	spaced := len(trimmed) < len(p.rest)
	if trimmed != "" && (trimmed[0] == '"' || trimmed[0] == '\'') {
		p.rest = trimmed
		return p.quoted(key)
	}
	line := p.takeLine()
	p.line-- // warnings below are about this line
	defer func() { p.line++ }()
	line = strings.TrimFunc(line, envSpace)
	if i := commentStart(line, spaced); i >= 0 {
		theirs := line // they take the last # behind a space for the begin of a comment, and none at the begin of the value
		if last := lastComment(line); last > 0 {
			theirs = strings.TrimFunc(line[:last], envSpace)
		}
		line, comment = strings.TrimFunc(line[:i], envSpace), line[i+1:]
		if theirs != line {
			p.warnf("abra reads the value of %s as %q; put the remark on a line of its own", shorten(key), shorten(theirs))
		}
	}
	return p.expand(key, line), comment, nil
}

// envSpace reports what abra's reader takes for white space within a line.
func envSpace(r rune) bool { return strings.ContainsRune("\t\v\f\r \u0085\u00a0", r) }

// lastComment finds the last # behind white space, or -1.
func lastComment(line string) int {
	for i := strings.LastIndexByte(line, '#'); i > 0; i = strings.LastIndexByte(line[:i], '#') {
		if before, _ := utf8.DecodeLastRuneInString(line[:i]); envSpace(before) {
			return i
		}
	}
	return -1
}

// commentStart finds the # that begins a comment: one behind white space.
func commentStart(line string, spaced bool) int {
	for i := range len(line) {
		if line[i] != '#' {
			continue
		}
		if before, n := utf8.DecodeLastRuneInString(line[:i]); n == 0 && spaced || envSpace(before) {
			return i
		}
	}
	return -1
}

func (p *envParser) quoted(key string) (value, comment string, err error) {
	start, quote := p.line, p.rest[0]
	end := 1
	for end < len(p.rest) && p.rest[end] != quote {
		if quote == '"' && p.rest[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(p.rest) {
		return "", "", p.errorf(start, "close the quote", "the value of %s has no closing %c", shorten(key), quote)
	}
	raw := p.rest[1:end]
	p.rest = p.rest[end+1:]
	switch {
	case quote == '"' && strings.HasSuffix(raw, `\"`):
		p.warnf("abra loses the quote that the value of %s ends in", shorten(key))
	case strings.HasSuffix(raw, `\`):
		p.warnf("the value of %s ends in a backslash: abra does not take the %c behind it for the end of the value", shorten(key), quote)
	}
	value = raw
	if quote == '"' {
		value = p.expand(key, unescape(raw))
	}
	p.line += strings.Count(raw, "\n")
	last := p.line
	tail := p.takeLine()
	trimmed := strings.TrimSpace(tail)
	if trimmed != "" && trimmed[0] != '#' {
		return "", "", p.errorf(last, "quote the whole value, and put white space before a comment",
			"%q stands behind the closing quote of %s", shorten(trimmed), shorten(key))
	}
	return value, strings.TrimPrefix(trimmed, "#"), nil
}

// unescape takes the backslashes out of a double-quoted text, but for those before a dollar
// sign, as abra's reader does before it replaces references.
func unescape(raw string) string {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			b.WriteByte(raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case '$':
			b.WriteString(`\$`)
		default:
			b.WriteByte(raw[i])
		}
	}
	return b.String()
}

// expand replaces references to earlier keys; a backslash keeps a dollar sign. Only upper-case
// names are references, as in the library that abra uses.
func (p *envParser) expand(key, raw string) string {
	if !strings.ContainsRune(raw, '$') {
		return raw
	}
	var b strings.Builder
	for i := 0; i < len(raw); {
		if b.Len() > maxEnvValue {
			return b.String() // refused by assignment
		}
		c := raw[i]
		switch {
		case strings.HasPrefix(raw[i:], `\$`):
			b.WriteByte('$')
			i += 2
		case c == '$':
			m := envReference.FindStringSubmatch(raw[i:])
			if m == nil {
				if strings.HasPrefix(raw[i:], "${") {
					p.warnf("the value of %s holds %q, which env files do not know; it stays as it is written", shorten(key), shorten(raw[i:]))
				}
				b.WriteByte(c)
				i++
				continue
			}
			name := m[1]
			value, ok := p.out.Lookup(name)
			switch {
			case !plainly.MatchString(m[0]):
				p.warnf("the value of %s holds %q, of which abra reads %q as $%s and leaves the rest", shorten(key), shorten(raw[i:]), shorten(m[0]), shorten(name))
			case !ok:
				p.warnf("the value of %s refers to $%s, which is not assigned before; it becomes empty (single quotes keep a dollar sign)", shorten(key), shorten(name))
			}
			b.WriteString(value)
			i += len(m[0])
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

// parseModifiers reads k=v pairs; nil when the comment holds none.
func parseModifiers(comment string) Modifiers {
	var mods Modifiers
	for _, field := range strings.Fields(comment) {
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" || value == "" {
			continue
		}
		if mods == nil {
			mods = Modifiers{}
		}
		mods[name] = value
	}
	return mods
}

// shorten keeps quoted input in messages readable.
func shorten(s string) string {
	const most = 60
	s = s[:min(len(s), 4*most+4)]
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	runes := 0
	for at := range s { // no further than needed: it is asked often about long texts
		if runes++; runes > most {
			return s[:at] + "…"
		}
	}
	return s
}
