package secretfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// sops is the program itself, which judges what is written here.
type sops struct {
	t      *testing.T
	binary string
	dir    string
	id     *age.X25519Identity
}

func newSops(t *testing.T) sops {
	s := sops{t, peers.Binary(t, peers.Sops), t.TempDir(), newIdentity(t)}
	s.write("key.txt", []byte(s.id.String()+"\n"))
	return s
}

func (s sops) path(name string) string { return filepath.Join(s.dir, name) }

func (s sops) write(name string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s sops) read(name string) []byte {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// try runs sops and returns what it prints and whether it succeeded.
func (s sops) try(args ...string) (string, error) {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"SOPS_AGE_KEY_FILE=" + s.path("key.txt"), "HOME=" + s.dir, "SOPS_DISABLE_VERSION_CHECK=1"}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		return complaint.String(), err
	}
	return out.String(), nil
}

func (s sops) run(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("sops %v: %v\n%s", args, err, out)
	}
	return out
}

func TestA29_SopsReadsWhatIsWrittenHere(t *testing.T) {
	s := newSops(t)
	text := sealed1(t, mixed, s.id)
	s.write("secrets.yaml", text)
	out := s.run("decrypt", "secrets.yaml")
	if diff := cmp.Diff(dataOf(t, mixed), dataOf(t, out)); diff != "" {
		t.Errorf("values:\n%s", diff)
	}
	for _, comment := range []string{"at the top", "in two lines", "at the end of a line", "above a text of several lines", "inside", "above the first", "above the second", "at the bottom"} {
		if !strings.Contains(out, "# "+comment) {
			t.Errorf("sops does not decrypt the comment %q:\n%s", comment, out)
		}
	}
	// It verifies the MAC: a key less is refused by it too.
	s.write("secrets.yaml", bytes.Replace(text, []byte("empty_list: []\n"), nil, 1)) // no value, no MAC
	s.run("decrypt", "secrets.yaml")
	s.write("secrets.yaml", bytes.Replace(text, []byte("note_unencrypted: everybody"), []byte("note_unencrypted: nobody"), 1))
	if out, err := s.try("decrypt", "secrets.yaml"); err == nil || !strings.Contains(out, "MAC") {
		t.Errorf("sops takes a changed file: %v\n%s", err, out)
	}
}

func TestA29_ReadsWhatSopsWrites(t *testing.T) {
	s := newSops(t)
	s.write("only.yaml", []byte("creation_rules: [{mac_only_encrypted: true, encrypted_regex: ^forge_token$, age: "+s.id.Recipient().String()+"}]\n"))
	encrypt := []string{"encrypt", "--in-place", "--age", s.id.Recipient().String()}
	for name, args := range map[string][]string{
		"plain":              encrypt,
		"encrypted-regex":    append(slices.Clip(encrypt), "--encrypted-regex", "^(forge_token|nested)$"),
		"unencrypted-regex":  append(slices.Clip(encrypt), "--unencrypted-regex", "^number$"),
		"encrypted-suffix":   append(slices.Clip(encrypt), "--encrypted-suffix", "_token"),
		"mac-only-encrypted": {"--config", "only.yaml", "encrypt", "--in-place"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.t = t
			s.write("secrets.yaml", []byte(mixed))
			s.run(slices.Concat(args, []string{"secrets.yaml"})...)
			f := mustOpen(t, s.read("secrets.yaml"), s.id)
			plain := plainOf(t, f)
			if diff := cmp.Diff(dataOf(t, mixed), dataOf(t, plain)); diff != "" {
				t.Errorf("values:\n%s", diff)
			}
			for _, comment := range []string{"at the top", "at the end of a line", "above a text of several lines", "inside", "above the first", "above the second", "at the bottom"} {
				if !strings.Contains(plain, "# "+comment) {
					t.Errorf("the comment %q is not decrypted:\n%s", comment, plain)
				}
			}
			if strings.Contains(plain, "ENC[AES") {
				t.Errorf("something is still encrypted:\n%s", plain)
			}
			// And back again.
			f.NewDataKey()
			s.write("secrets.yaml", sealNow(t, f))
			if diff := cmp.Diff(dataOf(t, mixed), dataOf(t, s.run("decrypt", "secrets.yaml"))); diff != "" {
				t.Errorf("sops reads another thing:\n%s", diff)
			}
		})
	}
}

func TestA31_SopsAndWeChangeOneFileInTurn(t *testing.T) {
	s := newSops(t)
	person := newIdentity(t)
	config, err := Config(`^secrets\.yaml$`, [][2]string{{"host", s.id.Recipient().String()}, {"alice", person.Recipient().String()}})
	if err != nil {
		t.Fatal(err)
	}
	s.write(ConfigName, config)
	s.write("secrets.yaml", sealed1(t, "a: one\nb: two\n", s.id))
	s.run("set", "secrets.yaml", `["a"]`, `"three"`)
	f := mustOpen(t, s.read("secrets.yaml"), s.id)
	if v, _ := f.Secret("a"); v.Reveal() != "three" {
		t.Errorf("a is %q", v.Reveal())
	}
	if err := f.Set("b", f.mustSecret("a")); err != nil {
		t.Fatal(err)
	}
	s.write("secrets.yaml", sealNow(t, f))
	s.run("updatekeys", "--yes", "secrets.yaml")
	f = mustOpen(t, s.read("secrets.yaml"), person)
	rule, err := RuleFor(s.path("secrets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(slices.Sorted(slices.Values(rule.Recipients)), slices.Sorted(slices.Values(f.Recipients()))) {
		t.Errorf("the rule gives %v, sops %v", rule.Recipients, f.Recipients())
	}
	if rule.Names[person.Recipient().String()] != "alice" {
		t.Errorf("names: %v", rule.Names)
	}
	s.run("rotate", "--in-place", "secrets.yaml")
	if got := plainOf(t, mustOpen(t, s.read("secrets.yaml"), person)); got != "a: three\nb: three\n" {
		t.Errorf("%q", got)
	}
}

// What sops takes for the place of a comment is not always what is taken for it here.
func TestA29_SopsReadsCommentsWhereverTheyAre(t *testing.T) {
	s := newSops(t)
	for name, text := range commented {
		s.write("secrets.yaml", sealed1(t, text, s.id))
		if out := s.run("decrypt", "secrets.yaml"); strings.Contains(out, "ENC[AES256_GCM,data:") && name != "that looks encrypted" {
			t.Errorf("%s: sops leaves a comment encrypted:\n%s", name, out)
		}
		s.write("secrets.yaml", []byte(text))
		s.run("encrypt", "--in-place", "--age", s.id.Recipient().String(), "secrets.yaml")
		if out := plainOf(t, mustOpen(t, s.read("secrets.yaml"), s.id)); strings.Count(out, "#") != strings.Count(text, "#") || strings.Contains(out, "#ENC") {
			t.Errorf("%s: of %q becomes\n%s", name, text, out)
		}
	}
}
