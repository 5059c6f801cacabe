package localforge

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// mergeDepth bounds how many commits of a target branch are compared with a tested one.
const mergeDepth = 1000

// Merge implements [ccci.Forge]. This forge merges nothing itself: people merge with git and push.
// A pull request counts as merged when its target branch was at the tested commit, has a merge of
// it, or has since had exactly its files, as after a squash.
func (f *Forge) Merge(ctx context.Context, pr ccci.PRRef, tested ccci.Commit) (ccci.Merge, error) {
	p, err := f.pull(ctx, f.db.Read, pr)
	if err != nil {
		return ccci.Merge{}, f.db.Explain(err)
	}
	repository, err := f.Repository(ctx, pr.Repo)
	if err != nil {
		return ccci.Merge{}, err
	}
	m := ccci.Merge{Branch: p.Base, Default: p.Base == repository.Branch}
	if m, err = f.git.merged(ctx, f.path(pr.Repo), m, tested); err != nil {
		return ccci.Merge{}, ccci.Errorf(ccci.CodeInfra, "looking whether %s was merged: %w", pr, err)
	}
	return m, nil
}

// merged completes m with the commit that brought tested into its branch, and is the zero Merge
// where none did.
func (g git) merged(ctx context.Context, path string, m ccci.Merge, tested ccci.Commit) (ccci.Merge, error) {
	tip, err := g.head(ctx, path, m.Branch)
	if err != nil || tip == "" {
		return ccci.Merge{}, err
	}
	if ok, err := g.has(ctx, path, tested); err != nil || !ok {
		return ccci.Merge{}, err
	}
	base, err := g.run(ctx, path, "merge-base", string(tip), string(tested))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && ctx.Err() == nil {
		return ccci.Merge{}, nil // the two have no history in common
	}
	if err != nil {
		return ccci.Merge{}, err
	}
	tree := func(commit ccci.Commit) (string, error) {
		return g.run(ctx, path, "rev-parse", string(commit)+"^{tree}")
	}
	files, err := tree(tested)
	if err != nil {
		return ccci.Merge{}, err
	}
	// The branch's own line since then, the oldest first. What was merged is beside it.
	line, err := g.line(ctx, path, base+".."+string(tip))
	if err != nil {
		return ccci.Merge{}, err
	}
	if len(line) >= mergeDepth {
		return ccci.Merge{}, nil // too long ago to be told
	}
	came, err := g.tips(ctx, path, m.Branch)
	if err != nil {
		return ccci.Merge{}, err
	}
	if ccci.Commit(base) == tested { // the branch holds it
		held, err := g.run(ctx, path, "rev-list", "--ancestry-path", base+".."+string(tip), "--")
		if err != nil {
			return ccci.Merge{}, err
		}
		since := strings.Fields(held)
		m.Commit = tested
		for _, c := range line {
			if c.parent == tested { // it is on the branch's own line
				break
			}
			if slices.Contains(since, string(c.commit)) {
				m.Commit, m.At = c.commit, came.at(c)
				break
			}
		}
		if m.Commit == tested {
			if m.At, err = g.forwarded(ctx, path, came, tested, tip); err != nil || m.At.IsZero() {
				return ccci.Merge{}, err
			}
		}
		return m.Compare(tested, tree)
	}
	for _, c := range line {
		if c.tree == files {
			m.Commit, m.At = c.commit, came.at(c)
			return m.Compare(tested, tree)
		}
	}
	return ccci.Merge{}, nil
}

// forwarded returns when a branch that holds tested on its own line came to be at it, and zero
// where it never is known to have been: another commit was pushed with this one below it, and that
// one's verdict is the branch's. The time is not that of the question, which would put an old
// commit that somebody opens a pull request of before all that was found out since.
func (g git) forwarded(ctx context.Context, path string, came tips, tested, tip ccci.Commit) (time.Time, error) {
	if at, known := came[tested]; known || tested != tip {
		return at, nil
	}
	c, err := g.line(ctx, path, string(tested)+"^!")
	if err != nil || len(c) == 0 {
		return time.Time{}, err
	}
	return c[0].at, nil
}

// tips are the commits that a branch was at, each with the latest time when it came there. They
// are what git has noted: a repository that an earlier version made has no such notes.
type tips map[ccci.Commit]time.Time

// at is when a commit came onto the branch: by the commit's own time where nothing was noted.
func (t tips) at(c step) time.Time {
	if at, known := t[c.commit]; known {
		return at
	}
	return c.at
}

func (g git) tips(ctx context.Context, path, branch string) (tips, error) {
	out, err := g.run(ctx, path, "log", "--walk-reflogs", "--max-count="+strconv.Itoa(mergeDepth), "--date=unix", "--format=%H %gd", "refs/heads/"+branch, "--")
	if err != nil {
		return nil, err
	}
	came := tips{}
	for text := range strings.Lines(out) { // the latest first
		commit, note, _ := strings.Cut(strings.TrimSpace(text), " ")
		_, at, _ := strings.Cut(note, "@{")
		seconds, err := strconv.ParseInt(strings.TrimSuffix(at, "}"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git log answers %q", text)
		}
		if _, known := came[ccci.Commit(commit)]; !known {
			came[ccci.Commit(commit)] = time.Unix(seconds, 0).UTC()
		}
	}
	return came, nil
}

// step is a commit on a branch's own line.
type step struct {
	commit, parent ccci.Commit
	tree           string
	at             time.Time
}

// line lists the commits of a range along their first parents, the oldest first.
func (g git) line(ctx context.Context, path, of string) ([]step, error) {
	out, err := g.run(ctx, path, "log", "--first-parent", "--reverse", "--max-count="+strconv.Itoa(mergeDepth), "--format=%H %T %ct %P", of, "--")
	if err != nil {
		return nil, err
	}
	var line []step
	for text := range strings.Lines(out) {
		words := strings.Fields(text)
		if len(words) < 3 {
			return nil, fmt.Errorf("git log answers %q", text)
		}
		seconds, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git log answers %q", text)
		}
		c := step{commit: ccci.Commit(words[0]), tree: words[1], at: time.Unix(seconds, 0).UTC()}
		if len(words) > 3 {
			c.parent = ccci.Commit(words[3])
		}
		line = append(line, c)
	}
	return line, nil
}
