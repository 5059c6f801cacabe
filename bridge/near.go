package bridge

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// maxProse is how many words a line of prose with a command in it may have: "please !testme"
// was meant as a command, a sentence about commands was not.
const maxProse = 6

// nearMiss recognises what was meant as a command and is none: the first or the last line
// begins with "!" and a word that is near a command, or is a few words of which one is a
// command. Code, quotations, lists and HTML are none.
func nearMiss(body string) Parsed {
	lines := strings.FieldsFunc(body, func(r rune) bool { return r == '\n' || r == '\r' })
	var written []string
	for _, line := range lines {
		if strings.TrimSpace(line) != "" {
			written = append(written, line)
		}
	}
	if len(written) == 0 {
		return Parsed{}
	}
	for _, line := range []string{written[0], written[len(written)-1]} {
		if verb, word, rest := attempt(line); verb != "" {
			return Parsed{Kind: IsNear, Command: Command{Verb: verb}, Reply: correct(verb, word, rest)}
		}
	}
	return Parsed{}
}

// attempt returns the command that a line was meant to be, the word that stands for it and
// what follows the word; "" when the line was meant as none.
func attempt(line string) (verb Verb, word, rest string) {
	// Three spaces are the most that Markdown does not take for code.
	text := strings.TrimLeft(line, " ")
	if len(line)-len(text) > 3 || text == "" {
		return "", "", ""
	}
	if text[0] == '!' {
		text = strings.TrimLeft(text, "! ")
		end := strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) })
		if end < 0 {
			end = len(text)
		}
		if end == 0 {
			return "", "", ""
		}
		names := make([]string, len(commands))
		for i, c := range commands {
			names[i] = string(c.verb)
		}
		word = "!" + text[:end]
		return Verb(nearest(strings.ToLower(word), names)), word, text[end:]
	}
	if first, _ := utf8.DecodeRuneInString(text); !unicode.IsLetter(first) && first != '@' {
		return "", "", ""
	}
	words := strings.Fields(text)
	if len(words) > maxProse {
		return "", "", ""
	}
	for _, w := range words {
		w = strings.TrimRight(w, ".,:;!?")
		for _, c := range commands {
			if strings.EqualFold(w, string(c.verb)) {
				return c.verb, string(c.verb), ""
			}
		}
	}
	return "", "", ""
}

// correct says what kept a near miss from being a command, with the line to write.
func correct(verb Verb, word, rest string) string {
	nothing := "nothing was done"
	if verb.starts() {
		nothing = "nothing was started"
	}
	line := string(verb) + strings.TrimRight(rest, " \t")
	if parseLine(line).Kind != IsCommand {
		line = string(verb)
	}
	why := fmt.Sprintf("A command has to be the whole comment, so %s.", nothing)
	switch {
	case !strings.EqualFold(word, string(verb)):
		why = fmt.Sprintf("%s is not a command, so %s. The nearest one is %s.", report.Code(short(word)), nothing, report.Code(string(verb)))
	case word != string(verb) && verb.starts():
		why = fmt.Sprintf("%s starts a run only in small letters, so %s.", report.Code(string(verb)), nothing)
	}
	return why + " Write this as a new comment, with nothing before or after it; an edited comment is never a command:\n\n" + report.Block([]string{line})
}
