package recipe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/joho/godotenv"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestParseEnv(t *testing.T) {
	cases := map[string]struct {
		text string
		want map[string]string
	}{
		"plain":              {"A=1\nB = 2\nC=\n  D=x y \n", map[string]string{"A": "1", "B": "2", "C": "", "D": "x y"}},
		"later wins":         {"A=1\nA=2\n", map[string]string{"A": "2"}},
		"refers to itself":   {"C=\"a\"\nC=\"$C:b\"\nC=${C}:c\n", map[string]string{"C": "a:b:c"}},
		"only earlier keys":  {"A=$B.\nB=1\n", map[string]string{"A": ".", "B": "1"}},
		"single quotes":      {"A=1\nB='$A \\n # x'\n", map[string]string{"A": "1", "B": `$A \n # x`}},
		"double quotes":      {`A="x \"y\" \$Z\n\\ # no" # yes`, map[string]string{"A": "x \"y\" $Z\n\\ # no"}},
		"backticks":          {"E=', `www.x`'\nF=`a`,`b`\n", map[string]string{"E": ", `www.x`", "F": "`a`,`b`"}},
		"comments":           {"# A=0\n\nA=1 # one\nB=a#b\nC= # empty\nD=#d\n", map[string]string{"A": "1", "B": "a#b", "C": "", "D": "#d"}},
		"several lines":      {"A=\"x\ny\" # c\nB='1\n2'\n", map[string]string{"A": "x\ny", "B": "1\n2"}},
		"dollars that stay":  {"A=$ x $(id) $$ $lower ${lower}\n", map[string]string{"A": "$ x $(id) $$ $lower ${lower}"}},
		"half a reference":   {"A=1\nB=${A:-2}\n", map[string]string{"A": "1", "B": "1:-2}"}},
		"escaped dollar":     {`A=\$HOME`, map[string]string{"A": "$HOME"}},
		"escapes come first": {"X=1\nA=\"\\\\$X $\\X\"\n", map[string]string{"X": "1", "A": "$X 1"}},
		"windows text":       {"\ufeffA=1\r\nB=2\r\n", map[string]string{"A": "1", "B": "2"}},
		"equals in a value":  {"A=b=c==\n", map[string]string{"A": "b=c=="}},
		"quotes inside":      {`A=say "x" 'y'`, map[string]string{"A": `say "x" 'y'`}},
		"export is forgiven": {"export A=1\n", map[string]string{"A": "1"}},
		"no line end":        {"A=1", map[string]string{"A": "1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := recipe.ParseEnv(".env.sample", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Map()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseEnvModifiers(t *testing.T) {
	got, err := recipe.ParseEnv("f", []byte(strings.Join([]string{
		"A=v1 # length=128 charset=hex,special generate=false and words",
		`B="v1"	# length=3`,
		"B=v2",
		"# C=v1 # generate=false",
		"#D=v1 # length=1",
		"D=v1 # length=2",
		"E='x' # nothing",
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]recipe.Modifiers{
		"A": {"length": "128", "charset": "hex,special", "generate": "false"},
		"B": {"length": "3"},
		"C": {"generate": "false"},
		"D": {"length": "2"},
	}
	if diff := cmp.Diff(want, got.Modifiers); diff != "" {
		t.Error(diff)
	}
	if got.Lines["B"] != 3 || got.Lines["E"] != 7 {
		t.Errorf("lines %v", got.Lines)
	}
	if _, ok := got.Lookup("C"); ok {
		t.Error("an assignment that is commented out counts")
	}
}

func TestParseEnvErrors(t *testing.T) {
	cases := map[string]struct{ text, want string }{
		"no assignment":     {"A=1\nhello there\n", `.env.sample line 2: "hello there" is no assignment`},
		"bad key":           {"A=1\n\n2B=1\n", `.env.sample line 3: "2B" is no key`},
		"yaml":              {"A: 1=2\n", `"A: 1" is no key`},
		"open quote":        {"A=1\nB=\"x\ny\n", `line 2: the value of B has no closing "`},
		"open single quote": {"B='x", `line 1: the value of B has no closing '`},
		"after a quote":     {"A=\"x\ny\"z\n", `line 2: "z" stands behind the closing quote of A`},
		"not text":          {"A=\xff\n", "not UTF-8"},
		"zero byte":         {"A=a\x00b\n", "not UTF-8"},
		"doubling":          {"A=xxxxxxxxxxxxxxxx\n" + strings.Repeat("A=$A$A\n", 40), "line 14: the value of A is too long"},
		"many long values":  {"A=" + strings.Repeat("x", 60000) + "\n" + strings.Repeat("B=$A\n", 100), "the value of B is too long"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := recipe.ParseEnv(".env.sample", []byte(c.text))
			wantError(t, err, ccci.CodeInvalid, c.want)
		})
	}
}

func TestParseEnvWarnings(t *testing.T) {
	got, err := recipe.ParseEnv("f", []byte("A=1\nB=${A:-2}\nC=$NOWHERE\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Warnings) != 2 || got.Warnings[0].Line != 2 || got.Warnings[1].Line != 3 || !strings.Contains(got.Warnings[1].Message, "$NOWHERE") {
		t.Errorf("warnings %v", got.Warnings)
	}
}

// Where abra's reader understands something else, the line is named.
func TestParseEnvWarnsOfWhatAbraReads(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"X=1\nE= # note\n", "2 abra reads the value of E as \"# note\""},
		{"A=v1 # length=64 # note\n", "1 abra reads the value of A as \"v1 # length=64\""},
		{"\ufeffA=1\n", "1 the file begins with a byte order mark"},
		{"A=1\nB=${A:-b}\n", "2 the value of B holds \"${A:-b}\", of which abra reads \"${A\" as $A"},
		{"A=\"a\\\\\"\n", "1 the value of A ends in a backslash"},
		{"A='a\\'\n", "1 the value of A ends in a backslash"},
		{"A=\"say \\\"x\\\"\"\n", "1 abra loses the quote"},
		{"A=1\rB=2\n", "1 the line has a carriage return"},
	} {
		got, err := recipe.ParseEnv("f", []byte(c.text))
		if err != nil || len(got.Warnings) != 1 {
			t.Errorf("%q: %v, warnings %v", c.text, err, got)
			continue
		}
		if said := fmt.Sprintf("%d %s", got.Warnings[0].Line, got.Warnings[0].Message); !strings.HasPrefix(said, c.want) {
			t.Errorf("%q: %s, want %s", c.text, said, c.want)
		}
	}
}

// FuzzParseEnvAsAbra compares with the library that abra reads env files with. It may read
// what is refused here; what is not must have the same values, up to the first warning.
func FuzzParseEnvAsAbra(f *testing.F) {
	for _, seed := range []string{
		"A=1\nB = 2 # c\nexport C='x'\n", "E= # note\n", "A=v1 # length=64 # note\n", "\ufeffA=1\n", "A=1\nB=${A:-b}\n", "A=\"a\\\\\"\nB=\"x\"\n",
		"A=\"a\\\"b\" # c\nB=$A\\$A\n", "A=1\rB=2\n", "A=\"x\ny\"\nB='1\n2'\n", "A=$(A)${A}$A}\n", "A=\u2003x\u2003#y\n", "export =1\n", "A=\u00a0#x\n", "A=0\u00a0#", "A=\"\\$$\\0\"", "A=\"\\n\\r\\t\\\\n\"\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ours, err := recipe.ParseEnv("f", text)
		if err != nil || strings.Count(string(text), "$") > 16 || len(text) > 4<<10 { // it grows without a bound
			return
		}
		first := strings.Count(string(text), "\n") + 2
		for _, w := range ours.Warnings {
			first = min(first, w.Line)
		}
		theirs, err := godotenv.UnmarshalBytes(text)
		if err != nil {
			if len(ours.Warnings) == 0 {
				t.Fatalf("%q: abra refuses it: %v", text, err)
			}
			return
		}
		for _, key := range ours.Keys() {
			if value, ok := theirs[key]; ours.Lines[key] < first && (!ok || value != ours.Get(key)) {
				t.Fatalf("%q: %s is %q, and %q for abra; warnings %v", text, key, ours.Get(key), value, ours.Warnings)
			}
		}
		for key := range theirs {
			if _, ok := ours.Lookup(key); !ok && len(ours.Warnings) == 0 {
				t.Fatalf("%q: abra has %q too", text, key)
			}
		}
	})
}

func FuzzParseEnv(f *testing.F) {
	for _, seed := range []string{"A=1\nA=\"$A:b\" # length=3\n", "B='`x`'\n#C=v1 # generate=false\n", "D=\"a\\\"\nb\"\n", "A=$A$A\n", "E=#\n=\n"} {
		f.Add([]byte(seed), "value")
	}
	f.Fuzz(func(t *testing.T, text []byte, value string) {
		got, err := recipe.ParseEnv("f", text)
		if err != nil {
			if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" && len(text) < 1<<20 {
				t.Fatalf("error %v, hint %q", err, ccci.HintOf(err))
			}
			got = &recipe.EnvFile{}
		}
		last := strings.Count(string(text), "\n") + 1
		for _, key := range got.Keys() {
			if line := got.Lines[key]; line < 1 || line > last {
				t.Fatalf("%s stands on line %d of %d", key, line, last)
			}
		}
		// What is appended for an override reads back as it was, whatever stands before.
		if recipe.ValidEnvValue(value) {
			back, err := recipe.ParseEnv("f", []byte(recipe.EnvLine("KEY", value)))
			if err != nil || back.Get("KEY") != value || len(back.Keys()) != 1 {
				t.Fatalf("%q reads back as %q, %v", value, back.Get("KEY"), err)
			}
		}
	})
}
