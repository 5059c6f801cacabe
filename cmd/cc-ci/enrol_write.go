package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// writeEnrolment adds a repository to the list of a forge in the configuration file and
// returns the line that it stands on. The file changes whole or not at all, and nothing
// that was in it: the tree says where the entry belongs, only its own lines
// come in, and what comes out is read again before it counts. added is false
// when the repository is listed already.
func writeEnrolment(path, forge string, repo config.Repo) (line int, added bool, err error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, false, ccci.Errorf(ccci.CodeInvalid, "finding %s: %w", path, err).WithHint("name a configuration file that is there")
	}
	unlock, err := lockFolder(filepath.Dir(target))
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	old, err := os.ReadFile(target)
	if err != nil {
		return 0, false, ccci.Errorf(ccci.CodeInvalid, "reading %s: %w", path, err).WithHint("name a file that you may read")
	}
	if there, err := lists(path, old, forge, repo.Repo); err != nil || there {
		return 0, false, err
	}
	text, line, err := addRepository(path, old, forge, repo)
	if err != nil {
		return 0, false, err
	}
	if there, err := lists(path, text, forge, repo.Repo); err != nil || !there {
		return 0, false, unexpected(path, line, "what would be written does not list the repository", err)
	}
	if err := replaceFile(target, text); err != nil {
		return 0, false, ccci.Errorf(ccci.CodeInvalid, "writing %s: %w", path, err).
			WithHint("write it as its owner; where another tool makes the file, as Nix does, add the lines there, which cc-ci enrol prints without --write")
	}
	return line, true, nil
}

// lists reports whether a configuration lists a repository of a forge.
func lists(path string, text []byte, forge, repo string) (bool, error) {
	cfg, err := config.Parse(path, text)
	if err != nil {
		return false, err
	}
	all := cfg.AllForges()
	i := slices.IndexFunc(all, func(f config.ForgeEntry) bool { return f.Name == forge })
	return i >= 0 && slices.ContainsFunc(all[i].Repos, func(r config.Repo) bool { return r.Repo == repo }), nil
}

// unexpected says that the file is not written as writing to it needs.
func unexpected(path string, line int, what string, err error) error {
	if err != nil {
		what += ": " + err.Error()
	}
	return ccci.Errorf(ccci.CodeInvalid, "%s:%d: %s; nothing was written", path, line, what).
		WithHint("add the lines by hand: cc-ci enrol prints them without --write")
}

// addRepository returns text with the entry in it, and the entry's line.
func addRepository(path string, text []byte, forge string, repo config.Repo) ([]byte, int, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, 0, unexpected(path, 1, "this is not YAML", err)
	}
	entry := entryOf(repo)
	parent, key, err := listOf(path, text, &doc, forge)
	if err != nil {
		return nil, 0, err
	}
	e := edit{text: text, json: json.Valid(text), end: "\n"}
	if bytes.Contains(text, []byte("\r\n")) {
		e.end = "\r\n"
	}
	where := 1
	if parent == nil {
		where, err = e.newFile(&doc, key, entry)
	} else {
		where, err = e.add(parent, key, entry)
	}
	if err != nil {
		return nil, 0, unexpected(path, where, err.Error(), nil)
	}
	// The tree was changed as it is meant; the text must say the same.
	var got yaml.Node
	if err := yaml.Unmarshal(e.text, &got); err != nil || !sameTree(&doc, &got) {
		return nil, 0, unexpected(path, where, "the list is written in a way that nothing can be added to safely", nil)
	}
	return e.text, where, nil
}

func entryOf(repo config.Repo) *yaml.Node {
	entry := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	add := func(key, value string) { entry.Content = append(entry.Content, textNode(key), textNode(value)) }
	add("repo", repo.Repo)
	if repo.Recipe != "" {
		add("recipe", repo.Recipe)
	}
	return entry
}

func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// listOf finds the mapping whose key names the list: the top for the local forge that
// stands by itself, nil where the file holds nothing, else the forge's own entry.
func listOf(path string, text []byte, doc *yaml.Node, forge string) (parent *yaml.Node, key string, err error) {
	if len(doc.Content) == 0 || isNothing(doc.Content[0]) {
		return nil, "repos", nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, "", unexpected(path, top.Line, "this is not a list of settings", nil)
	}
	forges := valueOf(top, "forges")
	if forges == nil || isNothing(forges) {
		return top, "repos", nil
	}
	if forges.Kind != yaml.SequenceNode {
		return nil, "", unexpected(path, forges.Line, "forges is not written as a list here", nil)
	}
	// Names are defaults often enough, so that the place is asked of who knows them.
	cfg, err := config.Parse(path, text)
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(cfg.Forges, func(f config.ForgeEntry) bool { return f.Name == forge })
	switch {
	case i < 0 || len(cfg.Forges) != len(forges.Content):
		return nil, "", unexpected(path, forges.Line, fmt.Sprintf("forges has no entry %q", forge), nil)
	case forges.Content[i].Kind != yaml.MappingNode:
		return nil, "", unexpected(path, forges.Content[i].Line, fmt.Sprintf("forges[%d] is not written out here", i), nil)
	}
	return forges.Content[i], "repositories", nil
}

// valueOf is a mapping's value, nil where it has none of that key.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func isNothing(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// sameTree compares what two trees say, not how they are written.
func sameTree(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.ShortTag() == b.ShortTag() && a.Value == b.Value && a.Anchor == b.Anchor &&
		slices.EqualFunc(a.Content, b.Content, sameTree)
}

// lockFolder keeps two enrolments from writing to one file at the same time.
func lockFolder(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "opening the configuration's folder: %w", err).WithHint("run it as the owner of %s", dir)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// replaceFile puts text in the place of a file, whole or not at all, with the mode and the owner it had.
func replaceFile(path string, text []byte) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	half, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(half.Name())
		}
	}()
	_, err = half.Write(text)
	var stat unix.Stat_t
	if err == nil {
		err = unix.Stat(path, &stat)
	}
	if err == nil && int(stat.Uid) != os.Geteuid() {
		err = half.Chown(int(stat.Uid), int(stat.Gid))
	}
	if err == nil {
		err = half.Chmod(info.Mode().Perm())
	}
	if err = errors.Join(err, half.Sync(), half.Close()); err != nil {
		return err
	}
	return os.Rename(half.Name(), path)
}

// written is an entry as it stands in a file: on one line.
func written(entry *yaml.Node, asJSON bool) string {
	if asJSON {
		var fields []string
		for i := 0; i+1 < len(entry.Content); i += 2 {
			fields = append(fields, quoted(entry.Content[i].Value)+": "+quoted(entry.Content[i+1].Value))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	}
	one := *entry
	if len(one.Content) > 2 {
		one.Style = yaml.FlowStyle
	}
	var b bytes.Buffer
	d := yaml.NewEncoder(&b)
	if err := errors.Join(d.Encode(&one), d.Close()); err != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(text)
}
