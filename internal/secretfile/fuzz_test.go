package secretfile

import (
	"os"
	"testing"

	"filippo.io/age"
)

// Whatever is opened is shown to an editor as it is, or is refused when it is to be
// written. Writing is left out otherwise: the fuzzer cannot work with its randomness.
func FuzzOpen(f *testing.F) {
	ids, err := Keys{Age: "../../examples/secrets/throw-away-host-key.txt"}.Identities()
	if err != nil {
		f.Fatal(err)
	}
	rule := ruleOf(ids[0].(*age.X25519Identity))
	example, err := os.ReadFile("../../examples/secrets/secrets.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example, true)
	f.Add([]byte(mixed), false)
	f.Add([]byte("a: &x [*x]"), false)
	f.Add([]byte("? {a: 1}\n: - # c\n  - b\n# e"), false)
	for _, text := range commented {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, encrypted bool) {
		var file *File
		var err error
		if encrypted {
			file, err = Open("s.yaml", text, ids)
		} else {
			file, err = New("s.yaml", text, rule)
		}
		if err != nil {
			if file != nil {
				t.Error("an error, and a file")
			}
			return
		}
		if file.legible() == nil {
			return
		}
		if sealed, err := file.Seal(noon); err == nil {
			t.Errorf("%q is written and an editor would be shown another text:\n%s", text, sealed)
		}
	})
}
