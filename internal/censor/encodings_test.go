package censor

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"mime/quotedprintable"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// encoding is one form in which a program prints a value.
type encoding struct {
	name   string
	encode func(string) string
}

var encodings = []encoding{
	{"plain", func(s string) string { return s }},
	{"upper case", asciiUpper},
	{"reversed", func(s string) string { return string(reversed(s)) }},
	{"base64", func(s string) string { return b64(s) }},
	{"base64 of user:value", func(s string) string { return b64("admin:" + s) }},
	{"base64 shifted by one", func(s string) string { return b64("a" + s + "tail") }},
	{"base64 for URLs", func(s string) string { return base64.URLEncoding.EncodeToString([]byte("ab" + s)) }},
	{"base64 wrapped at 76", func(s string) string { return wrap(b64(strings.Repeat("x", 50)+s+strings.Repeat("y", 90)), 76, "\n") }},
	{"base64 wrapped at 10 with CRLF", func(s string) string { return wrap(b64(s), 10, "\r\n") }},
	{"base64 indented in YAML", func(s string) string { return wrap(b64(s), 12, "\n    ") }},
	{"base64 reversed", func(s string) string { return string(reversed(b64("k=" + s))) }},
	{"base64 in a JSON string", func(s string) string { return quoteJSON(wrap(b64(s), 16, "\n"), true) }},
	{"base64 with slashes escaped", func(s string) string { return strings.ReplaceAll(b64(s), "/", `\/`) }},
	{"base64 in a URL", func(s string) string { return url.QueryEscape(b64(s)) }},
	{"JSON", func(s string) string { return quoteJSON(s, false) }},
	{"JSON with HTML escaped", func(s string) string { return quoteJSON(s, true) }},
	{"JSON within JSON", func(s string) string { return quoteJSON(quoteJSON(s, true), true) }},
	{"JSON, ASCII alone", strconv.QuoteToASCII},
	{"Go syntax", strconv.Quote},
	{"every byte as \\x", eachByte(`\x%02x`)},
	{"every character as \\u", func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if r > 0xffff {
				fmt.Fprintf(&b, `\U%08x`, r)
			} else {
				fmt.Fprintf(&b, `\u%04X`, r)
			}
		}
		return b.String()
	}},
	{"every byte in octal", eachByte(`\%03o`)},
	{"HTML", html.EscapeString},
	{"HTML, decimal references", eachRune(`&#%d;`)},
	{"HTML, hexadecimal references", eachRune(`&#x%x;`)},
	{"query", url.QueryEscape},
	{"path", url.PathEscape},
	{"every byte as %xx", eachByte(`%%%02x`)},
	{"percent twice", func(s string) string { return url.PathEscape(url.PathEscape(s)) }},
	{"quoted-printable", func(s string) string {
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		fmt.Fprint(w, strings.Repeat("z", 60)+s)
		w.Close()
		return b.String()
	}},
	{"shell, single quotes", func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }},
	{"shell, as Python quotes", func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }},
	{"shell, backslashes", func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if strings.ContainsRune("\\'\"$&;|<>()*?[]{}!~`# =^", r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		return b.String()
	}},
	{"SQL", func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }},
	{"CSV", func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }},
	{"hex", func(s string) string { return hex.EncodeToString([]byte(s)) }},
	{"hex, upper case", func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }},
	{"hex, spaces", eachByte("%02x ")},
	{"hex, colons", eachByte("%02X:")},
	{"hex, a C array", eachByte("0x%02x, ")},
	{"xxd -p", func(s string) string { return wrap(hex.EncodeToString([]byte(s)), 60, "\n") }},
	{"byte values in decimal", func(s string) string { return fmt.Sprint([]byte(s)) }},
	{"byte values in JSON", func(s string) string { return strings.ReplaceAll(fmt.Sprint([]byte(s)), " ", ", ") }},
	{"xxd", func(s string) string { return xxd("k=" + s + "\n") }},
	{"hexdump -C", func(s string) string { return hex.Dump([]byte("token " + s + "\n")) }},
	{"od -A x -t x1z", func(s string) string {
		return strings.NewReplacer("  |", "  >", "|\n", "<\n").Replace(hex.Dump([]byte(s)))
	}},
	{"hexdump, od -x", words(4, "%04x")},
	{"od", words(6, "%06o")},
	{"od -b", func(s string) string { return od(s, func(b byte) string { return fmt.Sprintf(" %03o", b) }) }},
	{"od -c", func(s string) string { return od(s, odChar) }},
	{"colours within", func(s string) string { return between(s, 3, "\x1b[1;31m") }},
	{"colours within, in JSON", func(s string) string { return quoteJSON(between(s, 5, "\x1b[0m"), true) }},
	{"a link within", func(s string) string { return between(s, 4, "\x1b]8;;https://example.org\x1b\\") }},
	{"gzip", func(s string) string { return zip("the value is " + s) }},
	{"base64 of gzip", func(s string) string { return b64(zip("the value is " + s)) }},
	{"base64 of gzip, wrapped", func(s string) string { return wrap(b64(zip(s)), 76, "\n") }},
	{"base64 of gzip of base64", func(s string) string { return b64(zip(b64(s))) }},
}

