package box

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// TestMain lets this test binary stand for cc-ci inside the box.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "box" && os.Args[2] == "hold" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if err := Hold(ctx, os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// daemon returns a client of the machine's daemon; without one the test is skipped,
// under CI it fails.
func daemon(t *testing.T) *client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("starts containers")
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		_, err = docker.Ping(t.Context())
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs Docker: %v", err)
		}
		t.Skipf("this test needs Docker: %v", err)
	}
	t.Cleanup(func() { docker.Close() })
	return docker
}

func restic(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs restic")
	}
	path, err := exec.LookPath("restic")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs restic: %v", err)
		}
		t.Skipf("this test needs restic: %v", err)
	}
	return path
}

// A26: restic, with the libraries it needs and no registry, runs in the box.
func TestA26_BoxRunsBothPrograms(t *testing.T) {
	docker, program := daemon(t), restic(t)
	ctx := t.Context()
	ref, err := Ensure(ctx, docker, os.Args[0], program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = docker.ImageRemove(context.WithoutCancel(ctx), ref, image.RemoveOptions{Force: true, PruneChildren: true})
	})
	before, err := docker.ImageInspect(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Ensure(ctx, docker, os.Args[0], program)
	if err != nil || again != ref {
		t.Fatalf("second Ensure = %q, %v; want %q", again, err, ref)
	}
	after, err := docker.ImageInspect(ctx, ref)
	if err != nil || after.ID != before.ID {
		t.Fatalf("the second Ensure built the image again: %s, %v", after.ID, err)
	}
	if !after.Metadata.LastTagTime.After(before.Metadata.LastTagTime) { // or another version takes it away
		t.Errorf("the daemon does not know that the image was asked for again: %s, then %s", before.Metadata.LastTagTime, after.Metadata.LastTagTime)
	}

	created, err := docker.ContainerCreate(ctx,
		&container.Config{Image: ref, Cmd: HoldCommand(time.Minute)},
		&container.HostConfig{NetworkMode: "none", AutoRemove: true}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = docker.ContainerRemove(context.WithoutCancel(ctx), created.ID, container.RemoveOptions{Force: true})
	})
	if err := docker.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code, err := Exec(ctx, docker, created.ID, []string{Restic, "version"}, nil, &out, &errs)
	if err != nil || code != 0 || !strings.HasPrefix(out.String(), "restic ") {
		t.Fatalf("restic version = %d, %v\n%s%s", code, err, &out, &errs)
	}
	code, err = Exec(ctx, docker, created.ID, []string{Restic, "no-such-command"}, nil, nil, &errs)
	if err != nil || code == 0 {
		t.Errorf("a failing command = %d, %v; want its exit code", code, err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := Exec(short, docker, created.ID, HoldCommand(time.Minute), nil, nil, nil); err == nil {
		t.Error("Exec outlived its context")
	}
}

func TestOutdated(t *testing.T) {
	const old, young = 2 * keepFor, keepFor / 2
	const keep = "cc-ci.local/box:0123456789ab"
	for _, tc := range []struct {
		name   string
		tags   []string
		unused time.Duration
		want   bool
	}{
		{"the one in use now", []string{keep}, old, false},
		{"an old one of ours", []string{"cc-ci.local/box:ffffffffffff"}, old, true},
		{"one of a version before", []string{"cc-ci/box:ffffffffffff"}, old, true},
		{"a young one may be about to be used", []string{"cc-ci.local/box:ffffffffffff"}, young, false},
		{"one that lost its tag to a twin", nil, young, true},
		{"untagged as old daemons write it", []string{"<none>:<none>"}, young, true},
		{"somebody gave it another name", []string{"cc-ci.local/box:ffffffffffff", "mine:1"}, old, false},
	} {
		if got := outdated(image.Summary{RepoTags: tc.tags}, keep, tc.unused); got != tc.want {
			t.Errorf("%s: outdated = %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestClosureIsWhatTheLoaderFinds(t *testing.T) {
	program := restic(t)
	f, err := elf.Open(program)
	if err != nil {
		t.Skipf("restic here is no ELF program: %v", err)
	}
	defer f.Close()
	loader := interpreter(f)
	got, err := closure(program)
	if err != nil {
		t.Fatal(err)
	}
	if loader == "" {
		if len(got) != 0 {
			t.Fatalf("a static program needs %q", got)
		}
		return
	}
	out, err := exec.Command(loader, "--list", program).Output()
	if err != nil {
		t.Skipf("the loader does not list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		_, path, ok := strings.Cut(line, "=> ")
		if !ok {
			continue
		}
		path = strings.Fields(path)[0]
		if !slices.ContainsFunc(got, func(g string) bool { return sameFile(g, path) }) {
			t.Errorf("%s is missing in %q", path, got)
		}
	}
	if !slices.Contains(got, loader) {
		t.Errorf("the loader %s is missing in %q", loader, got)
	}
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func TestContentsRefuses(t *testing.T) {
	script := filepath.Join(t.TempDir(), "restic")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, restic := range []string{"", script, filepath.Join(t.TempDir(), "absent")} {
		if _, err := contents(os.Args[0], restic); err == nil {
			t.Errorf("contents accepted %q as restic", restic)
		}
	}
}

func TestDigestFollowsContent(t *testing.T) {
	digest := func(s fileset) string {
		d, err := s.normal().digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a := fileset{{path: "/a/b", data: []byte("x"), mode: 0o644}, {path: "/c", data: []byte("y"), mode: 0o644}}
	b := fileset{a[1], a[0], a[0]}
	if digest(a) != digest(b) {
		t.Error("the order of files changes the digest")
	}
	for _, other := range []fileset{
		{{path: "/a/b", data: []byte("x"), mode: 0o755}, a[1]},
		{{path: "/a/b", data: []byte("z"), mode: 0o644}, a[1]},
		{{path: "/a/d", data: []byte("x"), mode: 0o644}, a[1]},
	} {
		if digest(a) == digest(other) {
			t.Errorf("%+v has the digest of another content", other[0])
		}
	}
}

// A recipe that knows the digest of the next version's box pulls an image of that name from a registry:
// it is not taken for the box.
func TestN3_APulledImageIsNotTheBox(t *testing.T) {
	if testing.Short() {
		t.Skip("starts dockerd")
	}
	d := dockerd.Start(t)
	program, err := filepath.EvalSymlinks("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	files, err := contents(program, program)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := files.digest()
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, []byte("#!foreign"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cc-ci/box", "cc-ci.local.example/box"} {
		if err := d.Import(t.Context(), "docker.io/"+name+":"+digest, map[string]string{"/cc-ci": foreign}, "LABEL foreign=yes"); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := Ensure(t.Context(), d.Docker, program, program)
	if err != nil {
		t.Fatal(err)
	}
	img, err := d.Docker.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if img.Config.Labels["foreign"] != "" || img.Config.Labels[Label] != digest || !strings.HasPrefix(ref, recipe.HelperImage+":") {
		t.Errorf("%s has the labels %v", ref, img.Config.Labels)
	}
}
