package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A server in a container reads its settings from a file there. One that is hostile has
// the doctor read nothing outside of its own files, and wait for nothing.
func TestDroneSettings_container(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives a process another root directory")
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ldd", shell).Output()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, word := range append(strings.Fields(string(out)), shell) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		text, err := os.ReadFile(word)
		if err != nil {
			t.Fatal(err)
		}
		putFile(t, filepath.Join(root, word), string(text))
	}
	const host = "drone.settings-of-a-container.example.org"
	settings := "DRONE_SERVER_HOST=\"" + host + "\"\nDRONE_REGISTRATION_CLOSED=\"true\"\nDRONE_USER_FILTER=\"cibot\"\nDRONE_REPOSITORY_FILTER=\"coop\"\n"
	look := func(file string) string {
		cmd := &exec.Cmd{
			Path: shell, Args: []string{"/bin/drone-server", "-c", "read line", "--env-file=" + file}, Env: []string{}, Dir: "/",
			SysProcAttr: &syscall.SysProcAttr{Chroot: root},
		}
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer input.Close()
		return said(t, DroneSettings(host, "cibot", ccci.RepoRef{Owner: "coop", Name: "cc-ci"}))
	}
	const seen, unseen = "ok       drone: settings of the server: process ", "warning  drone: settings of the server: no server"
	putFile(t, filepath.Join(root, "run/secrets/drone.env"), settings)
	expect(t, "a file of the container", look("/run/secrets/drone.env"), seen)

	outside := filepath.Join(t.TempDir(), "drone.env")
	putFile(t, outside, settings)
	if err := os.Symlink(outside, filepath.Join(root, "out.env")); err != nil {
		t.Fatal(err)
	}
	expect(t, "a link to a file of the host", look("/out.env"), unseen)
	if err := syscall.Mkfifo(filepath.Join(root, "pipe.env"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "a pipe that nobody writes to", look("/pipe.env"), unseen)
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