// longEncodings are those that a short value is not looked for in: it would run over a line.
var longEncodings = []encoding{
	{"wrapped at 40", func(s string) string { return wrap(s, 40, "\n") }},
	{"wrapped at 7", func(s string) string { return wrap(s, 7, "\n") }},
}

// joined are lines that a sign at their ends joins.
var joined = []encoding{
	{"a shell's continued line", func(s string) string { return wrap(s, 6, "\\\n") }},
	{"a soft line break", func(s string) string {
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		fmt.Fprint(w, strings.Repeat("z", 70)+s)
		w.Close()
		return b.String()
	}},
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func asciiUpper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 32
		}
	}
	return string(b)
}

func wrap(s string, width int, end string) string {
	var b strings.Builder
	for len(s) > width {
		cut := width
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		b.WriteString(s[:cut] + end)
		s = s[cut:]
	}
	return b.String() + s
}

func between(s string, every int, what string) string {
	var b strings.Builder
	for i := range len(s) {
		if i%every == every-1 && utf8.RuneStart(s[i]) {
			b.WriteString(what)
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func quoteJSON(s string, escape bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escape)
	_ = enc.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}

func eachByte(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, format, s[i])
		}
		return b.String()
	}
}

func eachRune(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			fmt.Fprintf(&b, format, r)
		}
		return b.String()
	}
}

func zip(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	fmt.Fprint(w, s)
	w.Close()
	return b.String()
}

func xxd(s string) string {
	var b strings.Builder
	for at := 0; at < len(s); at += 16 {
		line := s[at:min(at+16, len(s))]
		fmt.Fprintf(&b, "%08x: ", at)
		for i := range 16 {
			switch {
			case i < len(line):
				fmt.Fprintf(&b, "%02x", line[i])
			default:
				b.WriteString("  ")
			}
			if i%2 == 1 {
				b.WriteByte(' ')
			}
		}
		b.WriteString(" " + gutter(line) + "\n")
	}
	return b.String()
}

func gutter(line string) string {
	b := []byte(line)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '.'
		}
	}
	return string(b)
}

// words prints 16-bit words as they are in the memory of most machines.
func words(width int, format string) func(string) string {
	return func(s string) string {
		s = "xy" + s
		var b strings.Builder
		for at := 0; at < len(s); at += 16 {
			fmt.Fprintf(&b, "%07o", at)
			for i := at; i < min(at+16, len(s)); i += 2 {
				word := int(s[i])
				if i+1 < len(s) {
					word |= int(s[i+1]) << 8
				}
				fmt.Fprintf(&b, " "+format, word)
			}
			b.WriteByte('\n')
		}
		return b.String()
	}
}

