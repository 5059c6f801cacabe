package doctor

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/container"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/attacker"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// A server in a container reads its settings from a file there. One that is hostile has
// the doctor read nothing outside of its own files, and wait for nothing.
func TestDroneSettings_container(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("only root gives a process another root directory")
		}
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

// N3: an app chooses the name, the environment and the labels of its image. Its processes
// are not taken for Drone's, neither to blame Drone nor to vouch for it.
func TestN3_AppsAreNotTakenForDrone(t *testing.T) {
	docker := dockerd.Start(t)
	t.Setenv("DOCKER_HOST", docker.Docker.DaemonHost())
	attacker.Import(t, docker)
	const host = "drone.claimed-by-an-app.example.org"
	repo := ccci.RepoRef{Owner: "coop", Name: "cc-ci"}
	look := func(labels map[string]string) string {
		c, err := docker.Docker.ContainerCreate(t.Context(), &container.Config{Image: attacker.Image, Labels: labels,
			Env: []string{"DRONE_SERVER_HOST=" + host, "DRONE_RPC_HOST=" + host}}, nil, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := docker.Docker.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		out, err := docker.Docker.ContainerLogs(t.Context(), c.ID, container.LogsOptions{ShowStdout: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it has begun
			t.Fatal(err)
		}
		said := said(t, DroneSettings(host, "cibot", repo))
		if err := docker.Docker.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		return said
	}
	expect(t, "an app", look(map[string]string{labelRun: "260101-000000-aaaaaa"}), "warning  drone: settings of the server: no server of Drone at "+host)
	// The same container with nothing of a run: the app is not left out for another reason.
	expect(t, "the machine's own", look(nil), "problem  drone: settings of the server: process ")
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
