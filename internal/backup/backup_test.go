package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/box"
)

// TestMain lets this test binary stand for cc-ci inside the box.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "box" && os.Args[2] == "hold" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if box.Hold(ctx, os.Args[3:]) != nil {
			os.Exit(2)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "box" && os.Args[2] == "own" {
		if box.Own(context.Background(), os.Args[3:]) != nil {
			os.Exit(2)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "box" && os.Args[2] == "clear" {
		if err := box.Clear(context.Background(), os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// app is one container with a shell, as the service "app" of a stack with the volume data.
type app struct {
	t         *testing.T
	docker    *client.Client
	box       string
	volume    string
	container string
}

func newApp(t *testing.T) *app {
	t.Helper()
	if testing.Short() {
		t.Skip("starts containers")
	}
	need := func(what string, err error) {
		if err == nil {
			return
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs %s: %v", what, err)
		}
		t.Skipf("this test needs %s: %v", what, err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	need("Docker", err)
	_, err = docker.Ping(t.Context())
	need("Docker", err)
	restic, err := exec.LookPath("restic")
	need("restic", err)

	ctx, after := t.Context(), context.WithoutCancel(t.Context())
	name := fmt.Sprintf("ccci-backup-test-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	a := &app{t: t, docker: docker, volume: name + "_data"}
	a.box, err = box.Ensure(ctx, docker, os.Args[0], restic)
	if err != nil {
		t.Fatal(err)
	}
	shell := name + ":shell"
	t.Cleanup(func() {
		_, _ = docker.ImageRemove(after, shell, image.RemoveOptions{Force: true})
		_, _ = docker.ImageRemove(after, a.box, image.RemoveOptions{Force: true})
		docker.Close()
	})
	importShell(t, docker, shell)
	if _, err := docker.VolumeCreate(ctx, volume.CreateOptions{Name: a.volume}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.VolumeRemove(after, a.volume, true) })
	created, err := docker.ContainerCreate(ctx,
		&container.Config{Image: shell, Cmd: []string{"/bin/sh"}, OpenStdin: true},
		&container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: a.volume, Target: "/data"}}}, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.ContainerRemove(after, created.ID, container.RemoveOptions{Force: true}) })
	if err := docker.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	a.container = created.ID
	return a
}

// importShell makes an image of this machine's /bin/sh and its libraries.
func importShell(t *testing.T, docker *client.Client, ref string) {
	t.Helper()
	files := []string{"/bin/sh"}
	out, _ := exec.Command("ldd", "/bin/sh").Output() // fails for a static shell
	for field := range strings.FieldsSeq(string(out)) {
		if filepath.IsAbs(field) {
			files = append(files, field)
		}
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_ = tw.WriteHeader(&tar.Header{Name: name[1:], Mode: 0o755, Size: int64(len(data))})
		_, _ = tw.Write(data)
	}
	tw.Close()
	body, err := docker.ImageImport(t.Context(), image.ImportSource{Source: &b, SourceName: "-"}, ref, image.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	_, _ = io.Copy(io.Discard, body)
}

// exec is what harness.Deployer does for a service.
func (a *app) exec(ctx context.Context, cmd harness.ExecCmd) (harness.ExecResult, error) {
	if cmd.Service != "app" {
		return harness.ExecResult{}, fmt.Errorf("service %s does not run", cmd.Service)
	}
	var out, errs bytes.Buffer
	code, err := box.Exec(ctx, a.docker, a.container, cmd.Args, cmd.Env, &out, &errs)
	return harness.ExecResult{ExitCode: code, Stdout: out.Bytes(), Stderr: errs.Bytes()}, err
}

// sh runs a line in the app, which must succeed, and returns what it printed.
func (a *app) sh(line string) string {
	a.t.Helper()
	r, err := a.exec(a.t.Context(), harness.ExecCmd{Service: "app", Args: []string{"sh", "-c", line}})
	if err != nil || r.ExitCode != 0 {
		a.t.Fatalf("%s: %d, %v: %s", line, r.ExitCode, err, r.Stderr)
	}
	return strings.TrimSpace(string(r.Stdout))
}

func (a *app) backup(runID ccci.RunID) *Backup {
	b := New(Options{Docker: a.docker, Box: a.box, RunID: runID, Exec: a.exec})
	a.t.Cleanup(func() {
		if err := b.Close(context.WithoutCancel(a.t.Context())); err != nil {
			a.t.Error(err)
		}
	})
	return b
}

func (a *app) plan(labels ...string) Plan {
	a.t.Helper()
	s := stack(service("app", "data", append([]string{"backup=true"}, labels...)...))
	s.Name = strings.TrimSuffix(a.volume, "_data")
	plan, err := PlanOf(s)
	if err != nil {
		a.t.Fatal(err)
	}
	return plan
}

// left lists what carries the run's label.
func (a *app) left(run ccci.RunID) string {
	a.t.Helper()
	ctx, f := context.WithoutCancel(a.t.Context()), filters.NewArgs(filters.Arg("label", harness.RunLabel+"="+string(run)))
	containers, err1 := a.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: f})
	volumes, err2 := a.docker.VolumeList(ctx, volume.ListOptions{Filters: f})
	if err := errors.Join(err1, err2); err != nil {
		a.t.Fatal(err)
	}
	return fmt.Sprintf("%d containers, %d volumes", len(containers), len(volumes.Volumes))
}

// U5, A26: A is seeded and backed up, B written, A read after the restore.
func TestU5_RoundTrip(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	plan := a.plan("backup.pre-hook=read x < /data/file; echo pre-$x > /data/dump", "backup.post-hook=echo post > /data/post",
		"restore.pre-hook=echo pre > /data/before-restore", "restore.post-hook=read x < /data/dump; echo $x > /data/from-dump")
	b := a.backup("round-trip")
	opened := make(chan error, 1)
	go func() { opened <- b.Open(ctx, plan) }()

	a.sh("echo A > /data/file; umask 077; echo secret > '/data/odd [name]*'")
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.ID) < 8 || snapshot.Files != 3 || snapshot.Bytes == 0 || snapshot.Tags[0] != plan.Stack+":1.0.0+2" {
		t.Errorf("snapshot = %+v", snapshot)
	}
	files, err := b.List(ctx, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if problems := Verify(plan, snapshot, files, []string{"data/file", "data/dump", "data/odd [name]*"}); len(problems) > 0 {
		t.Errorf("problems: %v in %+v", problems, files)
	}
	if problems := Verify(plan, snapshot, files, []string{"data/post"}); len(problems) != 1 {
		t.Errorf("the post-hook's file is in the snapshot: %v", problems)
	}

	a.sh("echo B > /data/file; echo B > '/data/odd [name]*'; echo B > /data/dump; echo new > /data/new")
	if err := b.Restore(ctx, snapshot); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"file": "A", "odd [name]*": "secret", "dump": "pre-A", "from-dump": "pre-A", "post": "post", "before-restore": "pre", "new": "new"} {
		if got := a.sh("read x < '/data/" + name + "'; echo $x"); got != want {
			t.Errorf("after the restore %s is %q, want %q", name, got, want)
		}
	}
	for range 2 {
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if left := a.left("round-trip"); left != "0 containers, 0 volumes" {
		t.Errorf("after Close there are %s", left)
	}
	if _, err := b.Create(ctx); err == nil {
		t.Error("Create after Close did not fail")
	}
}

// U5: links and pipes that are still there are restored too; restic before 0.15 stops at them.
func TestU5_RestoreOverLinksAndPipes(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	put := func(link string) {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for _, h := range []tar.Header{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: link, Mode: 0o777}, {Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o644}} {
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		tw.Close()
		if err := a.docker.CopyToContainer(ctx, a.container, "/data", &b, container.CopyToContainerOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put("A")
	a.sh("echo A > /data/A; echo B > /data/B; echo old > /data/file")
	b := a.backup("links")
	if err := b.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Of a snapshot that was looked into they are known: none is run into.
	for _, known := range []bool{false, true} {
		if known {
			if _, err := b.List(ctx, snapshot); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		b.opts.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		put("B")
		a.sh("echo new > /data/file")
		if err := b.Restore(ctx, snapshot); err != nil {
			t.Fatal(err)
		}
		if got := a.sh("read x < /data/link; read y < /data/file; test -p /data/pipe && echo $x $y"); got != "A old" {
			t.Errorf("after the restore: %q", got)
		}
		if n := strings.Count(log.String(), "restic has ended"); known && n != 1 {
			t.Errorf("restic was run %d times for one volume:\n%s", n, &log)
		}
	}
}

// Upstream's commonest incidents: a hook that fails, a dump that is not where the label says.
func TestU5_Failures(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	a.sh("echo A > /data/file")
	b := a.backup("failures")

	if err := b.Open(ctx, a.plan("backup.pre-hook=echo no space left >&2; exit 7", "backup.post-hook=echo up > /data/post")); err != nil {
		t.Fatal(err)
	}
	_, err := b.Create(ctx)
	var failed *HookError
	if !errors.As(err, &failed) || failed.ExitCode != 7 || failed.Hook.Service != "app" || failed.Output != "no space left" || ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("a failing pre-hook gives %v", err)
	}
	if got := a.sh("read x < /data/post; echo $x"); got != "up" {
		t.Errorf("the post-hook did not run after the failing pre-hook: %q", got)
	}

	if err := b.Open(ctx, a.plan("backup.volumes.data.path=nowhere.sql")); err != nil {
		t.Fatal(err)
	}
	if _, err = b.Create(ctx); ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "data/nowhere.sql") {
		t.Errorf("a backup of nothing gives %v", err)
	}

	plan := a.plan("backup.volumes.data.path=file,nowhere.sql")
	if err := b.Open(ctx, plan); err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	files, err := b.List(ctx, snapshot)
	if problems := Verify(plan, snapshot, files, nil); err != nil || len(problems) != 1 || problems[0].Path != "data/nowhere.sql" {
		t.Errorf("a path that the snapshot lacks gives %v, %v", problems, err)
	}

	if err := b.Open(ctx, a.plan("restore.post-hook=exit 3")); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(ctx, snapshot); !errors.As(err, &failed) || failed.Phase != "restore post-hook" {
		t.Errorf("a failing restore post-hook gives %v", err)
	}
	if err := b.Restore(ctx, Snapshot{ID: "0123456789"}); ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "restic") {
		t.Errorf("an unknown snapshot gives %v", err)
	}

	if err := b.Open(ctx, a.plan("backup=false")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("a backup that is switched off gives %v", err)
	}
	if err := b.Open(ctx, a.plan("backup.volumes.data=false")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("a backup without volumes gives %v", err)
	}
}

// A repository that the caller names is used again and kept.
func TestRepositoryOfTheCaller(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	repo := a.volume + "_repo"
	if _, err := a.docker.VolumeCreate(ctx, volume.CreateOptions{Name: repo}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.docker.VolumeRemove(context.WithoutCancel(ctx), repo, true) })
	a.sh("echo A > /data/file")
	opts := Options{Docker: a.docker, Box: a.box, RunID: "own-repo", Exec: a.exec, Repo: Repo{Volume: repo}, Password: ccci.NewSecret("p")}
	first := New(opts)
	if err := first.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	snapshot, err := first.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(ctx); err != nil {
		t.Fatal(err)
	}
	second := New(opts)
	defer second.Close(ctx)
	if err := second.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	if files, err := second.List(ctx, snapshot); err != nil || len(files) == 0 {
		t.Errorf("the snapshot is gone: %v, %v", files, err)
	}
	opts.Password = ccci.NewSecret("wrong")
	third := New(opts)
	defer third.Close(ctx)
	if err := third.Open(ctx, a.plan()); err == nil {
		t.Error("another password opened the repository")
	}
}

