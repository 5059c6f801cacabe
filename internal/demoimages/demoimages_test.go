package demoimages

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockerimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestSelectImages(t *testing.T) {
	cases := []struct {
		only []string
		want []string
	}{
		{nil, References()},
		{[]string{"pocketbase"}, []string{"cc-ci.local/pocketbase:0.28.2", "cc-ci.local/pocketbase:0.36.8"}},
		{[]string{"postgres", "miniflux:2.2.3"}, []string{"cc-ci.local/miniflux:2.2.3", "cc-ci.local/postgres:15"}},
		{[]string{"cc-ci.local/tinyapp:1.0.0", "tinyapp:1.0.0"}, []string{"cc-ci.local/tinyapp:1.0.0"}},
	}
	for _, c := range cases {
		picked, err := selectImages(c.only)
		if err != nil {
			t.Errorf("%v: %v", c.only, err)
		}
		var refs []string
		for _, img := range picked {
			refs = append(refs, img.ref)
		}
		if !slices.Equal(refs, c.want) {
			t.Errorf("selectImages(%v) = %v, want %v", c.only, refs, c.want)
		}
	}
	for _, unknown := range []string{"", "postgre", "pocketbase:1", "docker.io/pocketbase"} {
		_, err := selectImages([]string{"tinyapp", unknown})
		if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(ccci.HintOf(err), "cc-ci.local/postgres:15") {
			t.Errorf("selectImages(%q) = %v, hint %q; want an Error that lists what there is", unknown, err, ccci.HintOf(err))
		}
	}
}

// A changed definition under an old tag must be noticed.
func TestHashFollowsTheDefinition(t *testing.T) {
	seen := map[string]string{}
	note := func(what, hash string) {
		if before, ok := seen[hash]; ok {
			t.Errorf("%s has the hash of %s", what, before)
		}
		seen[hash] = what
	}
	for _, img := range catalogue {
		note(img.ref, img.hash("amd64"))
		note(img.ref+" arm64", img.hash("arm64"))
	}
	img := postgres15()
	img.debian.files = map[string]string{"/usr/local/bin/postgres-entrypoint": postgresEntrypoint + "#"}
	note("another entrypoint", img.hash("amd64"))
	img = tinyapp("1.0.0")
	img.config = append(img.config, "ENV A=b")
	note("another configuration", img.hash("amd64"))
	if postgres15().hash("amd64") != postgres15().hash("amd64") {
		t.Error("the hash of one definition changes")
	}
}

