package settings

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// sample has a field of every kind that a settings struct may have.
type sample struct {
	Name    string            `yaml:"name" default:"cc-ci" doc:"A text."`
	Count   int               `yaml:"count" default:"3" doc:"A number."`
	On      bool              `yaml:"on" default:"true" doc:"A truth value."`
	Wait    time.Duration     `yaml:"wait" default:"5s" doc:"A duration."`
	Codes   []int             `yaml:"codes" default:"[200, 204]" doc:"Numbers."`
	Words   []string          `yaml:"words" doc:"Texts | words."`
	Env     map[string]string `yaml:"env" doc:"Texts by name."`
	Body    any               `yaml:"body" doc:"Anything."`
	Inner   inner             `yaml:"inner" doc:"More."`
	Steps   []HTTPStep        `yaml:"steps" doc:"What to do."`
	Last    *HTTPStep         `yaml:"last" doc:"What to do in the end."`
	Derived string            `yaml:"-"`
	private string
}

type inner struct {
	Path string `yaml:"path" default:"/" doc:"A path."`
}

// HTTPStep stands behind a list and a pointer.
type HTTPStep struct {
	Method string `yaml:"method" default:"GET" doc:"A method."`
	Path   string `yaml:"path" doc:"A path."`
}

func defaults() sample {
	var s sample
	Defaults(&s)
	return s
}

// with returns the defaults after a change.
func with(change func(*sample)) sample {
	s := defaults()
	change(&s)
	return s
}

func decode(text string) (sample, Problems) {
	s := defaults()
	d := NewDecoder("f.yml")
	d.Decode([]byte(text), &s)
	return s, d.Problems()
}

func TestDefaults(t *testing.T) {
	want := sample{Name: "cc-ci", Count: 3, On: true, Wait: 5 * time.Second, Codes: []int{200, 204}, Inner: inner{Path: "/"}}
	if diff := cmp.Diff(want, defaults(), cmp.AllowUnexported(sample{})); diff != "" {
		t.Error(diff)
	}
}

func TestU8_DecodeReadsEveryKind(t *testing.T) {
	for _, tc := range []struct {
		text   string
		change func(*sample)
	}{
		{"", func(*sample) {}},
		{"---\n", func(*sample) {}},
		{"# nothing\n", func(*sample) {}},
		{"name:\ncount: ~\nwords: null", func(*sample) {}}, // nothing stated: the defaults
		{"name: ''", func(s *sample) { s.Name = "" }},
		{"name: 1.10", func(s *sample) { s.Name = "1.10" }}, // numbers keep their spelling
		{"name: 2024-05-01", func(s *sample) { s.Name = "2024-05-01" }},
		{"name: 0x1F", func(s *sample) { s.Name = "0x1F" }},
		{"name: yes", func(s *sample) { s.Name = "yes" }}, // YAML 1.2
		{`name: "yes"`, func(s *sample) { s.Name = "yes" }},
		{"count: -7", func(s *sample) { s.Count = -7 }},
		{"on: FALSE", func(s *sample) { s.On = false }},
		{"wait: 1h30m", func(s *sample) { s.Wait = 90 * time.Minute }},
		{"wait: 0", func(s *sample) { s.Wait = 0 }},
		{"codes: []", func(s *sample) { s.Codes = []int{} }}, // an empty list is not the default
		{"codes: [301]", func(s *sample) { s.Codes = []int{301} }},
		{"words: [a, 1]", func(s *sample) { s.Words = []string{"a", "1"} }},
		{"env: {A: b, C: 3}", func(s *sample) { s.Env = map[string]string{"A": "b", "C": "3"} }},
		{"inner: {path: /x}", func(s *sample) { s.Inner.Path = "/x" }},
		{"inner: {}", func(*sample) {}},
		{"steps: [{path: /a}, {method: PUT}]", func(s *sample) { s.Steps = []HTTPStep{{"GET", "/a"}, {"PUT", ""}} }},
		{"last: {path: /z}", func(s *sample) { s.Last = &HTTPStep{"GET", "/z"} }},
		{"body: {a: [1, 1.5, true, null, x], b: {c: 2024-05-01}}", func(s *sample) {
			s.Body = map[string]any{"a": []any{int64(1), 1.5, true, nil, "x"}, "b": map[string]any{"c": "2024-05-01"}}
		}},
		{"body: .inf", func(s *sample) { s.Body = ".inf" }}, // JSON has no infinity
		{"words: &w [a]\nenv: {A: b}", func(s *sample) { s.Words, s.Env = []string{"a"}, map[string]string{"A": "b"} }},
		{"name: &n x\ninner: {path: *n}", func(s *sample) { s.Name, s.Inner.Path = "x", "x" }},
	} {
		got, problems := decode(tc.text)
		if len(problems) > 0 {
			t.Errorf("%q: %v", tc.text, problems)
		}
		if diff := cmp.Diff(with(tc.change), got, cmp.AllowUnexported(sample{})); diff != "" {
			t.Errorf("%q: %s", tc.text, diff)
		}
	}
}

