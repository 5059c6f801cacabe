package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Seal returns the encrypted file. now goes into it.
func (f *File) Seal(now time.Time) ([]byte, error) {
	if err := f.meta.seal(f.dataKey); err != nil {
		return nil, err
	}
	doc, mac := clone(f.doc), f.mac()
	err := walk(doc, nil, func(n *yaml.Node, path []string) error {
		if !f.meta.encrypts(path) {
			return f.addPlain(mac, n, path)
		}
		v, null, err := valueOf(n)
		if err != nil || null {
			return err
		}
		mac.Write([]byte(v.text))
		text, err := f.seal(v, path)
		n.Style = 0
		n.SetString(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", f.name, err)
	}
	err = walkComments(doc, nil, func(line string, path []string) (string, error) {
		if !f.meta.encrypts(path) || strings.TrimSpace(line) == "" {
			return line, nil
		}
		return f.seal(value{typeComment, line}, path)
	})
	if err != nil {
		return nil, fmt.Errorf("encrypting the comments of %s: %w", f.name, err)
	}
	m := f.meta
	m.LastModified = now.UTC().Format(time.RFC3339)
	if m.MAC, err = seal(f.dataKey, value{typeText, fmt.Sprintf("%X", mac.Sum(nil))}, m.LastModified); err != nil {
		return nil, err
	}
	var val yaml.Node
	if err := val.Encode(m); err != nil {
		return nil, err
	}
	root := doc.Content[0]
	root.Style &^= yaml.FlowStyle
	root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: metadataKey}, &val)
	text, err := emit(doc)
	if err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", f.name, err)
	}
	return text, f.proof(text)
}

// seal encrypts a value, or takes what it was encrypted to before.
func (f *File) seal(v value, path []string) (string, error) {
	if text := f.sealed[sealedName(v, path)]; text != "" {
		return text, nil
	}
	return seal(f.dataKey, v, where(path))
}

func (f *File) unsure(err error) error {
	if err == nil {
		err = errors.New("a value would be another")
	}
	return ccci.Errorf(ccci.CodeInvalid, "%s: encrypted, it would not be read back as it was, so nothing was changed: %w", f.name, err).
		WithHint("write it more simply: comments above keys, one key per line, long texts behind |")
}

// proof reads what is about to be written, so that no file comes to be that nobody
// can open.
func (f *File) proof(text []byte) error {
	again := &File{name: f.name, dataKey: f.dataKey, sealed: map[string]string{}}
	doc, err := parse(f.name, text)
	if err == nil {
		again.doc = doc
		again.meta, err = splitMetadata(f.name, doc)
	}
	if err == nil {
		mac := again.mac()
		err = walk(doc, nil, func(n *yaml.Node, path []string) error {
			if !again.meta.encrypts(path) {
				return again.addPlain(mac, n, path)
			}
			return again.open(mac, n, path)
		})
		if err == nil {
			err = again.verify(mac)
		}
		liftComments(doc)
	}
	if err == nil {
		err = again.openComments()
	}
	if err != nil || !bytes.Equal(again.plainValues(), f.plainValues()) {
		return f.unsure(err)
	}
	if !slices.Equal(again.comments(), f.comments()) {
		return f.unsure(errors.New("a comment would be lost"))
	}
	if err := f.legible(); err != nil {
		return f.unsure(err)
	}
	return nil
}

// legible reports why the plain text, as the next editor gets it, is not this file.
func (f *File) legible() error {
	text, err := emit(f.doc)
	if err != nil {
		return err
	}
	again := &File{name: f.name}
	if again.doc, err = parse(f.name, text); err != nil {
		return err
	}
	if !bytes.Equal(again.plainValues(), f.plainValues()) || !slices.Equal(again.comments(), f.comments()) {
		return errors.New("an editor would be shown another text")
	}
	return nil
}

// comments are all lines of comments, sorted: where each belongs is the reader's view.
func (f *File) comments() []string {
	var all []string
	_ = walkComments(f.doc, nil, func(line string, _ []string) (string, error) {
		if text := strings.TrimSpace(line); text != "" {
			all = append(all, text)
		}
		return line, nil
	})
	slices.Sort(all)
	return all
}

// plainValues are all keys and values in their order.
func (f *File) plainValues() []byte {
	var b bytes.Buffer
	_ = walk(f.doc, nil, func(n *yaml.Node, path []string) error {
		v, null, _ := valueOf(n)
		fmt.Fprintf(&b, "%q %v %s %q\n", path, null, v.kind, v.text)
		return nil
	})
	return b.Bytes()
}
