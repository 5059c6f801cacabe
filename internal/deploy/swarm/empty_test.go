package swarm

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// Only what is a container's layer is emptied, whatever Docker says.
func TestN3_OnlyLayersAreEmptied(t *testing.T) {
	for dir, want := range map[string]bool{
		"/var/lib/docker/overlay2/0123/diff":          true,
		"/var/lib/docker/overlay2/diff":               false,
		"/var/lib/docker/overlay2/../diff":            false,
		"/var/lib/docker/overlay2/0123/diff/etc/diff": false,
		"/var/lib/docker/overlay2/0123/merged":        false,
		"/var/lib/docker/volumes/0123/diff":           false,
		"/etc/diff":                                   false,
		"":                                            false,
	} {
		if got := isUpperDir("/var/lib/docker", dir); got != want {
			t.Errorf("%q: %t", dir, got)
		}
	}
	if isUpperDir("", "overlay2/x/diff") || isUpperDir("", "/overlay2/x/diff") {
		t.Error("without Docker's own directory")
	}
}

// Docker holds a descriptor for each level when it removes folders in each other, and has no more at some depth.
func TestN3_FoldersTooDeepForDockerAreRemoved(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	const run, levels = ccci.RunID("010203-040506-deeb00"), "30000"
	app := harness.App{RunID: run, StackName: "deep_ci_test"}
	d := newDeployer(t, cli, run)
	d.o.RemovePatience = time.Second
	d.o.Box = Box{Image: img, Empty: func(dirs []string) []string { return append([]string{"/app", "empty"}, dirs...) }}
	name := app.StackName + "_data"
	if _, err := cli.VolumeCreate(t.Context(), volume.CreateOptions{Name: name, Labels: owned(nil, run, app.StackName)}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/tmp", "/data"} {
		made, err := cli.ContainerCreate(t.Context(),
			&container.Config{Image: img, User: "0", Entrypoint: []string{"/app", "deep", levels, dir}, Labels: owned(nil, run, app.StackName)},
			&container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: name, Target: "/data"}}}, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		ended, failed := cli.ContainerWait(t.Context(), made.ID, container.WaitConditionNextExit)
		if err := cli.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		select {
		case end := <-ended:
			if end.StatusCode != 0 {
				t.Fatalf("making folders ends with %d: %s", end.StatusCode, d.lastWords(t.Context(), made.ID))
			}
		case err := <-failed:
			t.Fatal(err)
		}
	}
	started := time.Now()
	removed, err := d.Remove(t.Context(), app)
	t.Logf("removed %v in %s", removed, time.Since(started).Round(time.Millisecond))
	if err != nil || removed[kindContainer] != 2 || removed[kindVolume] != 1 {
		t.Errorf("Remove: %v, %v", removed, err)
	}
	all, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.Run == string(run) {
			t.Errorf("%s %s stays", o.Kind, o.Name)
		}
	}
}
