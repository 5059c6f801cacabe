// Package secretfile reads and writes files encrypted by sops: YAML, with age
// recipients. What it writes sops reads, and the other way round.
//
// A file is opened whole or not at all: a value that was changed, moved to another
// key, added or taken away is refused. Plain text exists in memory alone.
package secretfile

import (
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"
	"strings"

	"filippo.io/age"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// File is a file of secrets, decrypted. It is not safe for concurrent use.
type File struct {
	name    string
	doc     *yaml.Node // in plain text, without metadata
	meta    metadata
	dataKey []byte
	// sealed holds what each value was encrypted to, so that a value which does not
	// change stays the same in the file, and in a diff.
	sealed map[string]string
}

// New makes a file out of plain YAML. It has no recipients yet. name is for
// messages only.
func New(name string, plain []byte, rule Rule) (*File, error) {
	f := &File{name: name, meta: metadata{Version: formatVersion, selection: rule.selection, OnlyMAC: rule.onlyMAC}}
	var err error
	if f.meta.selection, err = rule.selection.withDefault(); err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s: %v", ConfigName, err)
	}
	f.NewDataKey()
	if err := f.Replace(plain); err != nil {
		return nil, err
	}
	if err := f.SetRecipients(rule.Recipients); err != nil {
		return nil, err
	}
	return f, nil
}

// Open decrypts a file. Without a fitting identity it is an Error with CodeRefused;
// whatever was tampered with is one with CodeInvalid that names line and key, or says
// that a key is missing or new where no single one is to blame.
func Open(name string, text []byte, identities []age.Identity) (*File, error) {
	doc, err := parse(name, text)
	if err != nil {
		return nil, err
	}
	f := &File{name: name, doc: doc, sealed: map[string]string{}}
	if f.meta, err = splitMetadata(name, doc); err != nil {
		return nil, err
	}
	if f.dataKey, err = f.meta.unseal(name, identities); err != nil {
		return nil, err
	}
	mac := f.mac()
	err = walk(doc, nil, func(n *yaml.Node, path []string) error {
		if !f.meta.encrypts(path) {
			return f.addPlain(mac, n, path)
		}
		return f.open(mac, n, path)
	})
	if err != nil {
		return nil, err
	}
	if err := f.verify(mac); err != nil {
		return nil, err
	}
	liftComments(doc)
	if err := f.openComments(); err != nil {
		return nil, err
	}
	return f, nil
}

// mac begins the hash over all values.
func (f *File) mac() hash.Hash {
	h := sha512.New()
	if f.meta.OnlyMAC {
		h.Write(macOnlyEncrypted)
	}
	return h
}

func (f *File) addPlain(mac hash.Hash, n *yaml.Node, path []string) error {
	if f.meta.OnlyMAC {
		return nil
	}
	v, null, err := valueOf(n)
	if err != nil {
		return f.wrong(n, path, err)
	}
	if !null {
		mac.Write([]byte(v.text))
	}
	return nil
}

// open decrypts one value in place.
func (f *File) open(mac hash.Hash, n *yaml.Node, path []string) error {
	if n.ShortTag() == "!!null" || n.ShortTag() == "!!str" && n.Value == "" {
		return nil // sops encrypts neither
	}
	text := n.Value
	v, err := open(f.dataKey, text, where(path))
	if err != nil {
		return f.wrong(n, path, err)
	}
	if v.kind == typeComment { // so sops writes comments of lists; the MAC does not cover them
		n.SetString(v.text)
		n.Tag = commentTag
		return nil
	}
	covered, err := v.apply(n)
	if err != nil {
		return f.wrong(n, path, err)
	}
	f.sealed[sealedName(v, path)] = text
	mac.Write([]byte(covered.text))
	return nil
}

func sealedName(v value, path []string) string {
	return v.kind + "\x00" + where(path) + "\x00" + v.text
}

func (f *File) wrong(n *yaml.Node, path []string, err error) error {
	return ccci.Errorf(ccci.CodeInvalid, "%s:%d: %s: %w", f.name, n.Line, strings.Join(path, "/"), err).
		WithHint("take the file from git again, or change the value with cc-ci secrets edit; nobody edits an encrypted value by hand")
}

// verify compares the MAC of the file with what was read.
func (f *File) verify(mac hash.Hash) error {
	want, err := open(f.dataKey, f.meta.MAC, f.meta.LastModified)
	if err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "%s: sops/mac: %w", f.name, err).WithHint("take the file from git again; nobody edits this part by hand")
	}
	if want.text != fmt.Sprintf("%X", mac.Sum(nil)) {
		return ccci.Errorf(ccci.CodeInvalid, "%s: a key was added, taken away or moved since the file was encrypted: its keys now are %s", f.name, strings.Join(f.Keys(), ", ")).
			WithHint("take the file from git again and change it with cc-ci secrets edit; two branches of it cannot be merged as text")
	}
	return nil
}

// openComments decrypts comments. One that is not encrypted, or not for here, stays as
// it is, as in sops: nothing vouches for comments. Which mapping a comment belongs to
// depends on who reads the file, so each is tried.
func (f *File) openComments() error {
	all := containers(f.doc, nil)
	return walkComments(f.doc, nil, func(line string, path []string) (string, error) {
		if !isSealed(line) {
			return line, nil
		}
		for _, p := range append([][]string{path}, all...) {
			if v, err := open(f.dataKey, line, where(p)); err == nil && !strings.Contains(v.text, "\n") {
				if where(p) == where(path) {
					f.sealed[sealedName(v, path)] = line
				}
				return v.text, nil
			}
		}
		return line, nil
	})
}

