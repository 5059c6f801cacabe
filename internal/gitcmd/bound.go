package gitcmd

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Limits bound what a repository of somebody else may cost. A field that is 0 has its
// default.
type Limits struct {
	Bytes   int64         // that one fetch may store; 256 MiB
	Objects int           // that one fetch may bring; 200,000
	Refs    int           // branches and tags that a repository may list; 10,000
	Time    time.Duration // that one fetch, or the look at one tree, may take; 5 minutes
	Memory  int64         // bytes of each process of git; 1 GiB

	Files     int   // of one commit; 10,000
	TreeBytes int64 // of these files in sum; 64 MiB
	Depth     int   // folders above a file; 32
}

// orDefault fills in what is 0.
func (l Limits) orDefault() Limits {
	l.Bytes = cmp.Or(l.Bytes, 256<<20)
	l.Objects = cmp.Or(l.Objects, 200_000)
	l.Refs = cmp.Or(l.Refs, 10_000)
	l.Time = cmp.Or(l.Time, 5*time.Minute)
	l.Memory = cmp.Or(l.Memory, 1<<30)
	l.Files = cmp.Or(l.Files, 10_000)
	l.TreeBytes = cmp.Or(l.TreeBytes, 64<<20)
	l.Depth = cmp.Or(l.Depth, 32)
	return l
}

// bound is what the kernel refuses to a git and to all that it starts.
type bound struct {
	file   int64 // bytes of one file
	memory int64 // bytes of data of one process
	cpu    time.Duration
}

func (l Limits) bound() *bound { return &bound{file: l.Bytes, memory: l.Memory, cpu: l.Time} }

// boundArg is the name under which this program starts itself to become a git with
// limits. Limits that are set from outside come too late for what git has started by then.
const boundArg = "cc-ci-bounded-git"

func init() {
	if os.Args[0] != boundArg {
		return
	}
	fmt.Fprintln(os.Stderr, becomeGit(os.Args[1:]))
	os.Exit(127)
}

// becomeGit sets the limits and replaces this process. It returns only on error.
func becomeGit(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("%s: too few arguments", boundArg)
	}
	for i, which := range []int{syscall.RLIMIT_FSIZE, syscall.RLIMIT_CPU, syscall.RLIMIT_DATA} {
		n, err := strconv.ParseUint(args[i], 10, 63)
		if err != nil {
			return fmt.Errorf("%s: %w", boundArg, err)
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(which, &now); err != nil {
			return fmt.Errorf("%s: reading a limit: %w", boundArg, err)
		}
		n = min(n, now.Max)
		if err := syscall.Setrlimit(which, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("%s: setting a limit: %w", boundArg, err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("%s: setting a limit: %w", boundArg, err)
	}
	return syscall.Exec(args[3], append([]string{"git"}, args[4:]...), os.Environ())
}

// command is git with args. A nil bound sets no limits.
func (b *bound) command(ctx context.Context, args []string) (*exec.Cmd, error) {
	if b == nil {
		return exec.CommandContext(ctx, "git", args...), nil
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, missing(err)
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	cmd.Args = append([]string{boundArg, number(b.file), number(int64(b.cpu/time.Second) + 1), number(b.memory), git,
		// Maps of packs and caches are small, so that the limit is for what a repository makes git hold.
		"-c", "core.packedGitWindowSize=16m", "-c", "core.packedGitLimit=128m", "-c", "core.deltaBaseCacheLimit=32m",
		"-c", "core.bigFileThreshold=16m", "-c", "pack.threads=2", "-c", "pack.windowMemory=64m",
		"-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"}, args...)
	return cmd, nil
}