// N3: a link that the app makes after the backup, in the place of a folder, leads a restore nowhere that the app
// cannot reach itself: into no other volume, not into the repository, not into the container of restic. The failure is
// the recipe's.
func TestN3_ARestoreFollowsNoLinkOutOfItsVolume(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	other := a.volume + "_other"
	if _, err := a.docker.VolumeCreate(ctx, volume.CreateOptions{Name: other}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.docker.VolumeRemove(context.WithoutCancel(ctx), other, true) })
	root := a.root()
	if err := os.Mkdir(filepath.Join(root, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	a.sh("echo secret > /data/folder/planted")
	plan := a.plan()
	plan.Volumes = append(plan.Volumes, Volume{Key: "other", Name: other})
	b := a.backup("link-out")
	if err := b.Open(ctx, plan); err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "folder")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/etc", "/tmp", "/dev", "/run", plan.Volumes[1].Root(), repository, repository + "/keys"} {
		if err := os.Symlink(target, filepath.Join(root, "folder")); err != nil {
			t.Fatal(err)
		}
		err := b.Restore(ctx, snapshot)
		if err != nil && ccci.CodeOf(err) != ccci.CodeRecipe {
			t.Errorf("a link to %s: %s, %v", target, ccci.CodeOf(err), err)
		}
		if _, err := a.docker.ContainerStatPath(ctx, b.container, path.Join(target, "planted")); err == nil {
			t.Errorf("the restore followed a link to %s", target)
		}
		if err := os.RemoveAll(filepath.Join(root, "folder")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(strings.Replace(root, a.volume, other, 1), "planted")); err == nil {
		t.Error("the restore followed a link into another volume")
	}
	if err := b.Restore(ctx, snapshot); err != nil {
		t.Fatal(err)
	}
	if got := a.sh("read x < /data/folder/planted; echo $x"); got != "secret" {
		t.Errorf("after the restore: %q", got)
	}
}

