package gitcmd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CommitWorkingTree records the files in the work tree at dir, also those that git does not track
// and does not ignore, as a commit on top of HEAD, and returns its id. The checkout stays as it
// is: branch, index and files are not touched. No reference holds the commit, so git removes it
// some weeks later. now is the commit's date.
func CommitWorkingTree(ctx context.Context, dir, message string, now time.Time) (string, error) {
	temp, err := os.MkdirTemp("", "cc-ci-index-")
	if err != nil {
		return "", fmt.Errorf("making a git index: %w", err)
	}
	defer os.RemoveAll(temp)
	date := now.UTC().Format(time.RFC3339)
	env := []string{
		"GIT_INDEX_FILE=" + filepath.Join(temp, "index"),
		"GIT_AUTHOR_NAME=cc-ci", "GIT_AUTHOR_EMAIL=cc-ci@localhost", "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=cc-ci", "GIT_COMMITTER_EMAIL=cc-ci@localhost", "GIT_COMMITTER_DATE=" + date,
	}
	git := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := call{dir: dir, args: args, out: &out, env: env}.run(ctx)
		return strings.TrimSpace(out.String()), err
	}
	for _, args := range [][]string{{"read-tree", "HEAD"}, {"add", "--all"}} {
		if _, err := git(args...); err != nil {
			return "", err
		}
	}
	tree, err := git("write-tree")
	if err != nil {
		return "", err
	}
	return git("commit-tree", "-p", "HEAD", "-m", message, tree)
}
