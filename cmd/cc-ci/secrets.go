package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/inventory"
)

// secretsCmd works on the encrypted file of the private repository (A29-A31).
type secretsCmd struct {
	Dir     string `default:"secrets" placeholder:"DIR" help:"Folder of the private repository that holds them."`
	KeyFile string `env:"SOPS_AGE_KEY_FILE" placeholder:"FILE" help:"Age key that opens them; default the host's, /var/lib/sops-nix/key.txt, or that of sops."`
	SSHKey  string `name:"ssh-key" env:"SOPS_AGE_SSH_PRIVATE_KEY_FILE" placeholder:"FILE" help:"Ed25519 key of ssh that is tried too; default the host's."`

	Init       secretsInitCmd       `cmd:"" help:"Make the folder, its rules and an encrypted file with all keys; what can be generated is."`
	Edit       secretsEditCmd       `cmd:"" help:"Open the secrets in $EDITOR and encrypt what was changed."`
	Rotate     secretsRotateCmd     `cmd:"" help:"Change values, the key of the file, or who can read it."`
	Check      secretsCheckCmd      `cmd:"" help:"Look whether they open, are complete and good, and nowhere in the open. Changes nothing."`
	Recipients secretsRecipientsCmd `cmd:"" help:"List who can read them."`
}

// file is the one with the secrets.
func (s *secretsCmd) file() string { return filepath.Join(s.Dir, inventory.FileName) }

// opened is the file as it is on disk, and in plain text.
type opened struct {
	*secretfile.File
	path string
	text []byte
}

func (s *secretsCmd) open() (*opened, error) {
	text, err := secretfile.Read(s.file())
	if err != nil {
		return nil, err
	}
	ids, err := secretfile.Keys{Age: s.KeyFile, SSH: s.SSHKey}.Identities()
	if err != nil {
		return nil, err
	}
	f, err := secretfile.Open(s.file(), text, ids)
	if err != nil {
		return nil, err
	}
	return &opened{f, s.file(), text}, nil
}

// save encrypts the file and puts it in place.
func (o *opened) save() error {
	text, err := o.Seal(time.Now())
	if err != nil {
		return err
	}
	if err := secretfile.Write(o.path, o.text, text, 0o600); err != nil {
		return err
	}
	o.text = text
	return nil
}

// thenCommit says how a change comes into force.
const thenCommit = "commit it in the private repository, and its new commit in this one; the next activation applies it"

// secretsRecipientsCmd needs no key.
type secretsRecipientsCmd struct {
	JSON bool `name:"json" help:"Print the list as JSON."`
}

// reader is who can read the file, or should.
type reader struct {
	Recipient string `json:"recipient"`
	Name      string `json:"name,omitempty"` // as the rules call them
	InFile    bool   `json:"in_file"`
	InRules   bool   `json:"in_rules"`
}

func (r reader) state() string {
	switch {
	case !r.InFile:
		return "not yet: cc-ci secrets rotate --recipients"
	case !r.InRules:
		return "still, though the rules do not say so: cc-ci secrets rotate --recipients"
	}
	return "can read it"
}

// readers compares a file with its rule.
func readers(inFile []string, rule secretfile.Rule) []reader {
	all := make([]reader, 0, len(rule.Recipients))
	for _, r := range rule.Recipients {
		all = append(all, reader{r, rule.Names[r], slices.Contains(inFile, r), true})
	}
	for _, r := range inFile {
		if !slices.Contains(rule.Recipients, r) {
			all = append(all, reader{r, rule.Names[r], true, false})
		}
	}
	return all
}

func (c *secretsRecipientsCmd) Run(a *app, s *secretsCmd) error {
	text, err := secretfile.Read(s.file())
	if err != nil {
		return err
	}
	listed, err := secretfile.List(s.file(), text)
	if err != nil {
		return err
	}
	rule, err := secretfile.RuleFor(s.file())
	if err != nil {
		return err
	}
	all := readers(listed.Recipients, rule)
	if c.JSON {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, r := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", cmp.Or(r.Name, "-"), r.Recipient, r.state())
	}
	return w.Flush()
}

