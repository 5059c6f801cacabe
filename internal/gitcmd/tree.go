package gitcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"unicode"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// maxLinks bounds the symbolic links of one commit.
const maxLinks = 1000

// CheckOut lays out the files of a commit of the repository in dir at target, as a work
// tree of that repository, after CheckTree has found nothing.
func CheckOut(ctx context.Context, dir, target, commit string, limits Limits) error {
	if err := CheckTree(ctx, dir, commit, limits); err != nil {
		return err
	}
	limits = limits.orDefault()
	b := limits.bound()
	b.file = limits.TreeBytes * 4 // .gitattributes may choose a longer encoding
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, &overdue{limits.Time})
	defer cancel()
	err := call{dir: dir, bound: b, out: io.Discard, args: []string{"worktree", "add", "--quiet", "--detach", "--", target, commit}}.run(ctx)
	if err != nil {
		return limits.explain(err)
	}
	return nil
}

// CheckTree looks at the files of a commit before any of them is written. Those
// beyond the limits, names that mean something to git or to a terminal, and symbolic
// links that lead out of the tree are an Error with CodeRefused that names the first.
func CheckTree(ctx context.Context, dir, commit string, limits Limits) error {
	limits = limits.orDefault()
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, &overdue{limits.Time})
	defer cancel()
	t := tree{limits: limits, links: map[string]string{}}
	lines := lineWriter{end: 0, each: t.entry}
	err := call{dir: dir, bound: limits.bound(), out: &lines,
		args: []string{"ls-tree", "-r", "-z", "--long", "--full-tree", "--end-of-options", commit}}.run(ctx)
	if err == nil {
		err = t.readLinks(ctx, dir)
	}
	if err != nil {
		return limits.explain(err)
	}
	return t.judgeLinks()
}

// tree is what is known of a commit's files.
type tree struct {
	limits Limits
	files  int
	bytes  int64
	links  map[string]string // path -> object, later target
	order  []string          // paths of links
}

// entry judges one line of git ls-tree: mode, kind, object, size, a tab, the path.
func (t *tree) entry(line string) error {
	about, name, ok := strings.Cut(line, "\t")
	fields := strings.Fields(about)
	if !ok || len(fields) != 4 {
		return fmt.Errorf("git ls-tree printed %q", line)
	}
	if t.files++; t.files > t.limits.Files {
		return refused("has more than %d files in one commit", "files", t.limits.Files)
	}
	if n, err := strconv.ParseInt(fields[3], 10, 64); err == nil { // submodules have none
		t.bytes += n
		if n > t.limits.TreeBytes || t.bytes > t.limits.TreeBytes {
			return refused("has more than %d MiB of files in one commit", "tree_mib", t.limits.TreeBytes>>20)
		}
	}
	if strings.Count(name, "/") > t.limits.Depth || len(name) > 4096-1024 {
		return refused("has a file more than %d folders deep", "depth", t.limits.Depth)
	}
	for part := range strings.SplitSeq(name, "/") {
		if why := badName(part); why != "" {
			return ccci.Errorf(ccci.CodeRefused, "the repository has a file named %.200q: %s", name, why).WithHint("rename it")
		}
	}
	if fields[0] != "120000" {
		return nil
	}
	if len(t.order) >= maxLinks {
		return ccci.Errorf(ccci.CodeRefused, "the repository has more than %d symbolic links", maxLinks).WithHint("put the files themselves into it")
	}
	t.links[name] = fields[2]
	t.order = append(t.order, name)
	return nil
}

// badName says what is wrong with one segment of a path; "" is nothing.
func badName(s string) string {
	folded := strings.TrimRight(strings.ToLower(strings.Map(visible, s)), " .")
	switch {
	case s == "" || s == "." || s == "..":
		return "it names no file"
	case folded == ".git" || strings.HasPrefix(folded, ".git:") || folded == "git~1":
		return "git keeps its own files under this name"
	case len(s) > 255:
		return "the name is longer than 255 bytes"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "it has control characters"
	}
	return ""
}

// visible drops characters that some file systems do not compare.
func visible(r rune) rune {
	if unicode.Is(unicode.Cf, r) {
		return -1
	}
	return r
}

// readLinks puts the targets of links in the place of their objects.
func (t *tree) readLinks(ctx context.Context, dir string) error {
	if len(t.order) == 0 {
		return nil
	}
	var ask strings.Builder
	for _, name := range t.order {
		ask.WriteString(t.links[name] + "\n")
	}
	out := capped{limit: maxLinks * (4096 + 128)}
	err := call{dir: dir, bound: t.limits.bound(), in: strings.NewReader(ask.String()), out: &out, args: []string{"cat-file", "--batch"}}.run(ctx)
	if errors.Is(err, errTooLong) {
		return ccci.Errorf(ccci.CodeRefused, "the repository has symbolic links with targets that are too long").WithHint("put the files themselves into it")
	}
	if err != nil {
		return err
	}
	rest := out.Bytes()
	for _, name := range t.order { // each: object, kind, size, line break, content, line break
		head, more, _ := bytes.Cut(rest, []byte("\n"))
		fields := strings.Fields(string(head))
		if len(fields) != 3 {
			return fmt.Errorf("git cat-file printed %.100q", head)
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil || size < 0 || size+1 > len(more) {
			return fmt.Errorf("git cat-file printed %.100q", head)
		}
		t.links[name], rest = string(more[:size]), more[size+1:]
	}
	return nil
}

// judgeLinks refuses links that lead out of the tree. One that leads through another
// link is refused too: where it ends is not to be seen from its text.
func (t *tree) judgeLinks() error {
	for _, name := range t.order {
		target := t.links[name]
		why := t.leads(path.Dir(name), target)
		if why != "" {
			return ccci.Errorf(ccci.CodeRefused, "the symbolic link %.200q leads to %.200q, %s", name, target, why).
				WithHint("put the file itself into the repository")
		}
	}
	return nil
}

func (t *tree) leads(at, target string) string {
	if target == "" || strings.HasPrefix(target, "/") || strings.ContainsRune(target, 0) {
		return "which is not in the repository"
	}
	parts := strings.Split(target, "/")
	for i, part := range parts {
		if part == ".." && at == "." {
			return "which is not in the repository"
		}
		at = path.Join(at, part)
		if _, link := t.links[at]; link && i < len(parts)-1 {
			return "through another link"
		}
		if badName(part) != "" && part != "." && part != ".." && part != "" {
			return "a name that is not allowed"
		}
	}
	return ""
}
