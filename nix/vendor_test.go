package nix

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	hashLine     = regexp.MustCompile(`vendorHash = "([^"]*)";`)
	excludedLine = regexp.MustCompile(`(?m)^    \.\./(\S+)$`)
)

// vendorHash returns the hash that buildGoModule wants for a module's source: that of
// the folder which go mod vendor makes of exactly these files.
func vendorHash(t *testing.T, source string) string {
	t.Helper()
	vendor := filepath.Join(t.TempDir(), "vendor")
	cmd := exec.Command("go", "mod", "vendor", "-o", vendor)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hash, err := narHash(vendor)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// sourceOfPackage copies what src of package.nix keeps and go mod vendor reads.
func sourceOfPackage(t *testing.T, text string) string {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--", "*.go", "go.mod", "go.sum").Output()
	if err != nil {
		t.Fatal(err)
	}
	var excluded []string
	for _, match := range excludedLine.FindAllStringSubmatch(text, -1) {
		excluded = append(excluded, match[1])
	}
	if len(excluded) < 5 {
		t.Fatalf("package.nix excludes %q: the test reads its list wrongly", excluded)
	}
	dir := t.TempDir()
files:
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		for _, path := range excluded {
			if name == path || strings.HasPrefix(name, path+"/") {
				continue files
			}
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(read(t, filepath.Join(root, name))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A host is built without the network once its sources are there, and only if the hash
// of the dependencies is right.
func TestA1_VendorHash(t *testing.T) {
	text := read(t, "package.nix")
	match := hashLine.FindStringSubmatch(text)
	if match == nil {
		t.Fatal("package.nix has no vendorHash")
	}
	want := vendorHash(t, sourceOfPackage(t, text))
	if match[1] == want {
		return
	}
	if !*update {
		t.Fatalf("package.nix has vendorHash %q, and the dependencies have\n\t%s\nwrite it there: go test ./nix -run VendorHash -update", match[1], want)
	}
	text = strings.Replace(text, match[0], `vendorHash = "`+want+`";`, 1)
	if err := os.WriteFile("package.nix", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Hashes that others found with nix itself show that hasher and method are right: what
// nixpkgs 25.05 has for age 1.2.1, and what the lock has for sops-nix (see eval_test.go).
// That of the runner's dependencies is our own, and wrong when somebody changes its version alone.
func TestKnownHashes(t *testing.T) {
	runner := read(t, "drone-runner-exec.nix")
	version := regexp.MustCompile(`rev = "(v[^"]*)";`).FindStringSubmatch(runner)
	hash := hashLine.FindStringSubmatch(runner)
	if version == nil || hash == nil {
		t.Fatal("drone-runner-exec.nix has no rev or no vendorHash")
	}
	for module, want := range map[string]string{
		"filippo.io/age@v1.2.1": "sha256-ilRLEV7q",
		"github.com/drone-runners/drone-runner-exec@" + version[1]: hash[1],
	} {
		// The cache of modules is read-only: CopyFS makes files that may be written.
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(download(t, module))); err != nil {
			t.Fatal(err)
		}
		if got := vendorHash(t, dir); !strings.HasPrefix(got, want) {
			t.Errorf("%s: the dependencies have %s, want %s", module, got, want)
		}
	}
}

// download returns the folder of a module's source.
func download(t *testing.T, module string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir() // no module of ours: its go.mod has no say
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Skipf("%s is not to be had: %s", module, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	return found.Dir
}
