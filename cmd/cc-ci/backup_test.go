package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// A26: on a real Docker every stack whose labels ask for it is backed up with its data,
// and neither a run's nor one without labels.
func TestA26_RealBackupOfTheHost(t *testing.T) {
	server := dockerd.Start(t)
	program := binary(t)
	if err := server.Import(t.Context(), "app:1", map[string]string{"/app": program}, `ENTRYPOINT ["/app"]`, `CMD ["version"]`); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Docker.SwarmInit(t.Context(), swarm.InitRequest{ListenAddr: "127.0.0.1:2377", AdvertiseAddr: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	cfg := config.Default()
	cfg.Reconcile.Backup.Repository = t.TempDir()
	p := &platform{cfg: cfg, docker: server.Docker, log: slog.New(slog.DiscardHandler), lockDir: t.TempDir()}
	backUp := func() {
		t.Helper()
		said = nil
		if err := p.backUp(t.Context(), program, ccci.NewSecret("geheim"), say); err != nil {
			t.Fatal(err)
		}
	}
	backUp()
	if len(said) != 1 || !strings.HasPrefix(said[0], "nothing to do") {
		t.Errorf("of nothing it says %q", said)
	}

	none := uint64(0)
	stack := func(name string, labels map[string]string) {
		labels[stackLabel] = name
		_, err := server.Docker.ServiceCreate(t.Context(), swarm.ServiceSpec{
			Annotations: swarm.Annotations{Name: name + "_app", Labels: labels},
			Mode:        swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &none}},
			TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "app:1", Mounts: []mount.Mount{
				{Type: mount.TypeVolume, Source: name + "_data", Target: "/data"}, {Type: mount.TypeVolume, Source: name + "_cache", Target: "/cache"},
			}}},
		}, swarm.ServiceCreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, server, name+"_data", "page", "what "+name+" knows")
		fill(t, server, name+"_cache", "hot", "gone tomorrow")
	}
	stack("wiki", map[string]string{"backupbot.backup": "true", "backupbot.backup.volumes.cache": "false", "coop-cloud.wiki.version": "1.2.0+3.4"})
	stack("plain", map[string]string{})
	stack("ofrun", map[string]string{"backupbot.backup": "true", harness.RunLabel: "r1"})
	for range 2 {
		backUp()
		if len(said) != 1 || !strings.HasPrefix(said[0], "wiki: snapshot ") {
			t.Errorf("it says %q", said)
		}
	}
	restic := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("restic", append([]string{"--no-cache", "--quiet", "--repo", cfg.Reconcile.Backup.Repository}, args...)...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=geheim")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("restic %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if content := restic("dump", "latest", "/var/lib/docker/volumes/wiki_data/_data/page"); content != "what wiki knows" {
		t.Errorf("the snapshot has %q", content)
	}
	if files := restic("ls", "latest"); strings.Contains(files, "cache") {
		t.Errorf("an excluded volume is in\n%s", files)
	}
	if list := restic("snapshots", "--tag", "wiki:1.2.0+3.4", "--json"); strings.Count(list, `"short_id"`) != 2 {
		t.Errorf("there are\n%s", list)
	}
	// Nothing of it stays but the repository.
	left, err := server.Docker.ContainerList(t.Context(), container.ListOptions{All: true})
	if err != nil || len(left) > 1 { // AutoRemove may still be at it
		t.Errorf("left are %v, %v", left, err)
	}
	if living, err := livingLocks(p.lockDir); err != nil || len(living) > 0 {
		t.Errorf("locks: %v, %v", living, err)
	}
}

// fill puts a file into a volume.
func fill(t *testing.T, server *dockerd.Server, volume, name, text string) {
	t.Helper()
	created, err := server.Docker.ContainerCreate(t.Context(), &container.Config{Image: "app:1"},
		&container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: volume, Target: "/v"}}}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Docker.ContainerRemove(t.Context(), created.ID, container.RemoveOptions{Force: true})
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := server.Docker.CopyToContainer(t.Context(), created.ID, "/v", &files, container.CopyToContainerOptions{}); err != nil {
		t.Fatal(err)
	}
}