func TestWriteRoot(t *testing.T) {
	program := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(program, []byte("binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := writeRoot(&out, map[string]string{"/usr/local/bin/p": program}, []directory{{"/data", appUser, 0o750}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*tar.Header{}
	made := map[string]bool{"./": true}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if parent := filepath.Dir(strings.TrimSuffix(h.Name, "/")) + "/"; !made[parent] {
			t.Errorf("%s comes before its folder", h.Name)
		}
		made[h.Name] = h.Typeflag == tar.TypeDir
		got["/"+strings.TrimSuffix(h.Name, "/")] = h
	}
	for name, want := range map[string]struct {
		mode int64
		uid  int
	}{"/usr/local/bin/p": {0o755, 0}, "/data": {0o750, appUser}, "/tmp": {0o1777, 0}, "/etc/passwd": {0o644, 0}} {
		if h := got[name]; h == nil || h.Mode != want.mode || h.Uid != want.uid {
			t.Errorf("%s: %+v, want mode %o of user %d", name, h, want.mode, want.uid)
		}
	}
}

// Only what a kernel can start is executable, and packages without their dependencies are
// unpacked before anything is removed.
func TestBootstrapArgs(t *testing.T) {
	args, err := bootstrapArgs(t.TempDir(), wordpress("6.8", "trixie").debian)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(args, "\n")
	for _, want := range []string{`-m 0755 '`, `"$1/usr/local/bin/wordpress-entrypoint"`, `-m 0644 '`, `apt-get -qq download wordpress `, `chown 33:33 "$1/var/lib/wordpress/wp-content"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if strings.Contains(all, "etc/passwd") {
		t.Errorf("an empty line for /etc/passwd:\n%s", all)
	}
	if strings.Index(all, "download") > strings.Index(all, "rm -rf") {
		t.Error("files are removed before the packages with them are unpacked")
	}
}

func TestImportErrorIsSeen(t *testing.T) {
	if err := importError(strings.NewReader(`{"status":"sha256:1"}` + "\n")); err != nil {
		t.Error(err)
	}
	err := importError(strings.NewReader(`{"status":"x"}` + "\n" + `{"errorDetail":{},"error":"no space left on device"}` + "\n"))
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}

func TestRunTellsWhatFailed(t *testing.T) {
	var lines []string
	b := testBuilder(t)
	b.out = func(l string) { lines = append(lines, l) }
	err := b.run(t.Context(), "compiling x 1", exec.Command("ls", "/no/such/file"))
	if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "compiling x 1") || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("got %v", err)
	}
	file := strings.TrimPrefix(ccci.HintOf(err), "the whole output is in ")
	if text, readErr := os.ReadFile(file); readErr != nil || !strings.Contains(string(text), "/no/such/file") {
		t.Errorf("the hint %q names no file with the output: %v", ccci.HintOf(err), readErr)
	}
	if !slices.Equal(lines, []string{"compiling x 1"}) {
		t.Errorf("said %q", lines)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := time.Now()
	b := testBuilder(t)
	b.out = func(string) { cancel() }
	err := b.run(ctx, "waiting", exec.CommandContext(ctx, "sleep", "600"))
	if !errors.Is(err, context.Canceled) || time.Since(started) > 30*time.Second {
		t.Errorf("got %v after %s", err, time.Since(started))
	}
}

func TestCompileSaysWhenGoIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := testBuilder(t).compile(t.Context(), await)
	if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
		t.Errorf("got %v, hint %q", err, ccci.HintOf(err))
	}
	b := testBuilder(t)
	_, err = b.bootstrap(t.Context(), postgres15())
	if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(ccci.HintOf(err), "mmdebstrap") {
		t.Errorf("got %v, hint %q", err, ccci.HintOf(err))
	}
}

// The whole way on a real daemon, with an image of this test's own: compiled,
// imported, run as its user, found again, and made again when its definition changes.
func TestBuildOnARealDaemon(t *testing.T) {
	if testing.Short() {
		t.Skip("starts containers")
	}
	b := testBuilder(t)
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	b.docker = docker
	if b.arch, err = daemonArch(t.Context(), docker); err != nil {
		t.Fatal(err)
	}
	img := tinyapp("9.9.9")
	img.ref = registry + "demoimages-test:" + strings.ToLower(t.Name()) + "-" + time.Now().Format("150405.000000")
	t.Cleanup(func() {
		_, err := docker.ImageRemove(context.WithoutCancel(t.Context()), img.ref, dockerimage.RemoveOptions{Force: true})
		if err != nil {
			t.Error(err)
		}
	})
	if lacking, err := missing(t.Context(), docker, []image{img}, b.arch); err != nil || len(lacking) != 1 {
		t.Fatalf("before: %v, %v", lacking, err)
	}
	if err := b.build(t.Context(), img, "test"); err != nil {
		t.Fatal(err)
	}
	if lacking, err := missing(t.Context(), docker, []image{img}, b.arch); err != nil || len(lacking) != 0 {
		t.Errorf("after: %v, %v", lacking, err)
	}
	changed := img
	changed.config = append(slices.Clone(img.config), "ENV A=b")
	if lacking, err := missing(t.Context(), docker, []image{changed}, b.arch); err != nil || len(lacking) != 1 {
		t.Errorf("a changed definition counts as present: %v, %v", lacking, err)
	}
	// A write to /data and a pipe show user, owner and shell at once.
	out := runContainer(t, docker, img.ref, `tinyapp version > /data/v && tinyapp print /data/v | tinyapp print /dev/stdin`)
	if strings.TrimSpace(out) != "9.9.9" {
		t.Errorf("the container said %q", out)
	}
}

func runContainer(t *testing.T, docker *client.Client, ref, script string) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	made, err := docker.ContainerCreate(ctx, &container.Config{Image: ref, Cmd: []string{"sh", "-c", script}, Tty: true}, &container.HostConfig{NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	ended, failed := docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	case end := <-ended:
		if end.StatusCode != 0 {
			t.Errorf("the container ended with %d", end.StatusCode)
		}
	case <-time.After(time.Minute):
		t.Fatal("the container does not end")
	}
	logs, err := docker.ContainerLogs(ctx, made.ID, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	text, err := io.ReadAll(logs)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func testBuilder(t *testing.T) *builder {
	return &builder{cache: t.TempDir(), arch: "amd64", out: func(string) {}, log: quietLog()}
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
