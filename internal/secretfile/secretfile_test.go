package secretfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// mixed holds everything that YAML makes difficult.
const mixed = `# at the top
# in two lines

forge_token: abc # at the end of a line
empty: ""
nothing: null
number: 42
negative: -7
fraction: 1.5
large: 1e+21
truth: true
date: 2026-11-21
moment: 2026-11-21T12:00:00.5Z
word: "yes"
looks_like_a_number: "0123"
looks_like_sops: "ENC[x"
spaces: "  around  "
umlaut: Schlüssel ✓
colon: "a: b # c"
# above a text of several lines
key: |
    -----BEGIN THING-----
    AbC+/=
    -----END THING-----
kept: |+
    with breaks at the end

folded: "a\tb\nc"
note_unencrypted: everybody may read this
nested:
    # inside
    user: me
    pass:word: x
    deeper: {a: 1, b: [x, y]}
list:
    # above the first
    - one
    # above the second
    - two
    - - three
      - 4
empty_list: []
empty_map: {}
# at the bottom
`

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func ruleOf(ids ...*age.X25519Identity) Rule {
	var r Rule
	for _, id := range ids {
		r.Recipients = append(r.Recipients, id.Recipient().String())
	}
	return r
}

func sealed1(t testing.TB, plain string, ids ...*age.X25519Identity) []byte {
	t.Helper()
	f, err := New("secrets.yaml", []byte(plain), ruleOf(ids...))
	if err != nil {
		t.Fatal(err)
	}
	return sealNow(t, f)
}

func sealNow(t testing.TB, f *File) []byte {
	t.Helper()
	text, err := f.Seal(noon)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustOpen(t testing.TB, text []byte, ids ...age.Identity) *File {
	t.Helper()
	f, err := Open("secrets.yaml", text, ids)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

func plainOf(t testing.TB, f *File) string {
	t.Helper()
	s, err := f.Plain()
	if err != nil {
		t.Fatal(err)
	}
	return s.Reveal()
}

func dataOf(t testing.TB, text string) map[string]any {
	t.Helper()
	var data map[string]any
	if err := yaml.Unmarshal([]byte(text), &data); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return data
}

func TestA29_RoundTripKeepsEverything(t *testing.T) {
	id := newIdentity(t)
	text := sealed1(t, mixed, id)
	f := mustOpen(t, text, id)
	plain := plainOf(t, f)
	if diff := cmp.Diff(dataOf(t, mixed), dataOf(t, plain)); diff != "" {
		t.Errorf("values:\n%s", diff)
	}
	for _, comment := range []string{"# at the top\n# in two lines\n", "# at the end of a line", "# above a text of several lines\nkey:", "# inside\n", "# above the first\n", "# above the second\n", "# at the bottom"} {
		if !strings.Contains(plain, comment) {
			t.Errorf("the comment %q is gone:\n%s", comment, plain)
		}
	}
	if strings.Contains(string(text), "above") || strings.Contains(string(text), "Schlüssel") || !strings.Contains(string(text), "everybody may read this") {
		t.Errorf("what is hidden is the wrong part:\n%s", text)
	}
	again := plainOf(t, mustOpen(t, sealNow(t, f), id))
	if again != plain {
		t.Errorf("the second time is another:\n%s", cmp.Diff(plain, again))
	}
}

// commented are the places where comments can be.
var commented = map[string]string{
	"before a nested key":  "a:\n    # c\n    b: x\nd: y\n",
	"after a nested key":   "a:\n    b: x\n    # c\nd: y\n",
	"between two":          "a: x\n# c\nb: y\n",
	"apart":                "a: x\n# c\n\nb: y\n",
	"at the end":           "a: x\n# c\n",
	"at the end, nested":   "a:\n    b: x\n    # c\n",
	"behind a value":       "a: x # c\nb: y\n",
	"behind a key":         "a: # c\n    b: x\n",
	"in a list":            "a:\n    # c\n    - x\n    # d\n    - y # e\n",
	"in a list of keys":    "a:\n    # c\n    - b: x # d\n      # e\n      f: y\n",
	"at the very top":      "# c\n\n# d\na: x\n",
	"without a space":      "#c\na: x\n",
	"with nothing in it":   "#\n# c\n#\na: x\n",
	"that looks encrypted": "# ENC[AES256_GCM,data:x]\na: x\n",
	"before a long text":   "# c\na: |\n    x # no comment\n    y\n# d\nb: z\n",
}

// Comments stay where they are, also where two keys could have them.
func TestCommentsKeepTheirPlaces(t *testing.T) {
	id := newIdentity(t)
	for name, text := range commented {
		f, err := New("s.yaml", []byte(text), ruleOf(id))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sealed := sealNow(t, f)
		if got := plainOf(t, mustOpen(t, sealed, id)); got != text {
			t.Errorf("%s: %q became %q\n%s", name, text, got, sealed)
		}
		if strings.Contains(string(sealed), "# c") {
			t.Errorf("%s: a comment is in the open:\n%s", name, sealed)
		}
	}
	f, err := New("s.yaml", []byte("? ! #0"), ruleOf(id))
	if err == nil { // the library does not write this comment again
		_, err = f.Seal(noon)
	}
	if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
		t.Errorf("a lost comment: %v", err)
	}
}

func TestA31_WhatIsUnchangedStaysTheSameInTheFile(t *testing.T) {
	id := newIdentity(t)
	text := sealed1(t, mixed, id)
	f := mustOpen(t, text, id)
	if err := f.Set("forge_token", ccci.NewSecret("other")); err != nil {
		t.Fatal(err)
	}
	changed := changedLines(text, sealNow(t, f))
	if len(changed) != 2 || !strings.HasPrefix(changed[0], "forge_token:") || !strings.HasPrefix(changed[1], "    mac:") {
		t.Errorf("changed: %q", changed)
	}
	f.NewDataKey()
	f2 := mustOpen(t, sealNow(t, f), id)
	if s, _ := f2.Secret("forge_token"); s.Reveal() != "other" {
		t.Errorf("forge_token is %q", s.Reveal())
	}
	if changed := changedLines(text, sealNow(t, f2)); len(changed) < 20 {
		t.Errorf("a new data key leaves values as they were: %q", changed)
	}
}

func changedLines(a, b []byte) []string {
	before := strings.Split(string(a), "\n")
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return slices.Contains(before, l) })
}

func TestPlainTextThatIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "s.yaml: the file is empty",
		"# only\n":                              "s.yaml: the file is empty",
		"a: 1\nb: [\n":                          "s.yaml:",
		"a: 1\na: 2\n":                          "s.yaml:2: a is there twice",
		"- a\n":                                 "s.yaml:1: keys with values",
		"a: &x 1\nb: *x\n":                      "s.yaml:1: anchors and aliases",
		"a: 1\nb: !!binary x\n":                 "s.yaml:2: tags",
		"a: 1\n2: x\n":                          "s.yaml:2: a key must be a text",
		"a: 1\n---\nb: 2\n":                     "more than one YAML document",
		"a: 1\nsops: x\n":                       "the key sops belongs to the encryption",
		"a: 1\nb: 99999999999999999999\n":       "s.yaml:2: b: this would be stored as another number",
		"a: 1\nb: 0123\n":                       "s.yaml:2: b: this would be stored as another number",
		"a: 1\nb: 1.50\n":                       "s.yaml:2: b: this would be stored as another number",
		"a: " + strings.Repeat("[", 60) + "\n":  "s.yaml",
		"a: *secretvalue\n":                     "s.yaml:1: this is not YAML; a value that begins with *",
		"a: !secretvalue x\n":                   "s.yaml:1: tags (!)",
		"a: @secretvalue\n":                     "s.yaml:1: this is not YAML",
		"a: \"\\qsecretvalue\"\n":               "s.yaml:1: this is not YAML",
		"a: secretvalue\n  b: x\n":              "s.yaml:2: this is not YAML",
		strings.Repeat("# long\n", maxSize/7+1): "more than the",
	} {
		_, err := New("s.yaml", []byte(text), ruleOf(newIdentity(t)))
		if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
		if strings.Contains(fmt.Sprint(err), "secretvalue") {
			t.Errorf("the message shows a value: %v", err)
		}
	}
}

