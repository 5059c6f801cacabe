package backup

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// N7: whose doing it is that restic did not succeed. The lines are restic's own, of 0.14 and 0.17.
func TestN7_ResticsWordsSayWhoseFaultItIs(t *testing.T) {
	const gone = `{"message_type":"error","error":{"Op":"lstat","Path":"/v/a","Err":2},"during":"archival","item":"/v/a"}` + "\n"
	const warning = "Warning: at least one source file could not be read\n"
	b := &Backup{plan: Plan{Stack: "wiki"}}
	for name, c := range map[string]struct {
		code     int
		stderr   string
		want     ccci.Code
		says     string
		vanished bool
	}{
		"removed":             {3, gone + warning, ccci.CodeRecipe, `"/v/a": lstat: no such file`, true},
		"removed, newer":      {3, `{"message_type":"error","error":{"message":"lstat /v/a: no such file or directory"},"during":"archival","item":"/v/a"}` + "\n", ccci.CodeRecipe, `"/v/a": lstat: no such file`, true},
		"removed and counted": {3, strings.Replace(gone, "archival", "scan", 1) + gone, ccci.CodeRecipe, "", true},
		"unreadable":          {3, gone + `{"message_type":"error","error":{"Op":"open","Path":"/v/b","Err":36},"during":"archival","item":"/v/b"}` + "\n" + warning, ccci.CodeRecipe, `"/v/b": open: file name too long`, false},
		"an unknown reason":   {3, `{"message_type":"error","error":{},"during":"archival","item":"/v/b"}` + "\n", ccci.CodeRecipe, `"/v/b": no reason given`, false},
		"a broken disk":       {3, `{"message_type":"error","error":{"Op":"read","Path":"/v/b","Err":5},"during":"archival","item":"/v/b"}` + "\n", ccci.CodeInfra, "exit code 3", false},
		"a name like an error": {3, `{"message_type":"error","error":{"message":"open /v/input/output error: is a directory"},"during":"archival","item":"/v/input/output error"}` + "\n",
			ccci.CodeRecipe, "is a directory", false},
		"a folder in the way": {1, "ignoring error for /v/f: open /v/f: is a directory\nFatal: There were 1 errors\n", ccci.CodeRecipe, `"/v/f": open: is a directory`, false},
		"a folder in the way, newer": {1, `{"message_type":"error","error":{"message":"open /v/f: is a directory"},"during":"restore","item":"/v/f"}` + "\nFatal: There were 1 errors\n",
			ccci.CodeRecipe, `"/v/f": open: is a directory`, false},
		"a full disk":       {1, "ignoring error for /v/f: write /v/f: no space left on device\nFatal: There were 1 errors\n", ccci.CodeInfra, "There were 1 errors", false},
		"a lost pack":       {1, "ignoring error for /: ReadFull(<data/bc3433d1f6>): open /backups/restic/data/bc/bc34: no such file or directory\nFatal: There were 1 errors\n", ccci.CodeInfra, "There were 1 errors", false},
		"a damaged pack":    {1, "ignoring error for /: ReadFull(<data/bc3433d1f6>): EOF\nFatal: There were 1 errors\n", ccci.CodeInfra, "There were 1 errors", false},
		"both":              {1, "ignoring error for /v/f: open /v/f: is a directory\nignoring error for /: ReadFull(<data/bc3433d1f6>): EOF\nFatal: There were 2 errors\n", ccci.CodeInfra, "There were 2 errors", false},
		"no snapshot":       {1, "Fatal: no matching ID found\n", ccci.CodeInfra, "no matching ID", false},
		"ended for another": {1, "ignoring error for /v/f: open /v/f: is a directory\nFatal: unable to save snapshot\n", ccci.CodeInfra, "unable to save", false},
		"killed":            {137, "", ccci.CodeInfra, "exit code 137", false},
		"a path for an app": {1, "ignoring error for /v/backups/restic/x: open /v/backups/restic/x: is a directory\nFatal: There were 1 errors\n", ccci.CodeRecipe, "is a directory", false},
		"very many":         {3, strings.Repeat(strings.ReplaceAll(gone, `"Err":2`, `"Err":13`), 100_000), ccci.CodeRecipe, "and 99995 more", false},
		"a very long line":  {3, `{"message_type":"error","item":"` + strings.Repeat("x", 8<<20) + `"}` + "\n" + strings.ReplaceAll(gone, `"Err":2`, `"Err":13`), ccci.CodeRecipe, `"/v/a": lstat: permission denied`, false},
	} {
		t.Run(name, func(t *testing.T) {
			var about complaints
			for rest := []byte(c.stderr); len(rest) > 0; { // as it comes, in pieces
				n := min(len(rest), 1000)
				if _, err := about.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			err := b.fault("restoring", &resticError{code: c.code, stderr: tail(about.kept, 4000), about: &about})
			if ccci.CodeOf(err) != c.want || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 3000 {
				t.Errorf("%s: %.500v", ccci.CodeOf(err), err)
			}
			if got := about.all > 0 && about.vanished == about.all; got != c.vanished {
				t.Errorf("removed alone: %v of %d", about.vanished, about.all)
			}
		})
	}
	about := complaints{}
	for _, path := range []string{"/v/gone", "/v/there"} {
		fmt.Fprintf(&about, `{"message_type":"error","error":{},"during":"archival","item":"%s"}`+"\n", path)
	}
	about.settle(func(path string) bool { return path == "/v/there" })
	if about.all != 2 || about.vanished != 1 || about.ours != 0 {
		t.Errorf("%+v", about)
	}
	starved := b.fault("backing up", &resticError{code: 137, starved: true, about: &complaints{}})
	if ccci.CodeOf(starved) != ccci.CodeRecipe || !strings.Contains(starved.Error(), "2 GiB of memory") {
		t.Errorf("%v", starved)
	}
	if err := b.fault("listing the snapshot of", fmt.Errorf("x: %w", bufio.ErrTooLong)); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("%v", err)
	}
}

