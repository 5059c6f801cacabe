package recipe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
		"dollars that stay":  {"A=$ x $(id) $$ $lower ${A:-1}\n", map[string]string{"A": "$ x $(id) $$ $lower ${A:-1}"}},
		"escaped dollar":     {`A=\$HOME`, map[string]string{"A": "$HOME"}},
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
