package report

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// Text renders one line of foreign text for the middle of a Markdown line.
// Plain words stay plain; anything that a forge could turn into a link, a
// mention or a reference becomes a code span, where forges look for none of them.
func Text(s string) string {
	s = visible(s)
	if s == "" {
		// An empty list item under a line would make that line a heading.
		return "(nothing)"
	}
	if !wordy(s) {
		return span(s)
	}
	var b strings.Builder
	if marker := listMarker(s); marker > 0 {
		b.WriteString(s[:marker-1] + `\` + s[marker-1:marker])
		s = s[marker:]
	}
	for _, r := range s {
		switch r {
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '&':
			b.WriteString("&amp;")
		case '_', '*', '[', ']':
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// listMarker is the length of what would begin a list or underline a heading
// if s stood at the beginning of a line, or 0.
func listMarker(s string) int {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	rest := s[digits:]
	if rest == "" {
		return 0
	}
	if digits > 0 && strings.ContainsRune(".)", rune(rest[0])) || digits == 0 && strings.ContainsRune("-+=", rune(rest[0])) {
		return digits + 1
	}
	return 0
}

// wordy reports whether s, once its few Markdown characters are escaped, can
// only ever be read as words.
func wordy(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(` .,:;()'"%+-/=?…–→<>&_*[]`, r) {
			return false
		}
	}
	lower := strings.ToLower(s)
	for _, link := range []string{"://", "www.", "gh-", "mailto:", "xmpp:"} {
		if strings.Contains(lower, link) {
			return false
		}
	}
	return true
}

// Code renders foreign text as a code span; "" stays "".
func Code(s string) string {
	if s = visible(s); s == "" {
		return ""
	}
	return span(s)
}

func span(s string) string {
	fence := strings.Repeat("`", longestRun(s)+1)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return fence + s + fence
}

// Block renders log lines as a code block that no line can close. Lines are
// cut at 300 bytes.
func Block(lines []string) string {
	fence := "```"
	var b strings.Builder
	for _, line := range lines {
		for part := range strings.SplitSeq(strings.TrimRight(line, "\r\n"), "\n") {
			part = clip(plain.Line(part), 300)
			if n := longestRun(part); n >= len(fence) {
				fence = strings.Repeat("`", n+1)
			}
			b.WriteString(part)
			b.WriteByte('\n')
		}
	}
	return fence + "text\n" + b.String() + fence
}

func longestRun(s string) int {
	longest, run := 0, 0
	for i := range len(s) {
		if s[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// visible makes s one line without any character that hides or reorders text:
// white space collapses, the rest is spelled out as <U+202E>.
func visible(s string) string {
	return strings.Join(strings.Fields(plain.Line(s)), " ")
}

// clip cuts s to at most limit bytes, at a character, and shows that it did.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// linkText is Text for the inside of [...], where a code span is allowed too.
func linkText(s, fallback string) string {
	if strings.TrimSpace(s) == "" {
		s = fallback
	}
	// Brackets bind weaker than code spans, so a span cannot be broken out of.
	return Text(s)
}

// urlPath escapes the path of an artifact; false for what is none.
func urlPath(p string) (string, bool) {
	var parts []string
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return "", false
		}
		escaped := url.PathEscape(part)
		escaped = strings.NewReplacer("(", "%28", ")", "%29", "'", "%27", "*", "%2A").Replace(escaped)
		parts = append(parts, escaped)
	}
	return strings.Join(parts, "/"), true
}

// Duration words a duration for people, see [ccci.DurationWords].
func Duration(d time.Duration) string { return ccci.DurationWords(d) }

// Ago says how long before now t was, or how long after, in few words: "3 min ago", "in 2 hours".
func Ago(t, now time.Time) string {
	past := now.Sub(t)
	switch {
	case past < 0:
		return "in " + about(-past)
	case past < 10*time.Second:
		return "just now"
	}
	return about(past) + " ago"
}

func about(t time.Duration) string {
	units := []struct {
		of   time.Duration
		name string
	}{{365 * 24 * time.Hour, "year"}, {30 * 24 * time.Hour, "month"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "min"}, {time.Second, "s"}}
	for _, u := range units {
		n := int(t / u.of)
		if n < 1 {
			continue
		}
		if n > 1 && u.name != "min" && u.name != "s" {
			return fmt.Sprintf("%d %ss", n, u.name)
		}
		return fmt.Sprintf("%d %s", n, u.name)
	}
	return "moments"
}