func TestSelections(t *testing.T) {
	id := newIdentity(t)
	for name, s := range map[string]selection{
		"encrypted_regex":    {EncryptedRegex: "^(hide|deep)"},
		"unencrypted_regex":  {UnencryptedRegex: "^show"},
		"encrypted_suffix":   {EncryptedSuffix: "_hidden"},
		"unencrypted_suffix": {UnencryptedSuffix: "_shown"},
	} {
		r := ruleOf(id)
		r.selection, r.onlyMAC = s, name == "encrypted_regex"
		f, err := New("s.yaml", []byte("hide_hidden: xxxxxxxx\nshow_shown: yyyyyyyy\n"), r)
		if err != nil {
			t.Fatal(err)
		}
		text := string(sealNow(t, f))
		if strings.Contains(text, "xxxxxxxx") || !strings.Contains(text, "yyyyyyyy") {
			t.Errorf("%s:\n%s", name, text)
		}
		mustOpen(t, []byte(text), id)
	}
	r := ruleOf(id)
	r.selection = selection{EncryptedRegex: "^hide"}
	f, err := New("s.yaml", []byte("hide: xxxxxxxx\nshow: yyyyyyyy\n"), r)
	if err != nil || f.Encrypted("show") || !f.Encrypted("hide") {
		t.Fatal(err)
	}
	r.selection = selection{UnencryptedSuffix: defaultSuffix}
	for _, want := range []bool{true, false} {
		if changed, err := f.Apply(r); changed != want || err != nil || !f.Encrypted("show") {
			t.Errorf("another rule: %v, %v", changed, err)
		}
	}
	if text := string(sealNow(t, f)); strings.Contains(text, "yyyyyyyy") {
		t.Errorf("another rule:\n%s", text)
	}
	_, err = New("s.yaml", []byte("a: 1\n"), Rule{Recipients: ruleOf(id).Recipients, selection: selection{EncryptedRegex: "a", UnencryptedRegex: "b"}})
	if ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("two selections: %v", err)
	}
}

func TestSetAndSecret(t *testing.T) {
	id := newIdentity(t)
	f := mustOpen(t, sealed1(t, "a: x\nb: {c: y, d: [1, 2]}\ne:\n", id), id)
	if err := errors.Join(f.Set("b/c", ccci.NewSecret("two\nlines\n")), f.Set("new", ccci.NewSecret("#")), f.Set("e", ccci.NewSecret("0x1"))); err != nil {
		t.Fatal(err)
	}
	f.Comment("new", "what it is")
	f = mustOpen(t, sealNow(t, f), id)
	for key, want := range map[string]string{"a": "x", "b/c": "two\nlines\n", "new": "#", "e": "0x1"} {
		if s, ok := f.Secret(key); !ok || s.Reveal() != want {
			t.Errorf("%s is %q, %v", key, s.Reveal(), ok)
		}
	}
	if got := f.Keys(); !slices.Equal(got, []string{"a", "b/c", "b/d", "e", "new"}) {
		t.Errorf("keys %q", got)
	}
	if _, ok := f.Secret("b"); ok {
		t.Error("b is one value")
	}
	for key, code := range map[string]ccci.Code{"b": ccci.CodeInvalid, "b/z": ccci.CodeNotFound, "sops": ccci.CodeNotFound, "": ccci.CodeNotFound} {
		if err := f.Set(key, ccci.NewSecret("x")); ccci.CodeOf(err) != code {
			t.Errorf("setting %q: %v", key, err)
		}
	}
	if !strings.Contains(plainOf(t, f), "# what it is\nnew: ") {
		t.Errorf("no comment:\n%s", plainOf(t, f))
	}
}

func (f *File) mustSecret(key string) ccci.Secret {
	s, ok := f.Secret(key)
	if !ok {
		panic(key)
	}
	return s
}
