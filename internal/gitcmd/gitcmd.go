// Package gitcmd runs git so that neither the repository nor the machine it is on
// can make it start another program, ask a person, or behave otherwise than here.
//
// Off are: hooks, the file system monitor, remote helpers such as ext::, credential
// helpers, prompts of git and of ssh, content filters, HTTP redirects, background
// maintenance, and the configuration of the machine and of the user. What a repository's
// own configuration says besides counts, since a bare repository cannot do without it.
//
// A repository of somebody else is fetched with [Fetch] and laid out with [CheckOut],
// which bound what it may cost.
package gitcmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// maxComplaint bounds what an error repeats of git's own words, in bytes.
	maxComplaint = 600
	// maxKept bounds what is kept of standard error, in bytes.
	maxKept = 64 << 10
	// maxOutput bounds what [Run] and [Output] hold in memory, in bytes.
	maxOutput = 64 << 20
)

// errTooLong says that a command printed more than maxOutput.
var errTooLong = errors.New("its output is too long")

// Installed returns nil, or an Error with CodeInfra that wraps [exec.ErrNotFound].
func Installed() error {
	if _, err := exec.LookPath("git"); err != nil {
		return missing(err)
	}
	return nil
}

func missing(err error) error {
	return ccci.Errorf(ccci.CodeInfra, "git is not installed: %w", err).WithHint("install it, on Debian with: apt-get install git")
}