// N3: of the container of restic, a restore can write into the volume alone.
func TestN3_TheContainerOfARestoreIsReadOnly(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	a.sh("echo A > /data/file")
	b := a.backup("read-only")
	b.opts.NanoCPUs = 5e8
	if err := b.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	writable := func(want ...string) {
		t.Helper()
		box, err := a.docker.ContainerInspect(ctx, b.container)
		if err != nil {
			t.Fatal(err)
		}
		if !box.HostConfig.ReadonlyRootfs || box.HostConfig.NanoCPUs != 5e8 || box.HostConfig.IpcMode != container.IPCModeNone {
			t.Errorf("read-only %t, processors %d, IPC %q", box.HostConfig.ReadonlyRootfs, box.HostConfig.NanoCPUs, box.HostConfig.IpcMode)
		}
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", box.State.Pid))
		if err != nil {
			t.Fatal(err)
		}
		last := map[string]bool{} // of several mounts at one place the last one counts
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			last[fields[4]] = strings.HasPrefix(fields[5], "rw")
		}
		var got []string
		for at, rw := range last {
			if rw && !slices.Contains([]string{"/dev/pts", "/dev/mqueue"}, at) && at != "/proc" && !strings.HasPrefix(at, "/proc/") {
				got = append(got, at)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("writable is %q, want %q", got, want)
		}
	}
	writable("/tmp", repository)
	if err := b.Restore(ctx, snapshot); err != nil {
		t.Fatal(err)
	}
	writable("/var", b.plan.Volumes[0].Root())
}