// Plain returns the file in plain text, for an editor.
func (f *File) Plain() (ccci.Secret, error) {
	text, err := emit(f.doc)
	return ccci.NewSecret(string(text)), err
}

// Replace puts plain YAML in place of all values. Mistakes in it are an Error with
// CodeInvalid that names the line and never a value.
func (f *File) Replace(plain []byte) error {
	doc, err := parse(f.name, plain)
	if err != nil {
		return err
	}
	if find(doc.Content[0], []string{metadataKey}) != nil {
		return ccci.Errorf(ccci.CodeInvalid, "%s: the key %s belongs to the encryption", f.name, metadataKey).WithHint("leave it out, or give it another name")
	}
	err = walk(doc, nil, func(n *yaml.Node, path []string) error {
		if err := storable(n); err != nil {
			return ccci.Errorf(ccci.CodeInvalid, "%s:%d: %s: %w", f.name, n.Line, strings.Join(path, "/"), err).WithHint(`write it as "…"`)
		}
		return nil
	})
	if err != nil {
		return err
	}
	block(doc)
	f.doc = doc
	return nil
}

// Keys lists the paths of all values, joined by / as sops-nix names them, in the
// order of the file. A list counts once.
func (f *File) Keys() []string { return keysOf(f.doc) }

func keysOf(doc *yaml.Node) []string {
	var keys []string
	_ = walk(doc, nil, func(_ *yaml.Node, path []string) error {
		keys = append(keys, strings.Join(path, "/"))
		return nil
	})
	return slices.Compact(keys)
}

// Secret returns the value of a key, which may lead into nested keys by /. ok is
// false where there is none, or none that is a single value.
func (f *File) Secret(key string) (s ccci.Secret, ok bool) {
	n := find(f.doc.Content[0], strings.Split(key, "/"))
	if n == nil || n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ccci.Secret{}, n != nil && n.Kind == yaml.ScalarNode
	}
	return ccci.NewSecret(n.Value), true
}

// Encrypted reports whether the value of a key, which need not be there, is encrypted.
func (f *File) Encrypted(key string) bool { return f.meta.encrypts(strings.Split(key, "/")) }

// Secrets calls visit for every value that is encrypted in the file, items of lists
// among them.
func (f *File) Secrets(visit func(key string, s ccci.Secret)) {
	_ = walk(f.doc, nil, func(n *yaml.Node, path []string) error {
		if n.Value != "" && f.meta.encrypts(path) {
			visit(strings.Join(path, "/"), ccci.NewSecret(n.Value))
		}
		return nil
	})
}

// Set gives a key at the root, or one that is there, a new value. It is an Error with
// CodeNotFound where the key leads into something that is not there.
func (f *File) Set(key string, s ccci.Secret) error {
	path := strings.Split(key, "/")
	n := find(f.doc.Content[0], path)
	switch {
	case n == nil && len(path) == 1 && key != "" && key != metadataKey:
		n = &yaml.Node{Kind: yaml.ScalarNode}
		root := f.doc.Content[0]
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, n)
		root.Style &^= yaml.FlowStyle
	case n == nil:
		return ccci.Errorf(ccci.CodeNotFound, "%s has no key %s", f.name, key).WithHint("it has: %s", strings.Join(f.Keys(), ", "))
	case n.Kind != yaml.ScalarNode:
		return ccci.Errorf(ccci.CodeInvalid, "%s: %s holds several values", f.name, key).WithHint("change it with cc-ci secrets edit")
	}
	n.Style = 0
	n.SetString(s.Reveal())
	return nil
}

// Comment writes a comment above a key at the root that is there.
func (f *File) Comment(key, text string) {
	root := f.doc.Content[0]
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == key {
			root.Content[i].HeadComment = "# " + strings.ReplaceAll(text, "\n", "\n# ")
		}
	}
}

// NewDataKey makes a new key for all values. Recipients stay; whoever read the old
// one cannot read what is written from now on.
func (f *File) NewDataKey() {
	f.dataKey = make([]byte, keySize)
	rand.Read(f.dataKey) // never fails
	f.sealed = map[string]string{}
	for i := range f.meta.Age {
		f.meta.Age[i].Enc = ""
	}
}

// Recipients lists who can read the file.
func (f *File) Recipients() []string { return f.meta.recipients() }

// SetRecipients says who can read the file from the next Seal on. Whoever is there
// already keeps what was encrypted for them.
func (f *File) SetRecipients(recipients []string) error {
	if len(recipients) == 0 {
		return ccci.Errorf(ccci.CodeInvalid, "%s: nobody could read the file", f.name).WithHint("name at least the host's key in %s", ConfigName)
	}
	var all []sealedKey
	for _, r := range recipients {
		if _, err := parseRecipient(r); err != nil {
			return err
		}
		k := sealedKey{Recipient: r}
		if i := slices.IndexFunc(f.meta.Age, func(k sealedKey) bool { return k.Recipient == r }); i >= 0 {
			k = f.meta.Age[i]
		}
		if !slices.ContainsFunc(all, func(k sealedKey) bool { return k.Recipient == r }) {
			all = append(all, k)
		}
	}
	f.meta.Age = all
	return nil
}

// Apply makes a file follow a rule: who can read it, and what in it is encrypted. It
// reports whether the latter changes.
func (f *File) Apply(rule Rule) (selection bool, err error) {
	selection = f.meta.selection != rule.selection || f.meta.OnlyMAC != rule.onlyMAC
	f.meta.selection, f.meta.OnlyMAC = rule.selection, rule.onlyMAC
	return selection, f.SetRecipients(rule.Recipients)
}