func TestU8_DecodeRefuses(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"nmae: x", `f.yml:1: nmae: there is no such setting; did you mean "name"?`},
		{"\nzebra: x", `f.yml:2: zebra: there is no such setting; known here: name, count, on, wait,`},
		{"inner:\n  paht: /", `f.yml:2: inner.paht: there is no such setting; did you mean "path"?`},
		{"steps:\n- path: /\n- pth: /", `f.yml:3: steps[1].pth: there is no such setting; did you mean "path"?`},
		{"Name: x", `f.yml:1: Name: there is no such setting; did you mean "name"?`},
		{"derived: x", `f.yml:1: derived: there is no such setting`},
		{"private: x", `f.yml:1: private: there is no such setting`},
		{"name: x\nname: y", `f.yml:2: name: this key was already given in line 1`},
		{"env: {A: 1, A: 2}", `f.yml:1: env.A: this key was already given in line 1`},
		{"name: True", `f.yml:1: name: True is a truth value where a text is wanted; put it in quotes: "True"`},
		{"name: [x]", `f.yml:1: name: this must be a text, not a list`},
		{"name: {x: y}", `f.yml:1: name: this must be a text, not a mapping`},
		{"name: !!binary aGVsbG8=", `f.yml:1: name: binary data is not a text`},
		{`name: "a\0b"`, `f.yml:1: name: binary data is not a text`},
		{"count: many", `f.yml:1: count: this must be a number, not "many"`},
		{`count: "3"`, `f.yml:1: count: this must be a number, not "3"`},
		{"count: 1.5", `f.yml:1: count: this must be a number, not "1.5"`},
		{"count: 99999999999999999999", `f.yml:1: count: this must be a number`},
		{"on: 1", `f.yml:1: on: this must be a truth value (true or false), not "1"`},
		{"wait: 5", `f.yml:1: wait: "5" is not a duration; write a number with its unit, as 90s, 5m or 1h30m`},
		{"wait: 5 minutes", `f.yml:1: wait: "5 minutes" is not a duration`},
		{"wait: [5s]", `f.yml:1: wait: this must be a duration, not a list`},
		{"codes: two", `f.yml:1: codes: this must be a number, not "two"`},
		{"codes:\n- 200\n- x", `f.yml:3: codes[1]: this must be a number, not "x"`},
		{"words: [a, ]\nenv: x", `f.yml:2: env: this must be a mapping of texts, not "x"`},
		{"words: [a, ~]", `f.yml:1: words[1]: this item is empty`},
		{"steps: {path: /}", `f.yml:1: steps: this must be a list of HTTP steps, not a mapping`},
		{"inner: /", `f.yml:1: inner: this must be a mapping (inner), not "/"`},
		{"last: /", `f.yml:1: last: this must be a mapping (HTTP step), not "/"`},
		{"[1]", `f.yml:1: this must be a mapping (sample), not a list`},
		{"just words", `f.yml:1: this must be a mapping (sample), not "just words"`},
		{"? [a]\n: b", `f.yml:1: a key must be plain text`},
		{"~: b", `f.yml:1: a key must be plain text`},
		{"base: &b {path: /}\ninner: {<<: *b}", `f.yml:2: inner: merge keys (<<) are not supported here; write the keys out`},
		{"name: 'x", `this is not YAML: `},
		{"name:\n\tx: y", `f.yml:2: this is not YAML: `},
		{"name: *nobody", `this is not YAML: `},
		{"name: x\n---\nname: y", `the file holds more than one YAML document`},
		{"name: x\n---\nname: 'y", `this is not YAML: `},
		{strings.Repeat("#", maxSize+1), "f.yml: the file has 262145 bytes, more than the 262144 that are allowed"},
		{"body: " + strings.Repeat("[", maxDepth+3) + strings.Repeat("]", maxDepth+3), "body: a value is nested deeper than 40 levels"},
		{bomb(), "the file expands to more than 50000 values through its aliases"},
		{"body: &a [*a]", "f.yml:1: "}, // a value within itself
	} {
		_, problems := decode(tc.text)
		found := false
		for _, p := range problems {
			found = found || strings.Contains(p.String(), tc.want)
		}
		if !found {
			t.Errorf("%.80q: %.300v; want %s", tc.text, problems, tc.want)
		}
		if len(problems) > 4 {
			t.Errorf("%.80q: %d problems for one mistake", tc.text, len(problems))
		}
	}
}