// The restore of a device fails as the recipe's and names it. The capabilities of a file come back.
func TestRestoreOfDevicesAndFileCapabilities(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	a.sh("echo A > /data/file")
	b := a.backup("devices")
	if err := b.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	program, node := filepath.Join(a.root(), "file"), filepath.Join(a.root(), "node")
	// struct vfs_cap_data, version 2: CAP_NET_BIND_SERVICE, effective and permitted
	want := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(program, "security.capability", want, 0); err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(ctx, snapshot); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	if n, err := unix.Getxattr(program, "security.capability", got); err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("after the restore the program has the capabilities %v, %v", got[:max(n, 0)], err)
	}

	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if snapshot, err = b.Create(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(node); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(ctx, snapshot); ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "/node") || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("a device: %s, %v", ccci.CodeOf(err), err)
	}
}

// The container of a restore is started beside other work, is the one that restores, and leaves with the backup also
// when nothing is restored.
func TestARestoreIsPrepared(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	a.sh("echo A > /data/file")
	ours := func() (ids []string) {
		t.Helper()
		list, err := a.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", harness.RunLabel+"=prepared"))})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		return ids
	}
	for _, restore := range []bool{true, false} {
		b := a.backup("prepared")
		b.PrepareRestore(ctx) // before Open it does nothing
		if err := b.Open(ctx, a.plan()); err != nil {
			t.Fatal(err)
		}
		snapshot, err := b.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		b.PrepareRestore(cancelled)
		cancel() // the caller's end does not end it
		<-b.ahead.done
		first := b.ahead.id
		if got := ours(); len(got) != 2 || !slices.Contains(got, first) {
			t.Errorf("containers %v, one of them %s", got, first)
		}
		if restore {
			a.sh("echo B > /data/file")
			if err := b.Restore(ctx, snapshot); err != nil {
				t.Fatal(err)
			}
			if got := ours(); !slices.Equal(got, []string{first}) {
				t.Errorf("after the restore there are %v, want %s", got, first)
			}
			if got := a.sh("read x < /data/file; echo $x"); got != "A" {
				t.Errorf("after the restore: %q", got)
			}
		}
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
		b.PrepareRestore(ctx)
		if got := ours(); len(got) > 0 {
			t.Errorf("after the end there are %v", got)
		}
	}
}

