package box

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

// suite of Debian that the box is made of.
const suite = "bookworm"

// packages stand for what NixOS brings: systemd, Docker, Redis, and the programs of a run. dnsmasq
// answers for the names that an operator puts into the DNS.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2", "docker.io", "iptables", "redis-server", "dnsmasq-base",
	"git", "restic", "chromium-headless-shell",
}

// debian returns a folder with a root file system, which nobody may write to. It is made once on
// a machine.
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(suite + " " + strings.Join(packages, " ")))
	dir := filepath.Join(cache, "cc-ci", "box", fmt.Sprintf("%s-%x", suite, sum[:8]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	root, half := filepath.Join(dir, "root"), filepath.Join(dir, "half")
	if _, err := os.Stat(root); err == nil {
		return root
	}
	if err := os.RemoveAll(half); err != nil { // of one that was killed
		t.Fatal(err)
	}
	out, err := exec.Command("mmdebstrap", "--quiet", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, half).CombinedOutput()
	if err != nil {
		t.Fatalf("installing Debian: %v\n%s", err, out)
	}
	if err := os.Rename(half, root); err != nil {
		t.Fatal(err)
	}
	return root
}
