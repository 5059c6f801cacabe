// Package gitcmd runs git so that neither the repository nor the machine it is on
// can make it start another program, ask a person, or behave otherwise than here.
//
// Off are: hooks, the file system monitor, remote helpers such as ext::, credential
// helpers, prompts of git and of ssh, the large file filter, background maintenance,
// and the configuration of the machine and of the user. What a repository's own
// configuration says besides counts, since a bare repository cannot do without it.
package gitcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// maxComplaint bounds what an error repeats of git's own words, in bytes.
const maxComplaint = 600

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
// has ended, or [exec.ExitError]; without git it is that of [Installed].
func Run(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := Output(ctx, dir, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// Output is [Run] for what is not text: it returns the very bytes.
func Output(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "safe.directory=*",
		"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
		"-c", "credential.helper=", "-c", "advice.detachedHead=false", "-c", "submodule.recurse=false",
		"-c", "filter.lfs.smudge=", "-c", "filter.lfs.clean=", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false",
		"-c", "gc.auto=0", "-c", "maintenance.auto=false",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_ALLOW_PROTOCOL=file:git:http:https:ssh", "GIT_LFS_SKIP_SMUDGE=1", "GIT_OPTIONAL_LOCKS=0",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false", "GIT_SSH_COMMAND=ssh -oBatchMode=yes",
	}
	cmd.WaitDelay = 5 * time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	switch text := firstWords(complaint.String()); {
	case err == nil:
		return out.Bytes(), nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, missing(err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("git %s: %w", args[0], ctx.Err())
	case text != "":
		return nil, fmt.Errorf("git %s: %s: %w", args[0], text, err)
	default:
		return nil, fmt.Errorf("git %s: %w", args[0], err)
	}
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