// Run runs one git command in dir and returns what it prints, without the final line
// break. An error holds git's first words and wraps the context's error, when that
// has ended, or [exec.ExitError], and [syscall.ENOSPC] where the disk is full; without git it is
// that of [Installed].
func Run(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := Output(ctx, dir, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// Output is [Run] for what is not text: it returns the very bytes, at most 64 MiB.
// More of them are an error.
func Output(ctx context.Context, dir string, args ...string) ([]byte, error) {
	out := capped{limit: maxOutput}
	if err := Stream(ctx, dir, &out, args...); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Stream is [Output] for what is too long to be held: it writes to w as git prints.
// When a write fails git is ended, and the error wraps w's.
func Stream(ctx context.Context, dir string, w io.Writer, args ...string) error {
	return call{dir: dir, args: args, out: w}.run(ctx)
}

// Archive writes the files of a commit to w as a tar. git holds each file in memory, and
// attributes of the repository may fill in the message of a commit any number of times: what
// takes more than the limits is an Error with CodeRefused.
func Archive(ctx context.Context, dir string, w io.Writer, commit string, limits Limits) error {
	limits = limits.orDefault()
	err := call{dir: dir, bound: limits.bound(), out: w, args: []string{"archive", "--format=tar", "--end-of-options", commit}}.run(ctx)
	if err != nil {
		return limits.explain(err)
	}
	return nil
}

// Bundle writes to w a bundle of refs with all that they reach. What takes more than the limits is
// an Error with CodeRefused.
func Bundle(ctx context.Context, dir string, w io.Writer, limits Limits, refs []string) error {
	limits = limits.orDefault()
	err := call{
		dir: dir, bound: limits.bound(), out: w, in: strings.NewReader(strings.Join(refs, "\n") + "\n"),
		args: []string{"bundle", "create", "--quiet", "-", "--stdin"},
	}.run(ctx)
	if err != nil {
		return limits.explain(err)
	}
	return nil
}

// capped keeps at most limit bytes and fails beyond.
type capped struct {
	bytes.Buffer
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.limit {
		return 0, errTooLong
	}
	return c.Buffer.Write(p)
}

// call is one git command.
type call struct {
	dir   string
	args  []string
	in    io.Reader
	out   io.Writer
	env   []string // besides what every command gets
	bound *bound   // nil: as much of the machine as it takes
}

// converts are the commands that pass the content of files through filters; write-tree does for files
// that changed within the second in which the index was written.
var converts = []string{"status", "archive", "checkout", "worktree", "diff", "add", "write-tree"}

func (c call) run(ctx context.Context) error {
	settings := settingsOf()
	if slices.Contains(converts, c.args[0]) {
		off, err := filtersOff(ctx, c.dir)
		if err != nil {
			return err
		}
		settings = append(settings, off...)
	}
	return c.start(ctx, settings)
}

func (c call) start(ctx context.Context, settings []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd, err := c.bound.command(ctx, append(settings, c.args...))
	if err != nil {
		return err
	}
	cmd.Dir, cmd.Env = c.dir, append(environment(), c.env...)
	// git is many processes; all of them end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	complaint := &forgetful{limit: maxKept}
	out := &reporting{w: c.out, failed: func(err error) { cancel(err) }}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, out, complaint
	err = cmd.Run()
	switch text := firstWords(complaint.String()); {
	case out.err != nil:
		return fmt.Errorf("git %s: %w", c.args[0], out.err)
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return missing(err)
	case ctx.Err() != nil:
		return fmt.Errorf("git %s: %w", c.args[0], ended(ctx))
	case text != "" && slices.Contains(writes, c.args[0]) && full(c.dir):
		return fmt.Errorf("git %s: %s: %w, with %w", c.args[0], text, err, syscall.ENOSPC)
	case text != "":
		return fmt.Errorf("git %s: %s: %w", c.args[0], text, err)
	default:
		return fmt.Errorf("git %s: %w", c.args[0], err)
	}
}

// writes are the commands that fill a disk. git's words for a full one differ from file to file.
var writes = []string{"init", "config", "fetch", "symbolic-ref", "update-ref", "index-pack", "checkout", "worktree"}

// full reports whether hardly anything can be written to the disk of dir.
func full(dir string) bool {
	const little = 256 << 10 // bytes
	var disk syscall.Statfs_t
	return syscall.Statfs(cmp.Or(dir, "."), &disk) == nil && disk.Blocks > 0 && int64(disk.Bavail)*disk.Bsize < little
}

// ended is why ctx has ended: what this package says, else the context's own error.
func ended(ctx context.Context) error {
	var limit *ccci.Error
	var late *overdue
	if cause := context.Cause(ctx); errors.As(cause, &limit) || errors.As(cause, &late) {
		return cause
	}
	return ctx.Err()
}

// reporting remembers why its writer failed, and says so at once.
type reporting struct {
	w      io.Writer
	err    error
	failed func(error)
}

func (r *reporting) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
		r.failed(err)
	}
	return n, err
}

// forgetful keeps the first bytes and takes the rest without a word.
type forgetful struct {
	bytes.Buffer
	limit int
}

func (f *forgetful) Write(p []byte) (int, error) {
	f.Buffer.Write(p[:min(len(p), f.limit-f.Len())])
	return len(p), nil
}

// settingsOf are the options that stand before every command.
func settingsOf() []string {
	var options []string
	for _, s := range []string{
		"safe.directory=*",
		"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.alternateRefsCommand=",
		"core.protectHFS=true", "core.protectNTFS=true",
		"credential.helper=", "advice.detachedHead=false", "submodule.recurse=false",
		"filter.lfs.smudge=", "filter.lfs.clean=", "filter.lfs.process=", "filter.lfs.required=false",
		"gc.auto=0", "maintenance.auto=false",
		// A redirect leads to a server that no person named.
		"http.followRedirects=false",
		// Objects are checked, and come as one pack, whose size is known.
		"transfer.fsckObjects=true", "fetch.fsckObjects=true", "receive.fsckObjects=true",
		"transfer.unpackLimit=1", "fetch.unpackLimit=1", "receive.unpackLimit=1",
		"transfer.bundleURI=false", "fetch.writeCommitGraph=false",
		// Harmless, and in the history of many repositories.
		"fetch.fsck.zeroPaddedFilemode=ignore", "fetch.fsck.badTimezone=ignore", "fetch.fsck.missingSpaceBeforeDate=ignore",
		"receive.fsck.zeroPaddedFilemode=ignore", "receive.fsck.badTimezone=ignore", "receive.fsck.missingSpaceBeforeDate=ignore",
	} {
		options = append(options, "-c", s)
	}
	return options
}

func environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_ALLOW_PROTOCOL=file:git:http:https:ssh", "GIT_LFS_SKIP_SMUDGE=1", "GIT_OPTIONAL_LOCKS=0",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false", "GIT_SSH_COMMAND=ssh -oBatchMode=yes",
	}
}

// filtersOff are options that put every filter of a repository's own configuration out
// of use: .gitattributes, which anybody writes, chooses among them by name.
func filtersOff(ctx context.Context, dir string) ([]string, error) {
	var list capped
	list.limit = 1 << 20
	err := call{dir: dir, args: []string{"config", "--list", "--name-only", "-z"}, out: &list}.start(ctx, settingsOf())
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, nil // no repository: the command itself says so
	}
	if err != nil {
		return nil, err
	}
	var off []string
	for key := range strings.SplitSeq(list.String(), "\x00") {
		rest, ok := strings.CutPrefix(key, "filter.")
		end := strings.LastIndexByte(rest, '.')
		if !ok || end < 0 {
			continue
		}
		value := ""
		if rest[end+1:] == "required" {
			value = "false"
		}
		off = append(off, "-c", key+"="+value)
	}
	return off, nil
}

// firstWords puts the first three lines of a complaint into one of bounded length.
func firstWords(text string) string {
	lines := strings.SplitN(strings.TrimSpace(text), "\n", 4)
	text = strings.Join(lines[:min(len(lines), 3)], "; ")
	if len(text) > maxComplaint {
		text = strings.ToValidUTF8(text[:maxComplaint], "") + "…"
	}
	return text
}
