package secretfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// formatVersion is the version of sops whose format new files have.
const formatVersion = "3.13.3"

// macOnlyEncrypted begins the MAC of files with mac_only_encrypted (sops.go of sops
// 3.13), so that theirs is never that of a file without.
var macOnlyEncrypted = []byte{0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0xb,
	0xb, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69}

// selection says which values are encrypted: all, unless one of these is set. As in
// sops at most one may be.
type selection struct {
	UnencryptedSuffix string `yaml:"unencrypted_suffix,omitempty"`
	EncryptedSuffix   string `yaml:"encrypted_suffix,omitempty"`
	UnencryptedRegex  string `yaml:"unencrypted_regex,omitempty"`
	EncryptedRegex    string `yaml:"encrypted_regex,omitempty"`
}

// defaultSuffix is what sops adds where nothing is selected.
const defaultSuffix = "_unencrypted"

// withDefault checks a selection and fills in sops' default.
func (s selection) withDefault() (selection, error) {
	set := slices.DeleteFunc([]string{s.UnencryptedSuffix, s.EncryptedSuffix, s.UnencryptedRegex, s.EncryptedRegex}, func(t string) bool { return t == "" })
	if len(set) > 1 {
		return s, fmt.Errorf("only one of unencrypted_suffix, encrypted_suffix, unencrypted_regex and encrypted_regex may be set")
	}
	for _, re := range []string{s.UnencryptedRegex, s.EncryptedRegex} {
		if _, err := regexp.Compile(re); err != nil {
			return s, err
		}
	}
	if len(set) == 0 {
		s.UnencryptedSuffix = defaultSuffix
	}
	return s, nil
}

// encrypts reports whether the value at path is encrypted.
func (s selection) encrypts(path []string) bool {
	has := func(test func(string) bool) bool { return slices.ContainsFunc(path, test) }
	suffix := func(end string) func(string) bool {
		return func(key string) bool { return strings.HasSuffix(key, end) }
	}
	switch {
	case s.EncryptedSuffix != "":
		return has(suffix(s.EncryptedSuffix))
	case s.EncryptedRegex != "":
		return has(regexp.MustCompile(s.EncryptedRegex).MatchString)
	case s.UnencryptedRegex != "":
		return !has(regexp.MustCompile(s.UnencryptedRegex).MatchString)
	case s.UnencryptedSuffix != "":
		return !has(suffix(s.UnencryptedSuffix))
	}
	return true
}

// metadata is the key sops: of a file. Fields keep their order in it.
type metadata struct {
	Age          []sealedKey `yaml:"age"`
	LastModified string      `yaml:"lastmodified"`
	MAC          string      `yaml:"mac"`
	selection    `yaml:",inline"`
	OnlyMAC      bool   `yaml:"mac_only_encrypted,omitempty"`
	Version      string `yaml:"version"`
}

// sealedKey is the data key, encrypted to one recipient.
type sealedKey struct {
	Recipient string `yaml:"recipient"`
	Enc       string `yaml:"enc"`
}

// known are the metadata that this package keeps.
var known = []string{"age", "lastmodified", "mac", "unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex", "mac_only_encrypted", "version"}

// splitMetadata takes the key sops out of a document.
func splitMetadata(name string, doc *yaml.Node) (metadata, error) {
	root := doc.Content[0]
	for i := 0; i < len(root.Content); i += 2 {
		key, val := root.Content[i], root.Content[i+1]
		if key.Value != metadataKey {
			continue
		}
		m, err := readMetadata(name, val)
		if err != nil {
			return m, err
		}
		root.Content = slices.Delete(root.Content, i, i+2)
		keepComment(doc, key.HeadComment)
		return m, nil
	}
	return metadata{}, ccci.Errorf(ccci.CodeInvalid, "%s is not encrypted: it has no key %s", name, metadataKey).
		WithHint("never commit it like this; cc-ci secrets init makes an encrypted file")
}

// keepComment saves a comment that stood before what was removed from the end.
func keepComment(doc *yaml.Node, comment string) {
	if comment == "" {
		return
	}
	root, at := doc.Content[0], &doc.FootComment
	if n := len(root.Content); n > 0 {
		at = &root.Content[n-2].FootComment
	}
	*at = strings.TrimPrefix(*at+"\n"+comment, "\n")
}

func readMetadata(name string, n *yaml.Node) (metadata, error) {
	var m metadata
	invalid := func(line int, hint, format string, args ...any) error {
		return ccci.Errorf(ccci.CodeInvalid, "%s:%d: %s: %s", name, line, metadataKey, fmt.Sprintf(format, args...)).WithHint("%s", hint)
	}
	const restore = "take the file from git again; nobody edits this part by hand"
	if n.Kind != yaml.MappingNode {
		return m, invalid(n.Line, restore, "keys with values are expected here")
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		none := len(val.Content) == 0 && (val.Value == "" || val.ShortTag() == "!!null" || val.Value == "0" || val.Value == "false")
		if !slices.Contains(known, key.Value) && !none {
			return m, invalid(key.Line, "cc-ci reads and writes files for age recipients alone; sops itself can take the others out", "%s is not understood", key.Value)
		}
	}
	if err := n.Decode(&m); err != nil {
		return m, invalid(n.Line, restore, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(m.Age) == 0 {
		return m, invalid(n.Line, restore, "no age recipient can read this file")
	}
	at, err := time.Parse(time.RFC3339, m.LastModified)
	if err != nil {
		return m, invalid(n.Line, restore, "lastmodified is no time")
	}
	m.LastModified = at.Format(time.RFC3339)
	if m.selection, err = m.selection.withDefault(); err != nil {
		return m, invalid(n.Line, restore, "%v", err)
	}
	return m, nil
}