// secretsRotateCmd changes values, the data key, or the recipients.
type secretsRotateCmd struct {
	Recipients bool     `help:"Encrypt for the recipients in .sops.yaml. When one was removed, the key of the file changes too."`
	Generated  bool     `help:"Give every key that cc-ci makes a new value."`
	Keys       []string `arg:"" optional:"" placeholder:"KEY[=FILE]" name:"key" help:"KEY gets a new generated value, KEY=FILE what the file holds (- for standard input)."`
}

// Help is the end of the command's help text.
func (secretsRotateCmd) Help() string {
	return `Without arguments every value is re-encrypted under a new key of the file. What is not named keeps its value; a value that
was ever seen by somebody who may no longer know it must itself be changed.`
}

func (c *secretsRotateCmd) Run(a *app, s *secretsCmd) error {
	o, err := s.open()
	if err != nil {
		return err
	}
	var done, after []string
	if c.Generated {
		for _, k := range inventory.Keys() {
			if k.Generated() {
				c.Keys = append(c.Keys, k.Name)
			}
		}
	}
	for _, arg := range c.Keys {
		name, err := o.change(a, arg)
		if err != nil {
			return err
		}
		done = append(done, name+" has a new value")
		if k, _ := inventory.Find(name); k.After != "" {
			after = append(after, name+": "+k.After)
		}
	}
	if c.Recipients {
		said, err := o.follow()
		if err != nil {
			return err
		}
		done = append(done, said...)
	}
	if !c.Recipients && len(c.Keys) == 0 {
		o.NewDataKey()
		done = append(done, "the file has a new key, and every value is re-encrypted")
	}
	if len(done) == 0 {
		fmt.Fprintf(a.stdout, "%s is encrypted for those whom the rules name; nothing is left to do\n", o.path)
		return nil
	}
	if err := o.save(); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", o.path, strings.Join(done, "; "))
	for _, line := range after {
		fmt.Fprintf(a.stdout, "  %s\n", line)
	}
	fmt.Fprintln(a.stdout, thenCommit)
	return nil
}

// follow makes the recipients those of the rules, and says what changed.
func (o *opened) follow() ([]string, error) {
	rule, err := secretfile.RuleFor(o.path)
	if err != nil {
		return nil, err
	}
	var said []string
	gone := false
	for _, r := range readers(o.Recipients(), rule) {
		who := cmp.Or(r.Name, r.Recipient)
		switch {
		case !r.InFile:
			said = append(said, who+" can read it now")
		case !r.InRules:
			gone = true
			said = append(said, who+" cannot read it any more, and still knows what was in it")
		}
	}
	if gone {
		o.NewDataKey()
	}
	selection, err := o.Apply(rule)
	if selection {
		said = append(said, "what in it is encrypted follows the rules")
	}
	return said, err
}

// change gives one key a new value, generated or from a file, and returns its name.
func (o *opened) change(a *app, arg string) (string, error) {
	name, file, fromFile := strings.Cut(arg, "=")
	if fromFile {
		value, err := readValue(file)
		if err != nil {
			return name, err
		}
		if _, known := inventory.Find(name); !known {
			if _, there := o.Secret(name); !there {
				return name, noSuchKey(o, name)
			}
		}
		return name, o.put(name, value)
	}
	k, known := inventory.Find(name)
	switch {
	case !known:
		return name, noSuchKey(o, name)
	case !k.Generated():
		return name, ccci.Errorf(ccci.CodeInvalid, "%s cannot be generated: %s", name, strings.TrimSuffix(k.Doc, ".")).WithHint("get a new one there, and store it with cc-ci secrets rotate %s=FILE", name)
	}
	return name, o.put(name, k.Generate())
}

// put sets a key, and what follows from it.
func (o *opened) put(name string, value ccci.Secret) error {
	old, _ := o.Secret(name)
	if err := o.Set(name, value); err != nil {
		return err
	}
	if also, follows, ok := inventory.Follow(name, old, value, o.Secret); ok {
		return o.Set(also, follows)
	}
	return nil
}

func noSuchKey(o *opened, name string) error {
	return ccci.Errorf(ccci.CodeInvalid, "there is no key %q that cc-ci knows how to make", name).WithHint("the file has: %s; others are added with cc-ci secrets edit", strings.Join(o.Keys(), ", "))
}
