package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Listed is what a file says to everybody.
type Listed struct {
	Keys         []string // joined by /, in the order of the file
	Recipients   []string
	LastModified string // RFC 3339
}

// List reads what needs no key. Nothing vouches for it.
func List(name string, text []byte) (Listed, error) {
	doc, err := parse(name, text)
	if err != nil {
		return Listed{}, err
	}
	m, err := splitMetadata(name, doc)
	return Listed{Keys: keysOf(doc), Recipients: m.recipients(), LastModified: m.LastModified}, err
}

// Read reads a file from disk, still encrypted.
func Read(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ccci.Errorf(ccci.CodeNotFound, "there is no file %s", name).WithHint("cc-ci secrets init makes it; in a clone the private repository comes with git submodule update --init")
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "reading secrets: %w", err).WithHint("name a file that you may read")
	}
	return text, nil
}

// Write puts text in place of the file that held old, at once and whole; an absent
// file held nil. Its mode stays, and so does its owner when root writes; a new one gets mode. What somebody else wrote in
// between is left alone, and is an Error with CodeConflict.
func Write(name string, old, text []byte, mode fs.FileMode) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	dir := filepath.Dir(name)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(name)+".new-*")
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "writing %s: %w", name, err).WithHint("the folder must be there and writable for you")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if info, statErr := os.Stat(name); statErr == nil {
		mode = info.Mode().Perm()
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			err = tmp.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	_, writeErr := tmp.Write(text)
	if err = errors.Join(err, writeErr, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	now, err := os.ReadFile(name)
	if absent := errors.Is(err, fs.ErrNotExist); err != nil && !absent {
		return fmt.Errorf("writing %s: %w", name, err)
	} else if absent != (old == nil) || !bytes.Equal(now, old) {
		return ccci.Errorf(ccci.CodeConflict, "%s was changed by someone else in the meantime; their version is kept", name).WithHint("do it again on what is there now")
	}
	if err = os.Rename(tmp.Name(), name); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil // it is written; only the power may fail
	}
	defer folder.Close()
	_ = folder.Sync()
	return nil
}

// Config returns the text of a .sops.yaml: file may be read by those named, in the
// order given.
func Config(file string, who [][2]string) ([]byte, error) {
	scalar := func(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text} }
	keys, list := &yaml.Node{Kind: yaml.SequenceNode}, &yaml.Node{Kind: yaml.SequenceNode}
	for _, w := range who {
		n := scalar(w[1])
		n.Anchor = w[0]
		keys.Content = append(keys.Content, n)
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.AliasNode, Value: w[0], Alias: n})
	}
	mapping := func(pairs ...*yaml.Node) *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Content: pairs} }
	sequence := func(items ...*yaml.Node) *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode, Content: items} }
	head := scalar("keys")
	head.HeadComment = "# Who can read what. After a change: cc-ci secrets rotate --recipients"
	return emit(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{mapping(
		head, keys,
		scalar("creation_rules"), sequence(mapping(
			scalar("path_regex"), scalar(file),
			scalar("key_groups"), sequence(mapping(scalar("age"), list)),
		)),
	)}})
}
