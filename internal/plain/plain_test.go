package plain

import (
	"strings"
	"testing"
	"unicode"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain words":                             "plain words",
		"größer, 日本, ✅, ⚠️":                       "größer, 日本, ✅, ⚠️",
		"a\tb\r\nc\n":                             "a\tb\nc\n",
		"50 %\r100 %":                             "50 % 100 %",
		"\x1b[31mred\x1b[0m":                      "red",
		"\x1b[2J\x1b[1;1Hwiped":                   "wiped",
		"\x1b]0;title\aafter":                     "after",
		"\x1b]8;;https://evil.example\x1b\\click": "click",
		"\x1b]52;c;cm0gLXJmIH4=\aafter":           "after",
		"\x1bP+q544e\x1b\\after":                  "after",
		"\x1b(Bafter\x1bcreset":                   "afterreset",
		"\x1b]8;;never ended":                     "8;;never ended",
		"\x1b]0;a\nnext line":                     "0;a\nnext line",
		"\x1b":                                    "",
		"\u009b31mred\u009d52;c;x\u009c":          "<U+009B>31mred<U+009D>52;c;x<U+009C>",
		"\x9b31m":                                 "?31m",
		"a\u202egpj.exe\u2066b":                   "a<U+202E>gpj.exe<U+2066>b",
		"zero\u200bwidth\ufeff\u00ad":             "zero<U+200B>width<U+FEFF><U+00AD>",
		"\x00\a\b\x7f":                            "<U+0000><U+0007><U+0008><U+007F>",
		"a\u2028b":                                "a b",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Line("a\n\tb\r\nc"); got != "a  b  c" {
		t.Errorf("Line gives %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b]8;;x\x1b\\b\x1b[31m\u009b\u202e\x9b")
	f.Fuzz(func(t *testing.T, s string) {
		text := Text(s)
		for _, r := range text {
			if r != '\n' && r != '\t' && r != emojiStyle && !unicode.IsPrint(r) {
				t.Fatalf("%q becomes %q, with %U", s, text, r)
			}
		}
		if again := Text(text); again != text {
			t.Errorf("%q becomes %q, and that %q", s, text, again)
		}
		if line := Line(s); strings.ContainsAny(line, "\n\t") || len(line) > 8*len(s)+8 {
			t.Errorf("Line(%q) = %q", s, line)
		}
	})
}
