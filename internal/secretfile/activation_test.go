package secretfile

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// activation is sops-nix' own program for the activation of a host, in a folder of the
// test: what it does there with /run/secrets it does on a host.
type activation struct{ binary, dir string }

// newActivation builds the program from the checkout of sops-nix that CC_CI_SOPS_NIX
// names, as in the tests of package nix.
func newActivation(t *testing.T) activation {
	t.Helper()
	src := os.Getenv("CC_CI_SOPS_NIX")
	if src == "" {
		t.Skip("no sops-nix: name a checkout by CC_CI_SOPS_NIX")
	}
	a := activation{filepath.Join(t.TempDir(), "sops-install-secrets"), t.TempDir()}
	cmd := exec.Command("go", "build", "-mod=readonly", "-o", a.binary, "./pkgs/sops-install-secrets")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return a
}

// switchTo activates a host with the given keys and returns what its units would read.
func (a activation) switchTo(t *testing.T, text []byte, keyFile, sshFile string, keys ...string) (map[string]string, error) {
	t.Helper()
	file, run := filepath.Join(a.dir, "secrets.yaml"), filepath.Join(a.dir, "run")
	save(t, file, text)
	manifest := map[string]any{
		"secretsMountPoint": run + ".d", "symlinkPath": run, "keepGenerations": 1, "userMode": true,
		"ageKeyFile": keyFile, "ageSshKeyPaths": []string{},
	}
	if sshFile != "" {
		manifest["ageSshKeyPaths"] = []string{sshFile}
	}
	var secrets []map[string]any
	for _, key := range keys {
		secrets = append(secrets, map[string]any{"name": key, "key": key, "path": filepath.Join(run, key), "sopsFile": file, "format": "yaml", "mode": "0400"})
	}
	manifest["secrets"] = secrets
	encoded, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	save(t, filepath.Join(a.dir, "manifest.json"), encoded)
	cmd := exec.Command(a.binary, filepath.Join(a.dir, "manifest.json"))
	cmd.Env = []string{"HOME=" + a.dir, "XDG_RUNTIME_DIR=" + a.dir, "PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("%s", out)
		return nil, err
	}
	values := map[string]string{}
	for _, key := range keys {
		value, err := os.ReadFile(filepath.Join(run, key))
		if err != nil {
			t.Fatal(err)
		}
		values[key] = string(value)
	}
	return values, nil
}

func save(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestA30_A31_SopsNixActivatesWhatIsWrittenHere(t *testing.T) {
	a := newActivation(t)
	folder := t.TempDir()
	keyOf := func(name string) (*age.X25519Identity, string) {
		id, file := newIdentity(t), filepath.Join(folder, name)
		save(t, file, []byte(id.String()+"\n"))
		return id, file
	}
	host, hostFile := keyOf("host")
	recovery, recoveryFile := keyOf("recovery")
	_, strangerFile := keyOf("stranger")
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	sshFile := filepath.Join(folder, "ssh_host_ed25519_key")
	save(t, sshFile, pem.EncodeToMemory(block))
	sshKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	sshRecipient, err := Recipient(string(ssh.MarshalAuthorizedKey(sshKey)))
	if err != nil {
		t.Fatal(err)
	}

	rule := ruleOf(host, recovery)
	rule.Recipients = append(rule.Recipients, sshRecipient)
	f, err := New("secrets.yaml", []byte("# c\ntoken: one\nkey: |\n    two\n    lines\nempty: \"\"\nnested:\n    deep: x\n"), rule)
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"token", "key", "empty", "nested/deep"}
	text := sealNow(t, f)
	for name, with := range map[string][2]string{"the host's key": {hostFile, ""}, "the recovery key": {recoveryFile, ""}, "the key of ssh": {"", sshFile}} {
		got, err := a.switchTo(t, text, with[0], with[1], keys...)
		if err != nil || got["token"] != "one" || got["key"] != "two\nlines\n" || got["empty"] != "" || got["nested/deep"] != "x" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := a.switchTo(t, text, strangerFile, "", keys...); err == nil {
		t.Error("a stranger's key opens the file")
	}

	// Changed, encrypted and committed, the next activation has it; and again after a new
	// key of the file.
	if err := f.Set("token", ccci.NewSecret("changed")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := a.switchTo(t, sealNow(t, f), hostFile, "", keys...)
		if err != nil || got["token"] != "changed" || got["key"] != "two\nlines\n" {
			t.Errorf("%q, %v", got, err)
		}
		f.NewDataKey()
	}
}
