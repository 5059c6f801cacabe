package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/headroom"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// TestScripts runs testdata/script: the manual of the command line, checked. No
// script needs Docker. Besides testscript's own commands they have
//
//	exits CODE PROGRAM ARGS...  run it and compare its exit code
//	verdict CODE PROGRAM ARGS... the same where the code is what was asked for, and needs no way out
//	hold-port VAR               listen on a free port of this machine; VAR is its address
//	hold-lock FILE              lock FILE as another process would
//	repo DIR                    make DIR a git repository and commit what is in it
//	release DIR VERSION         commit what is in DIR and tag it
//	store FILE                  put the runs that FILE lists into the database in data, and their logs into the blobs
//	small-disk DIR KIB          make DIR a file system of its own; for root
//	fill DIR KIB                write to DIR until KIB are left
//	narrow N                    fail when the last output has lines of more than N characters
//
// Every script has a configuration, which $CC_CI_CONFIG names, with its data in
// the folder data. UPDATE=1 rewrites the texts that scripts compare with cmp.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			// Nothing outside of the script's folder is touched, by root neither.
			ours := filepath.Join(env.WorkDir, "cc-ci.yml")
			if _, err := os.Stat(ours); errors.Is(err, fs.ErrNotExist) {
				if err := os.WriteFile(ours, []byte("data: data\nlisten: 127.0.0.1:0\n"), 0o644); err != nil {
					return err
				}
			}
			env.Setenv("CC_CI_CONFIG", ours)
			env.Setenv("XDG_DATA_HOME", env.WorkDir)
			env.Setenv("TMPDIR", env.WorkDir)
			docs, err := filepath.Abs("../../docs")
			if err != nil {
				return err
			}
			env.Setenv("DOCS", docs)
			env.Setenv("COLUMNS", "80")
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			env.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			// No script may reach a daemon, even by mistake.
			env.Setenv("DOCKER_HOST", "unix://"+filepath.Join(env.WorkDir, "no-docker.sock"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			root := os.Geteuid() == 0
			switch cond {
			case "root":
				return root, nil
			case "mounts":
				if !root && os.Getenv("CI") != "" {
					return false, errors.New("a file system cannot be mounted here, and CI must try what needs one")
				}
				return root, nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     scriptExits,
			"verdict":   scriptVerdict,
			"hold-port": scriptHoldPort,
			"hold-lock": scriptHoldLock,
			"repo":      scriptRepo,
			"release":   scriptRelease,
			"narrow":    scriptNarrow,
			"store":     scriptStore,

			"small-disk": scriptSmallDisk,
			"fill":       scriptFill,
		},
	})
}

// trace matches what a crashed Go program prints.
var trace = regexp.MustCompile(`(?m)^(panic:|goroutine \d+ \[|fatal error:)|\.go:\d+`)

// scriptExits compares an exit code. Whatever is refused must come with a way out.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	scriptVerdict(ts, neg, args)
	code, _ := strconv.Atoi(args[0])
	if slices.Contains([]int{exitUsage, exitInfra, exitRefused}, code) && len(args) > 2 && !strings.Contains(ts.ReadFile("stderr"), "\nhint: ") {
		ts.Fatalf("%s refused without a hint", args[1])
	}
}

// scriptVerdict compares an exit code. Nothing may ever print a stack trace.
func scriptVerdict(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits or verdict CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("%s ended with exit code %d, not %d", strings.Join(args[1:], " "), code, want)
	}
	if found := trace.FindString(ts.ReadFile("stderr")); found != "" {
		ts.Fatalf("%s printed a stack trace (%q)", args[1], found)
	}
}

func scriptHoldPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold-port VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// scriptHoldLock locks through an open file of its own; the kernel keeps such
// locks apart as if another process had it.
func scriptHoldLock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold-lock FILE")
	}
	lock := flock.New(ts.MkAbs(args[0]))
	if ok, err := lock.TryLock(); err != nil || !ok {
		ts.Fatalf("locking %s: %v, %v", args[0], ok, err)
	}
	ts.Defer(func() { lock.Close() })
}

// scriptSmallDisk mounts a file system in memory.
func scriptSmallDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: small-disk DIR KIB")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]+"k"))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
}

func scriptFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill DIR KIB")
	}
	dir := ts.MkAbs(args[0])
	left, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	file := filepath.Join(dir, "fill")
	ts.Check(os.RemoveAll(file))
	ts.Check(os.WriteFile(file, make([]byte, max(headroom.Free(dir)-left<<10, 0)), 0o600))
	if free := headroom.Free(dir); free > left<<10+16<<10 {
		ts.Fatalf("%d bytes are free on %s", free, dir)
	}
}

// scriptStore reads a list of runs, each with the log that is kept of it.
func scriptStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: store FILE")
	}
	var runs []struct {
		ccci.Run
		Log string `json:"log"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &runs))
	cfg := config.Config{Data: ts.MkAbs("data")}
	ctx := context.Background()
	store, err := sqlstore.Open(ctx, storePath(cfg))
	ts.Check(err)
	defer store.Close()
	blobs, err := openBlobs(cfg)
	ts.Check(err)
	for _, run := range runs {
		_, _, err := store.ClaimRun(ctx, run.Run)
		ts.Check(err)
		if run.Log != "" {
			_, err := blobs.Put(ctx, ccci.ArtifactKey(run.ID, "run.log"), strings.NewReader(run.Log))
			ts.Check(err)
		}
	}
}

func scriptRepo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: repo DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(ts.Exec("git", "-C", dir, "init", "--quiet", "--initial-branch=main"))
	ts.Check(ts.Exec("git", "-C", dir, "config", "user.name", "A"))
	ts.Check(ts.Exec("git", "-C", dir, "config", "user.email", "a@example.org"))
	commitAll(ts, dir, "begin")
}

func scriptRelease(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: release DIR VERSION")
	}
	dir := ts.MkAbs(args[0])
	commitAll(ts, dir, args[1])
	ts.Check(ts.Exec("git", "-C", dir, "tag", "-a", "-m", args[1], args[1]))
}

func commitAll(ts *testscript.TestScript, dir, message string) {
	ts.Check(ts.Exec("git", "-C", dir, "add", "-A"))
	ts.Check(ts.Exec("git", "-C", dir, "commit", "--quiet", "--allow-empty", "-m", message))
}

func scriptNarrow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: narrow N")
	}
	limit, err := strconv.Atoi(args[0])
	ts.Check(err)
	for line := range strings.Lines(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > limit {
			ts.Fatalf("a line of %d characters: %s", n, line)
		}
	}
}