// bomb is a few hundred bytes that stand for millions of values.
func bomb() string {
	var b strings.Builder
	b.WriteString("body:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 7; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

func TestU8_EveryMistakeInOneError(t *testing.T) {
	d := NewDecoder("f.yml")
	s := defaults()
	d.Decode([]byte("count: many\nwait: soon\nnmae: x\n"), &s)
	d.Add(d.Line("wait"), "wait", "", "%s is too short", s.Wait)
	err := d.Err("read the manual")
	if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) != "read the manual" {
		t.Errorf("code %s, hint %q", ccci.CodeOf(err), ccci.HintOf(err))
	}
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 4 {
		t.Fatalf("got %v", err)
	}
	if !strings.HasPrefix(err.Error(), "f.yml has 4 mistakes:\nf.yml:1: count: ") || problems[3].Line != 3 {
		t.Errorf("got %v", err)
	}
	if err := NewDecoder("f.yml").Err("x"); err != nil {
		t.Errorf("no mistakes are %v", err)
	}
}

// A key that the file does not set stands where its nearest parent does.
func TestLine(t *testing.T) {
	d := NewDecoder("f.yml")
	s := defaults()
	d.Decode([]byte("name: x\nsteps:\n  - path: /\n  -\n    method: PUT\ninner:\n  path: /\n"), &s)
	for key, want := range map[string]int{
		"name": 1, "steps": 2, "steps[0]": 3, "steps[0].path": 3, "steps[1]": 5, "steps[1].path": 5, "steps[7]": 2,
		"inner.path": 7, "inner.other": 6, "count": 0, "": 0,
	} {
		if got := d.Line(key); got != want {
			t.Errorf("%s: line %d, not %d", key, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"install", "upgrade", "backup", "restore", "checks", "to"}
	for word, want := range map[string]string{
		"instal": "install", "isntall": "install", "upgarde": "upgrade", "Backup": "backup", "restoer": "restore",
		"chekcs": "checks", "deploy": "", "": "", "t": "to", "ot": "to", "tu": "to", "tux": "", "hot": "", "hat": "", "chk": "",
		strings.Repeat("install", 20): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, not %q", word, got, want)
		}
	}
	if got := Nearest("bat", []string{"cat", "hat"}); got != "cat" { // the first of equals
		t.Errorf("got %q", got)
	}
	for word, want := range map[string]string{"instal": `did you mean "install"?`, "deploy": "write one", "": "write one"} {
		if got := Suggest(word, names, "write one"); got != want {
			t.Errorf("Suggest(%q) = %q, not %q", word, got, want)
		}
	}
}

func TestDoc(t *testing.T) {
	want := "| Key | Type | Default | Meaning |\n|---|---|---|---|\n" +
		"| `name` | text | `cc-ci` | A text. |\n" +
		"| `count` | number | `3` | A number. |\n" +
		"| `on` | truth value (true or false) | `true` | A truth value. |\n" +
		"| `wait` | duration | `5s` | A duration. |\n" +
		"| `codes` | number or list of numbers | `[200, 204]` | Numbers. |\n" +
		"| `words` | list of texts |  | Texts \\| words. |\n" +
		"| `env` | mapping of texts |  | Texts by name. |\n" +
		"| `body` | free-form value |  | Anything. |\n" +
		"| `inner.path` | text | `/` | A path. |\n" +
		"| `steps` | [list of HTTP steps](#http-step) |  | What to do. |\n" +
		"| `last` | [HTTP step](#http-step) |  | What to do in the end. |\n" +
		"\n### HTTP step\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n" +
		"| `method` | text | `GET` | A method. |\n" +
		"| `path` | text |  | A path. |\n"
	if diff := cmp.Diff(want, Doc(reflect.TypeFor[sample]())); diff != "" {
		t.Error(diff)
	}
}

func TestDocOfSizesAndLists(t *testing.T) {
	type PoolEntry struct {
		Room string `yaml:"room" form:"size" doc:"A size."`
	}
	type pools struct {
		Pools []PoolEntry `yaml:"pools" doc:"Some."`
	}
	got := Doc(reflect.TypeFor[pools]())
	for _, want := range []string{"| `pools` | [list of pool entries](#pool-entry) |", "| `room` | size |"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwithout %s", got, want)
		}
	}
}

// Whatever the text is: an answer in bounded time, problems within the file, and
// the same answer twice.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "name: x", "steps: [{path: /}]", "body: {a: [1, {b: ~}]}", "body: &a [*a]", bomb(), "inner: {<<: {path: x}}",
		"wait: 5m\nwait: 6m", "? x\n: y", "name: !!binary x", "%YAML 1.2\n---\nname: x\n...\n", "\xff\xfe", "name: |\n x\n y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, problems := decode(text)
		for _, p := range problems {
			if p.Line < 0 || p.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+2 || p.Message == "" || p.File != "f.yml" {
				t.Fatalf("a problem outside of the file: %+v", p)
			}
		}
		again, _ := decode(text)
		if !reflect.DeepEqual(got, again) { // cmp takes exponential time for lists in lists
			t.Fatalf("two answers: %+v and %+v", got, again)
		}
	})
}
