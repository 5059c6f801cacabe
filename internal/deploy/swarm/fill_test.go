package swarm

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// dockerd fills an empty volume as root of the host and follows the links that an app makes in it meanwhile. So new
// volumes are filled while no app is on them, each from the first service whose image has something there, and no task copies.
func TestN3_VolumesAreFilledWhileNoAppIsOnThem(t *testing.T) {
	cli := docker(t)
	base := deploytest.BuildImage(t, daemon(cli))
	imported := func(ref string, files map[string]string) string {
		t.Helper()
		derive(t, cli, base, ref, func(w *tar.Writer) error {
			for name, text := range files {
				if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
					return err
				}
				if _, err := io.WriteString(w, text); err != nil {
					return err
				}
			}
			return nil
		})
		return ref
	}
	first := imported("cc-ci.local/filltest:first", map[string]string{"data/own": "of app"})
	second := imported("cc-ci.local/filltest:second", map[string]string{"data/other": "of zz", "apart/file": "kept"})

	const run = ccci.RunID("010203-040506-f1115e")
	app := harness.App{RunID: run, StackName: "fill_ci_test"}
	d := newDeployer(t, cli, run)
	t.Cleanup(func() {
		if _, err := d.Remove(context.WithoutCancel(t.Context()), app); err != nil {
			t.Error(err)
		}
	})
	stack := deploytest.Stack(t, app.StackName, t.TempDir(), `
version: "3.8"
services:
  app:
    image: `+first+`
    volumes: ["shared:/data"]
  zz:
    image: `+second+`
    volumes: ["shared:/data", "apart:/apart", {type: volume, source: bare, target: /apart/below, volume: {nocopy: true}}]
volumes: {shared: {}, apart: {}, bare: {}}
`)
	if err := pullAndDeploy(t.Context(), d, stack); err != nil {
		t.Fatal(err)
	}
	containers, err := cli.ContainerList(t.Context(), container.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		if c.Labels[LabelRun] != string(run) || c.Labels[labelServiceName] == "" {
			continue
		}
		seen, err := cli.ContainerInspect(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range seen.HostConfig.Mounts {
			if m.Type == mount.TypeVolume && !m.VolumeOptions.NoCopy {
				t.Errorf("Docker copies into %s of %s", m.Target, c.Labels[labelServiceName])
			}
		}
	}
	for volume, want := range map[string]map[string]string{
		"shared": {"own": "of app"}, // and nothing of zz: the volume is not empty
		"apart":  {"file": "kept"},
		"bare":   {},
	} {
		seen, err := cli.VolumeInspect(t.Context(), app.StackName+"_"+volume)
		if err != nil {
			t.Fatal(err)
		}
		if seen.Labels[LabelRun] != string(run) || seen.Labels[LabelStack] != app.StackName {
			t.Errorf("volume %s has the labels %v", volume, seen.Labels)
		}
		entries, err := os.ReadDir(seen.Mountpoint)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, e := range entries {
			if e.IsDir() { // a place of another volume
				continue
			}
			text, err := os.ReadFile(filepath.Join(seen.Mountpoint, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got[e.Name()] = string(text)
		}
		if len(got) != len(want) {
			t.Errorf("volume %s has %v, want %v", volume, got, want)
		}
		for name, text := range want {
			if got[name] != text {
				t.Errorf("volume %s: %s holds %q, want %q", volume, name, got[name], text)
			}
		}
	}
}
