package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"filippo.io/age"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/inventory"
)

// secretsInitCmd makes what is not there, and leaves what is.
type secretsInitCmd struct {
	Host         string `placeholder:"KEY" help:"Public key of the host: age1…, ssh-ed25519 …, or a file with one. Default: that of --key-file, which is made when it is not there; for others than root it is cc-ci-host-key.txt in your home."`
	Recovery     string `placeholder:"KEY" help:"Public key of the recovery key, when there is one already."`
	RecoveryFile string `placeholder:"FILE" help:"Where to put a new recovery key. Default: cc-ci-recovery-key.txt in your home."`
}

func (c *secretsInitCmd) Run(a *app, s *secretsCmd) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "making the folder of secrets: %w", err).WithHint("name another with --dir")
	}
	if err := c.rules(a, s); err != nil {
		return err
	}
	rule, err := secretfile.RuleFor(s.file())
	if err != nil {
		return err
	}
	o, missing, err := c.secrets(s, rule)
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		fmt.Fprintf(a.stdout, "%s is there and has all keys; left as it is\n", s.file())
		return nil
	}
	var fill []string
	err = inventory.Fill(missing, o.Secret, func(k inventory.Key, value ccci.Secret) error {
		if value.Reveal() == "" {
			fill = append(fill, k.Name)
		}
		defer o.Comment(k.Name, k.Doc)
		return o.Set(k.Name, value)
	})
	if err == nil {
		err = o.save()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s was written, encrypted for %s\n", s.file(), number(len(o.Recipients()), "recipient"))
	if len(fill) > 0 {
		fmt.Fprintf(a.stdout, "left to fill in with cc-ci secrets edit: %s\n", strings.Join(fill, ", "))
	}
	return nil
}

// secrets returns the file, new or as it is, and the keys that it lacks.
func (c *secretsInitCmd) secrets(s *secretsCmd, rule secretfile.Rule) (*opened, []inventory.Key, error) {
	text, err := secretfile.Read(s.file())
	if ccci.CodeOf(err) == ccci.CodeNotFound {
		f, err := secretfile.New(s.file(), []byte("{}\n"), rule)
		return &opened{f, s.file(), nil}, inventory.Keys(), err
	}
	if err != nil {
		return nil, nil, err
	}
	listed, err := secretfile.List(s.file(), text)
	if err != nil {
		return nil, nil, err
	}
	missing := missingKeys(listed.Keys)
	if len(missing) == 0 { // and no key is needed to say so
		return nil, nil, nil
	}
	o, err := s.open()
	return o, missing, err
}

// rules writes .sops.yaml where there is none.
func (c *secretsInitCmd) rules(a *app, s *secretsCmd) error {
	name := filepath.Join(s.Dir, secretfile.ConfigName)
	if _, err := os.Lstat(name); err == nil {
		if c.Host != "" || c.Recovery != "" || c.RecoveryFile != "" {
			return ccci.Errorf(ccci.CodeConflict, "%s is there already and says who can read the secrets", name).WithHint("change it there, and then: cc-ci secrets rotate --recipients")
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking at %s: %w", name, err)
	}
	host, err := c.host(a, s)
	if err != nil {
		return err
	}
	recovery, err := c.recovery(a)
	if err != nil {
		return err
	}
	if host == recovery {
		return ccci.Errorf(ccci.CodeInvalid, "the recovery key is the host's own, so that both are lost together").WithHint("leave --recovery out to have one made")
	}
	text, err := secretfile.Config("^"+regexp.QuoteMeta(inventory.FileName)+"$", [][2]string{{"host", host}, {"recovery", recovery}})
	if err != nil {
		return err
	}
	return secretfile.Write(name, nil, text, 0o644)
}

func (c *secretsInitCmd) host(a *app, s *secretsCmd) (string, error) {
	if c.Host != "" {
		return publicKey(c.Host)
	}
	file, prepared := s.KeyFile, false
	if file == "" {
		file = secretfile.HostKeyFile
		if prepared = os.Geteuid() != 0; prepared { // this is not the host, or not its administrator
			home, err := os.UserHomeDir()
			if err != nil {
				return "", ccci.Errorf(ccci.CodeInvalid, "finding a place for the host's key: %w", err).WithHint("name one with --key-file")
			}
			file = filepath.Join(home, secretfile.PreparedKey)
		}
	}
	recipient, made, err := ensureKey(file, "the host's key")
	switch {
	case err != nil:
		return "", err
	case prepared:
		fmt.Fprintf(a.stdout, "the host's key is at %s: bring it to the host as %s, mode 0600, and remove it here when all is filled in\n", file, secretfile.HostKeyFile)
	case made:
		fmt.Fprintf(a.stdout, "the host's key was made at %s; it is the only secret outside git\n", file)
	}
	return recipient, nil
}

func (c *secretsInitCmd) recovery(a *app) (string, error) {
	if c.Recovery != "" {
		return publicKey(c.Recovery)
	}
	file := c.RecoveryFile
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", ccci.Errorf(ccci.CodeInvalid, "finding a place for the recovery key: %w", err).WithHint("name one with --recovery-file")
		}
		file = filepath.Join(home, "cc-ci-recovery-key.txt")
	}
	recipient, _, err := ensureKey(file, "the recovery key")
	if err != nil {
		return "", err
	}
	fmt.Fprintf(a.stdout, "the recovery key is at %s: take it away from this machine now, to a place that does not fail together with it, and remove it here\n", file)
	return recipient, nil
}

// publicKey reads a key that is written out, or the file that holds it.
func publicKey(text string) (string, error) {
	if data, err := os.ReadFile(text); err == nil {
		if bytes.Contains(data, []byte("PRIVATE KEY")) || bytes.Contains(data, []byte("AGE-SECRET-KEY-")) {
			return "", ccci.Errorf(ccci.CodeInvalid, "%s holds a secret key", text).WithHint("name the public half: of ssh the file that ends in .pub, of age what age-keygen -y prints")
		}
		text = string(data)
	}
	return secretfile.Recipient(text)
}

// ensureKey returns the recipient of the age key in a file, which is made where it is
// not there. It refuses to make one in a repository.
func ensureKey(file, what string) (recipient string, made bool, err error) {
	recipient, err = secretfile.RecipientOf(file)
	if _, statErr := os.Lstat(file); statErr == nil {
		return recipient, false, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", false, fmt.Errorf("making %s: %w", what, err)
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return "", false, ccci.Errorf(ccci.CodeRefused, "%s would be in the git repository %s", what, dir).WithHint("name a place outside of it with --key-file or --recovery-file")
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", false, fmt.Errorf("making %s: %w", what, err)
	}
	recipient = id.Recipient().String()
	text := fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), recipient, id)
	if err := os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return "", false, ccci.Errorf(ccci.CodeInvalid, "making %s: %w", what, err).WithHint("on another machine than the host give the host's public key with --host")
	}
	if err := secretfile.Write(file, nil, []byte(text), 0o600); err != nil {
		return "", false, ccci.Errorf(ccci.CodeInvalid, "making %s: %w", what, err).WithHint("on another machine than the host give the host's public key with --host")
	}
	return recipient, true, nil
}