// Whatever a backup creates is announced to what removes the run's objects.
func TestA19_CreationsAreAnnounced(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	a.sh("echo A > /data/file")
	var announced []string
	b := New(Options{Docker: a.docker, Box: a.box, RunID: "announced", Exec: a.exec,
		Creating: func(ctx context.Context, kind, name string, request func(context.Context) error) error {
			announced = append(announced, kind+" "+name)
			return request(ctx)
		}})
	defer func() {
		if err := b.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	if err := b.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx); err != nil {
		t.Fatal(err)
	}
	// The volume is asked for with each container, and made once.
	want := []string{"volume cc-ci-backup-announced", "container of restic", "volume cc-ci-backup-announced", "container of restic"}
	if !slices.Equal(announced, want) {
		t.Errorf("announced %q, want %q", announced, want)
	}
}

// A run that ends while Docker makes the container of restic leaves none that holds the repository's volume: closing
// would wait for it until the end of the teardown.
func TestA19_AnEndWhileTheContainerIsMadeIsClosed(t *testing.T) {
	a := newApp(t)
	ctx, end := context.WithCancel(t.Context())
	b := New(Options{Docker: a.docker, Box: a.box, RunID: "ended-early", Exec: a.exec,
		Creating: func(ctx context.Context, kind, _ string, request func(context.Context) error) error {
			done := make(chan error, 1)
			go func() { done <- request(context.WithoutCancel(ctx)) }()
			if kind == "container" {
				end()
			}
			select {
			case err := <-done:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}})
	if err := b.Open(ctx, a.plan()); err == nil {
		t.Fatal("a backup that was ended is open")
	}
	closing, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.Close(closing); err != nil {
		t.Error(err)
	}
}