// root is the app's volume on the host, for what a shell without programs cannot do.
func (a *app) root() string {
	a.t.Helper()
	v, err := a.docker.VolumeInspect(a.t.Context(), a.volume)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := os.Stat(v.Mountpoint); err != nil {
		if os.Getenv("CI") != "" {
			a.t.Fatalf("this test needs the daemon's folder: %v", err)
		}
		a.t.Skipf("this test needs the daemon's folder: %v", err)
	}
	return v.Mountpoint
}

// N7: during a restore, what is read-only is where a link of the app leads, and the failure is the recipe's.
func TestN7_ReadOnlyIsWhereALinkLeads(t *testing.T) {
	b := New(Options{})
	for restoring, want := range map[bool]ccci.Code{true: ccci.CodeRecipe, false: ccci.CodeInfra} {
		about := complaints{readOnlyRoot: restoring}
		fmt.Fprintln(&about, "ignoring error for /v/folder/planted: open /v/folder/planted: read-only file system")
		fmt.Fprintln(&about, "Fatal: There were 1 errors")
		err := b.fault("restoring", &resticError{code: 1, stderr: tail(about.kept, 4000), about: &about})
		if ccci.CodeOf(err) != want {
			t.Errorf("restoring %t: %s, %v", restoring, ccci.CodeOf(err), err)
		}
	}
}

// N7: files that come and go are what apps do.
func TestN7_FilesRemovedDuringTheBackupAreNoError(t *testing.T) {
	a := newApp(t)
	a.sh("echo A > /data/file")
	var log bytes.Buffer
	b := a.backup("vanishing")
	b.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	plan := a.plan()
	if err := b.Open(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	root := a.root()
	var stop atomic.Bool
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; !stop.Load(); i++ {
			_ = os.WriteFile(filepath.Join(root, fmt.Sprint("tmp", i)), nil, 0o600)
			_ = os.Remove(filepath.Join(root, fmt.Sprint("tmp", i-3000)))
		}
	}()
	defer func() { stop.Store(true); <-stopped }()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for !strings.Contains(log.String(), "files were removed while they were backed up") {
		snapshot, err := b.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		files, err := b.List(ctx, snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if problems := Verify(plan, snapshot, files, []string{"data/file"}); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
}

// N7: what an app puts into its volumes so that restic fails is the recipe's failure, and named.
func TestN7_WhatAnAppPutsInTheWayIsTheRecipes(t *testing.T) {
	a := newApp(t)
	ctx := t.Context()
	a.sh("echo A > /data/file")
	b := a.backup("in-the-way")
	if err := b.Open(ctx, a.plan()); err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}

	root := a.root()
	if err := os.Remove(filepath.Join(root, "file")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "file", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(ctx, snapshot); ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "/file") {
		t.Errorf("a folder in place of a file: %s, %v", ccci.CodeOf(err), err)
	}

	deep(t, root)
	if _, err := b.Create(ctx); ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "name too long") {
		t.Errorf("a path that is too long: %s, %v", ccci.CodeOf(err), err)
	}

	limit := container.Resources{Memory: 32 << 20, MemorySwap: 32 << 20} // half of what restic takes; what the container holds by now is less
	if _, err := a.docker.ContainerUpdate(ctx, b.container, container.UpdateConfig{Resources: limit}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx); ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "memory") {
		t.Errorf("too little memory: %s, %v", ccci.CodeOf(err), err)
	}
}

// deep makes folders in each other whose path is longer than the kernel takes.
func deep(t *testing.T, root string) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	name := strings.Repeat("n", 200)
	for i := 0; i < 25 && err == nil; i++ {
		if err = unix.Mkdirat(fd, name, 0o755); err != nil {
			break
		}
		var next int
		next, err = unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd = next
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}
