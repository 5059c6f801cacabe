package recipe

import (
	"fmt"
	"strings"
)

// maxAbra bounds how much of an abra.sh is read, in bytes.
const maxAbra = 1 << 20

// ParseAbra reads the literal exports of an abra.sh, which name the versions of
// configs: export NGINX_CONF_VERSION=v3. It is total and executes nothing: a value
// that a shell would have to compute is left out and reported. The later
// export of a key wins. Env.Lookup tells values, the map the line of each key.
func ParseAbra(file string, text []byte) (Env, map[string]int, []Warning) {
	var (
		env      Env
		warnings []Warning
		lines    = map[string]int{}
	)
	if len(text) > maxAbra {
		text = text[:maxAbra]
		warnings = append(warnings, Warning{File: file, Message: fmt.Sprintf("only the first %d KiB are read", maxAbra>>10)})
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		for _, statement := range splitStatements(strings.TrimRight(line, "\r\n")) {
			rest, ok := cutWord(strings.TrimLeft(statement, " \t"), "export")
			if !ok {
				continue
			}
			for _, word := range shellWords(rest) {
				key, value, assigned := strings.Cut(word.text, "=")
				if !assigned {
					continue // an option, or an export of what was assigned elsewhere
				}
				if !envKey.MatchString(key) || strings.ContainsRune(key, '.') {
					continue
				}
				if !word.literal && len(warnings) >= maxWarnings {
					continue
				}
				if !word.literal {
					warnings = append(warnings, Warning{File: file, Line: number,
						Message: fmt.Sprintf("export of %s is computed; only literal values are read, so it is left out", shorten(key))})
					continue
				}
				if strings.ContainsRune(value, 0) {
					continue
				}
				env.Set(key, value)
				lines[key] = number
			}
		}
	}
	return env, lines, warnings
}

func cutWord(s, word string) (string, bool) {
	rest, ok := strings.CutPrefix(s, word)
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return "", false
	}
	return rest, true
}

// splitStatements cuts a line at ; and & and | outside of quotes, and drops comments.
func splitStatements(line string) []string {
	var (
		out   []string
		quote byte
		start int
	)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '\\':
			i++
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t' || line[i-1] == ';'):
			return append(out, line[start:i])
		case c == ';' || c == '&' || c == '|':
			out = append(out, line[start:i])
			start = i + 1
		}
	}
	return append(out, line[start:])
}

type shellWord struct {
	text    string
	literal bool // false when a shell would expand something in it
}

// shellWords splits at blanks and removes quotes, as a shell would before expanding.
func shellWords(s string) []shellWord {
	var (
		out    []shellWord
		b      strings.Builder
		inWord bool
		quote  byte
		word   = shellWord{literal: true}
	)
	flush := func() {
		if inWord {
			word.text = b.String()
			out = append(out, word)
		}
		b.Reset()
		inWord, word = false, shellWord{literal: true}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if quote == 0 && (c == ' ' || c == '\t') {
			flush()
			continue
		}
		inWord = true
		switch {
		case quote == '\'' && c != '\'':
			b.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '$' || c == '`' || c == '(':
			word.literal = false
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		word.literal = false // runs on into the next line
	}
	flush()
	return out
}