func od(s string, cell func(byte) string) string {
	var b strings.Builder
	for at := 0; at < len(s); at += 16 {
		fmt.Fprintf(&b, "%07o", at)
		for i := at; i < min(at+16, len(s)); i++ {
			b.WriteString(cell(s[i]))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func odChar(c byte) string {
	switch c {
	case 0:
		return `  \0`
	case '\n':
		return `  \n`
	case '\r':
		return `  \r`
	case '\t':
		return `  \t`
	case '\a':
		return `  \a`
	case '\b':
		return `  \b`
	case '\f':
		return `  \f`
	case '\v':
		return `  \v`
	}
	if c < ' ' || c > '~' {
		return fmt.Sprintf(" %03o", c)
	}
	return "   " + string(c)
}

// secrets of the kinds that recipes have: generated, with signs, in other scripts, long.
var values = []string{
	"s3cr3t/with+odd=chars&more", "hunter2hunter2", "a1b2c3d4e5f60718293a4b5c6d7e8f90", `it's "quoted" & <tagged> \ 100%`,
	"pässwörd-ключ-密碼-🔑🔑", "Xk9$mQ2!vB7#nL4@", strings.Repeat("0123456789abcdefXYZ", 12), "tr0ub4dor", "a'b''c\"d\"\"e--f",
}

func TestU17_EveryEncodingIsFoundAndMasked(t *testing.T) {
	for _, value := range values {
		all := append(encodings, joined...)
		if len(value) >= lineLength {
			all = slices.Concat(encodings, joined, longEncodings)
		}
		var c Censor
		c.Add("db_password", ccci.NewSecret(value))
		for _, e := range all {
			coded := e.encode(value)
			text := "before: 1 2 3\n<" + coded + ">\nafter: 4 5 6\n"
			if found := c.Find([]byte(text)); !slices.Equal(found, []string{"db_password"}) {
				t.Errorf("%s of %q: found %q in\n%s", e.name, value, found, text)
				continue
			}
			masked := c.MaskString(text)
			if !strings.Contains(masked, mask) || !strings.HasPrefix(masked, "before: 1 2 3\n") || e.name != "gzip" && !strings.HasSuffix(masked, "after: 4 5 6\n") {
				t.Errorf("%s of %q becomes\n%q", e.name, value, masked)
			}
			if left := c.Find([]byte(masked)); len(left) > 0 {
				t.Errorf("%s of %q: still in\n%q", e.name, value, masked)
			}
			if strings.Contains(masked, value[:MinLength]) || strings.Contains(masked, value[len(value)-MinLength:]) {
				t.Errorf("%s of %q: a part is left in\n%q", e.name, value, masked)
			}
		}
	}
}

// stream writes text in pieces and returns what came out.
func stream(c *Censor, text []byte, sizes ...int) (out []byte, found []string) {
	var b bytes.Buffer
	s := c.NewStream(func(text []byte, _ int64) error { b.Write(text); return nil })
	for i := 0; len(text) > 0; i++ {
		n := min(max(sizes[i%len(sizes)], 1), len(text))
		if _, err := s.Write(text[:n]); err != nil {
			panic(err)
		}
		text = text[n:]
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
	return b.Bytes(), s.Found()
}

// A secret is found wherever the windows' borders cut it.
func TestU17_EncodingsAreFoundAcrossWindows(t *testing.T) {
	value := values[0]
	var c Censor
	c.Add("k", ccci.NewSecret(value))
	for _, e := range slices.Concat(encodings, longEncodings) {
		coded := "\n" + e.encode(value) + "\n"
		// The window passes on all but its end, so a secret may begin before either border.
		for _, at := range []int{windowSize - reach - len(coded)/2, windowSize - len(coded)/3} {
			text := []byte(strings.Repeat("filler, 12 words; ", at/18+1)[:at] + coded + strings.Repeat(" and more", 10))
			out, found := stream(&c, text, 16<<10)
			if len(found) != 1 || bytes.Count(out, []byte(mask)) != 1 || bytes.Contains(out, []byte(coded[len(coded)/3:])) {
				t.Errorf("%s at %d: found %q, %d masks", e.name, at, found, bytes.Count(out, []byte(mask)))
			}
		}
	}
}

func FuzzEncodingsAreFound(f *testing.F) {
	for i, value := range values {
		f.Add(value, uint8(7*i), uint16(i*1000), uint16(3+i))
	}
	f.Fuzz(func(t *testing.T, value string, which uint8, pad, size uint16) {
		if len(normalise(value)) < MinLength || len(value) > pieceLength || strings.TrimSpace(value) != value ||
			strings.ContainsFunc(value, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
			return
		}
		var c Censor
		c.Add("k", ccci.NewSecret(value))
		e := encodings[int(which)%len(encodings)]
		text := []byte(strings.Repeat("some text of 24 letters\n", int(pad)/24+1) + e.encode(value) + "\n")
		out, found := stream(&c, text, int(size))
		if len(found) != 1 {
			t.Fatalf("%s of %q is not found in %q", e.name, value, text[max(0, len(text)-400):])
		}
		if again, _ := stream(&c, text, 1<<20); !bytes.Equal(out, again) {
			t.Fatalf("%s of %q: the pieces of %d bytes make a difference", e.name, value, size)
		}
	})
}

// Text without the secret stays as it is, byte by byte.
func FuzzOtherTextStays(f *testing.F) {
	f.Add([]byte("a line\n\x1b[31mred\x1b[0m %41 \\u0041 &lt; H4sIAAAAAAAA 00000000: 6865 6c6c 6f00  hello\n"), uint8(5))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var c Censor
		c.Add("k", ccci.NewSecret("Zq8-generated-and-not-there-91"))
		c.Add("m", ccci.NewSecret("kGw7xYt2pLs9"))
		if len(c.Find(text)) > 0 {
			return
		}
		if out, _ := stream(&c, text, int(size)); !bytes.Equal(out, text) {
			t.Fatalf("%q becomes %q", text, out)
		}
	})
}

func BenchmarkStream(b *testing.B) {
	var c Censor
	for i := range 10 {
		c.Add(fmt.Sprint("s", i), ccci.NewSecret(fmt.Sprintf("Zq8-generated-%02d-value", i)))
	}
	for name, line := range map[string]string{
		"plain":   "2026-11-29T20:15:00Z INFO request served method=GET path=/api/v1/items status=200 took=12ms\n",
		"json":    `{"level":"info","msg":"request \"served\"","path":"\/api\/v1","q":"a%20b&amp;c"}` + "\n",
		"colours": "\x1b[32mINFO\x1b[0m  request served \x1b[1mGET\x1b[0m /api/v1/items\n",
	} {
		text := []byte(strings.Repeat(line, (1<<20)/len(line)))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s := c.NewStream(nil)
				_, _ = s.Write(text)
				_ = s.Close()
			}
		})
	}
}

