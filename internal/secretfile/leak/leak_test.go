package leak

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func privateKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func ageKeyOf(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func pqKeyOf(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func indent(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }

func quoted(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestA29_KeysAreFoundByTheirForm(t *testing.T) {
	key, ageSecret := privateKey(t), ageKeyOf(t)
	code := base64.StdEncoding.EncodeToString([]byte(key))
	var folded bytes.Buffer
	for part := range slices.Chunk([]byte(code), 76) {
		folded.Write(append(part, '\n'))
	}
	for name, c := range map[string]struct{ text, want string }{
		"age":                      {"x: " + ageSecret, "a.txt:1: a secret key of age"},
		"age, post-quantum":        {"\n\n" + pqKeyOf(t), "a.txt:3: a secret key of age"},
		"PEM":                      {"x\n" + key, "a.txt:2: a private key"},
		"PEM in YAML":              {"x: |\n" + indent(key), "a.txt:2: a private key"},
		"PEM in JSON":              {`{"k": ` + quoted(t, key) + "}", "a.txt:1: a private key"},
		"PEM with DOS line breaks": {strings.ReplaceAll(key, "\n", "\r\n"), "a.txt:1: a private key"},
		"PEM of OpenSSH":           {strings.ReplaceAll(key, "PRIVATE", "OPENSSH PRIVATE"), "a.txt:1: a private key"},
		"PEM with headers":         {strings.Replace(key, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\n", 1), "a.txt:1: a private key"},
		"base64":                   {"x: " + code, "a.txt:1: a private key in base64"},
		"base64 in lines":          {folded.String(), "a.txt:1: a private key in base64"},
		"a certificate":            {strings.ReplaceAll(key, "PRIVATE KEY", "CERTIFICATE"), ""},
		"headers alone":            {"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", ""},
		"talk of a key":            {"it begins with -----BEGIN PRIVATE KEY----- and then some", ""},
		"talk of an age key":       {"AGE-SECRET-KEY-1…", ""},
		"marked, elsewhere":        {"# " + ThrowAway + "\n" + ageSecret, "a.txt:2: a secret key of age"},
	} {
		var s Scan
		s.look("a.txt", "a.txt", 0, []byte(c.text))
		found := s.Report().Findings
		if c.want == "" && found != nil || c.want != "" && (len(found) != 1 || found[0].String() != c.want) {
			t.Errorf("%s: %v", name, found)
		}
	}
	for file, want := range map[string]int{"examples/secrets/k.txt": 0, "my-examples/k.txt": 1, "examples": 1} {
		var s Scan
		s.look(file, file, 0, []byte("# "+ThrowAway+"\n"+ageSecret))
		if len(s.Report().Findings) != want {
			t.Errorf("%s: %v", file, s.Report().Findings)
		}
	}
}

func TestA29_KnownValuesAreFoundInEveryEncoding(t *testing.T) {
	const value = "s3cr3t-Wert/+1"
	key := privateKey(t)
	line := strings.Split(key, "\n")[1]
	for name, text := range map[string]string{
		"plain":           "a " + value + " b",
		"base64":          base64.StdEncoding.EncodeToString([]byte("x:" + value)),
		"hexadecimal":     hex.EncodeToString([]byte(value)),
		"a line of a key": "only " + line,
	} {
		var s Scan
		s.Know("token", ccci.NewSecret(value+"\n"))
		s.Know("key", ccci.NewSecret(key))
		s.look("f", "f", 0, []byte(text))
		found := s.Report().Findings
		if len(found) != 1 || strings.Contains(found[0].String(), value) || strings.Contains(found[0].String(), line) {
			t.Errorf("%s: %v", name, found)
		}
	}
	// The frame of a key is no secret, nor is what is too short to be told from a word.
	var s Scan
	s.Know("key", ccci.NewSecret(key))
	s.Know("pin", ccci.NewSecret("admin"))
	s.look("f", "f", 0, []byte("-----BEGIN PRIVATE KEY-----\nand admin"))
	if found := s.Report().Findings; found != nil {
		t.Error(found)
	}
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestA29_HistoryIsSearched(t *testing.T) {
	const value = "a-value-of-some-length"
	dir := t.TempDir()
	git(t, dir, "init", "-q")
	scan := func() Report {
		t.Helper()
		var s Scan
		s.Know("token", ccci.NewSecret(value))
		if err := s.Repository(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		return s.Report()
	}
	write(t, dir, "new file.txt", []byte(value))
	if r := scan(); len(r.Findings) != 1 || r.Findings[0].Where != "new file.txt" {
		t.Errorf("before the first commit: %+v", r)
	}
	// More than git is asked for at once, binary files and odd names among them.
	for i := range chunkFiles + 20 {
		write(t, dir, filepath.Join("many", strings.Repeat("x", i%7)+string(rune('a'+i%26))+hex.EncodeToString([]byte{byte(i >> 8), byte(i)})), []byte{0, byte(i), '\n', byte(i >> 8)})
	}
	write(t, dir, "deep/ü \"odd\".bin", append([]byte{0, 1, 2, '\r', '\n'}, value...))
	write(t, dir, "empty", nil)
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "one")
	git(t, dir, "rm", "-rq", "deep", "new file.txt")
	git(t, dir, "commit", "-q", "-m", "two")
	r := scan()
	var where []string
	for _, f := range r.Findings {
		_, name, _ := strings.Cut(strings.TrimPrefix(f.Where, "history: "), ":")
		where = append(where, name)
	}
	if !slices.Equal(where, []string{`deep/ü "odd".bin`, "new file.txt"}) && !slices.Equal(where, []string{"new file.txt", `deep/ü "odd".bin`}) {
		t.Errorf("%+v", r.Findings)
	}
	if r.Scanned < 2*chunkFiles {
		t.Errorf("%d were looked at", r.Scanned)
	}

	// A history that no longer has it is clean; so is a submodule's for this repository.
	git(t, dir, "checkout", "-q", "--orphan", "clean")
	git(t, dir, "commit", "-q", "-m", "clean")
	if r := scan(); len(r.Findings) > 0 {
		t.Errorf("clean: %+v", r.Findings)
	}

	// What is too large to be asked of git is said.
	write(t, dir, "large", make([]byte, maxFile+1))
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "large")
	if r := scan(); len(r.Skipped) != 1 || !strings.HasSuffix(r.Skipped[0], ":large") {
		t.Errorf("skipped %v", r.Skipped)
	}
	var s Scan
	if err := s.Repository(t.Context(), t.TempDir()); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
		t.Errorf("no repository: %v", err)
	}
}

// The base repository holds no secret material, nor did it ever.
func TestA29_ThisRepository(t *testing.T) {
	var s Scan
	root := filepath.Join("..", "..", "..")
	search := func() error { return s.Repository(t.Context(), root) }
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil { // what was unpacked has no history
		search = func() error { return s.Folder(root) }
	}
	if err := search(); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Report().Findings {
		t.Error(f)
	}
	if n := s.Report().Scanned; n < 300 {
		t.Errorf("only %d files were looked at", n)
	}
}

// A29: a large file has no place where nobody looks, and no leak counts twice.
func TestA29_LargeFilesAreSearched(t *testing.T) {
	key := ageKeyOf(t)
	for _, at := range []int{0, piece - overlap - 10, piece - overlap, piece - 10, piece, 2*piece + 5} {
		text := bytes.Repeat([]byte("0123456789abcde\n"), 3*piece/16)
		copy(text[at:], "\n"+key+"\n")
		dir := t.TempDir()
		write(t, dir, "large", text)
		var s Scan
		if err := s.Folder(dir); err != nil {
			t.Fatal(err)
		}
		want := bytes.Count(text[:at], []byte("\n")) + 2
		if r := s.Report(); len(r.Findings) != 1 || r.Findings[0].Line != want || r.Scanned != 1 {
			t.Errorf("at %d: %+v, want line %d", at, r, want)
		}
	}
}

func TestFolderIsSearched(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "sub/plain.txt", []byte(ageKeyOf(t)))
	write(t, dir, ".git/objects/x", []byte(ageKeyOf(t)))
	var s Scan
	if err := s.Folder(dir); err != nil {
		t.Fatal(err)
	}
	if r := s.Report(); len(r.Findings) != 1 || !strings.HasSuffix(r.Findings[0].Where, "sub/plain.txt") {
		t.Errorf("%+v", r)
	}
}