// Ordinary text that only resembles a secret stays.
func TestU17_OrdinaryTextIsNotMasked(t *testing.T) {
	var c Censor
	for _, value := range []string{"changeme", "adminadmin", "password1", "12345678", "deadbeef", "the quick brown fox"} {
		c.Add(value, ccci.NewSecret(value))
	}
	for _, text := range []string{
		"change\nme\n", "admin\nadmin\n", "pass word1", "1234 5678 is a number\n", "dead:beef:1234", "12,34,56,78", "the quick\n", "quick brown fox\n",
		"0123 4567", "change me", "99 104 97 110 103 101\n",
	} {
		if got := c.MaskString(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// What was shortened before it was masked may end with a half of a secret.
func TestU17_HalfOfASecretIsMaskedWhereATextWasCut(t *testing.T) {
	var c Censor
	c.Add("k", ccci.NewSecret("kGw7xYt2pLs9QmZ4"))
	for text, want := range map[string]string{
		"psql --password=kGw7xYt…":                                   "psql --password=***…",
		"running a --p kGw7xYt2pLs9Q… in app: kGw7xYt2pLs... failed": "running a --p ***… in app: ***... failed",
		"as hex 6b477737785…":                                        "as hex ***…",
		"a line…\nkGw7xYt2pLs9QmZ4 and…":                             "a line…\n*** and…",
		"kGw7… is too little":                                        "kGw7… is too little",
		"waiting…":                                                   "waiting…",
		"no cut at all: kGw7xYt2pL":                                  "no cut at all: kGw7xYt2pL",
	} {
		if got := c.MaskCut(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
		if got := strings.Join(c.MaskLines(strings.Split(text, "\n")), "\n"); got != want {
			t.Errorf("the lines of %q become %q, want %q", text, got, want)
		}
	}
}

// The time grows with the length alone, however often the text was cut: an app writes the text. Where the
// whole rest is searched for each cut, it is minutes instead of a second.
func TestU17_CutsTakeLittleTime(t *testing.T) {
	var c Censor
	c.Add("k", ccci.NewSecret("kGw7xYt2pLs9QmZ4"))
	for _, cut := range []string{"…x", "...x", "kGw7xYt…, "} {
		text := strings.Repeat(cut, (6<<20)/len(cut)) + "…"
		done := make(chan string, 1)
		go func() { done <- c.MaskCut(text) }()
		select {
		case got := <-done:
			if want := strings.ReplaceAll(text, "kGw7xYt", mask); got != want {
				t.Errorf("%q becomes another text: %.40q", cut, got)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("6 MiB of %q take more than 30 s", cut)
		}
	}
}

// A packed text longer than a window cannot be looked through; it is covered, the rest is not.
func TestU17_LongPackedTextIsCovered(t *testing.T) {
	var c Censor
	c.Add("k", ccci.NewSecret(values[0]))
	noise := make([]byte, 300<<10+5)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	packed := wrap(b64(zip(string(noise)+values[0])), 76, "\n")
	text := "before\n" + packed + "\nafter it\n"
	out, _ := stream(&c, []byte(text), 1000)
	if got := string(out); got != "before\n***\nafter it\n" {
		t.Errorf("%d bytes become %d: %.60q … %.60q", len(text), len(got), got, got[max(0, len(got)-60):])
	}
	short := "before\n" + wrap(b64(zip("nothing of it")), 20, "\n") + "\nafter it\n"
	if got := c.MaskString(short); got != short {
		t.Errorf("%q becomes %q", short, got)
	}
}

// The writer of a run's log passes complete lines on at once, but holds back one that may
// be the beginning of a secret.
func TestU17_WriterPassesLinesOn(t *testing.T) {
	var c Censor
	c.Add("k", ccci.NewSecret("kGw7xYt2pLs9QmZ4"))
	var out bytes.Buffer
	w := c.NewWriter(&out)
	for _, step := range []struct{ write, want string }{
		{"a line\n", "a line\n"}, {"half", ""}, {" a line\nkGw7xYt2\n", "half a line\n"}, {"pLs9QmZ4 ends\n", "*** ends\n"}, {"last", ""},
	} {
		out.Reset()
		if _, err := w.Write([]byte(step.write)); err != nil || out.String() != step.want {
			t.Errorf("after %q comes %q, %v", step.write, out.String(), err)
		}
	}
	out.Reset()
	if err := w.Flush(); err != nil || out.String() != "last" {
		t.Errorf("Flush gives %q, %v", out.String(), err)
	}
}

// Memory does not grow with the text.
func TestU17_StreamNeedsConstantMemory(t *testing.T) {
	var c Censor
	c.Add("k", ccci.NewSecret(values[0]))
	piece := bytes.Repeat([]byte("one long line without an end "), 36) // about 1 KiB
	s := c.NewStream(func([]byte, int64) error { return nil })
	var before, after runtime.MemStats
	for i := range 16 << 10 {
		if i == 1<<10 { // the buffers are there
			runtime.ReadMemStats(&before)
		}
		if _, err := s.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("16 MiB of text needed %d MiB", grown>>20)
	}
	if _, err := s.Write([]byte(values[0])); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || len(s.Found()) != 1 {
		t.Errorf("found %q behind it, %v", s.Found(), err)
	}
}
