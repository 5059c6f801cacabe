package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/doctor"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/inventory"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/leak"
)

// secretsCheckCmd changes nothing.
type secretsCheckCmd struct {
	Domain string `placeholder:"DOMAIN" help:"CI domain that the certificate must be for; default that of the configuration."`
	Repo   string `default:"." placeholder:"DIR" help:"Base repository, in which no secret may be."`
	JSON   bool   `name:"json" help:"Print what was found as JSON."`
}

// Help is the end of the command's help text.
func (secretsCheckCmd) Help() string {
	return `The base repository's files and the whole history of its HEAD are searched for private keys and for the secrets' own values, in the encodings in
which programs write them. Exit codes: 0 all is well (warnings may be left), 2 something must be mended, 4 none of your keys opens the file.`
}

func (c *secretsCheckCmd) Run(a *app, s *secretsCmd) error {
	domain := c.Domain
	if domain == "" {
		cfg, err := a.config()
		if err != nil {
			return err
		}
		domain = cfg.Domain
	}
	all, o := s.inspect()
	if o != nil {
		all = append(all, complete(o)...)
		all = append(all, certificate(o, domain, time.Now())...)
	}
	leaks, err := c.leaks(a, s, o)
	if err != nil {
		return err
	}
	return conclude(a, append(all, leaks...), c.JSON, "secrets check")
}

// inspect looks at the file with and without a key. What it returns is nil when the
// file does not open.
func (s *secretsCmd) inspect() ([]ccci.Diagnosis, *opened) {
	text, err := secretfile.Read(s.file())
	if err != nil {
		return []ccci.Diagnosis{doctor.Problem("file", err)}, nil
	}
	var all []ccci.Diagnosis
	listed, err := secretfile.List(s.file(), text)
	if err == nil {
		all = append(all, recipients(s, listed)...)
	}
	o, err := s.open()
	if err != nil {
		all = append(all, doctor.Problem("file", err))
		for _, k := range missingKeys(listed.Keys) { // says which key was taken away
			if listed.Keys != nil {
				all = append(all, missing(k))
			}
		}
		return all, nil
	}
	return append(all, doctor.Well("file", "%s opens, and nothing in it was tampered with", s.file())), o
}

// namedBySSH is about a recipient that is an ssh key as it stands. sops of a person opens what is
// encrypted for one; sops-nix of a host makes an age key of its ssh key, which does not.
func namedBySSH(r reader, who, config string) ccci.Diagnosis {
	d := doctor.Problem("recipients", ccci.Errorf(ccci.CodeInvalid, "%s names %s by an ssh key, with which sops-nix on a host cannot open the file", config, who))
	d.Warning = !strings.HasPrefix(r.Name, "host")
	if age, err := secretfile.Recipient(r.Recipient); err == nil {
		d.Hint = "for a host write the age recipient of that key, " + age + ", and then: cc-ci secrets rotate --recipients"
	}
	return d
}

func recipients(s *secretsCmd, listed secretfile.Listed) []ccci.Diagnosis {
	const check = "recipients"
	rule, err := secretfile.RuleFor(s.file())
	if err != nil {
		return []ccci.Diagnosis{doctor.Problem(check, err)}
	}
	var all []ccci.Diagnosis
	for _, r := range readers(listed.Recipients, rule) {
		who := cmp.Or(r.Name, r.Recipient)
		switch {
		case !r.InFile:
			all = append(all, doctor.Problem(check, ccci.Errorf(ccci.CodeInvalid, "%s cannot read the file, though %s names them", who, rule.Config).WithHint("cc-ci secrets rotate --recipients")))
		case r.InRules && strings.HasPrefix(r.Recipient, "ssh-"):
			all = append(all, namedBySSH(r, who, rule.Config))
		case !r.InRules:
			all = append(all, doctor.Problem(check, ccci.Errorf(ccci.CodeInvalid, "%s can read the file, though %s does not name them", who, rule.Config).WithHint("cc-ci secrets rotate --recipients")))
		}
	}
	if all == nil {
		all = append(all, doctor.Well(check, "%s can read it, as the rules say", number(len(listed.Recipients), "recipient")))
	}
	if len(rule.Recipients) == 1 {
		d := doctor.Problem(check, ccci.Errorf(ccci.CodeInvalid, "one recipient alone can read the file: when its key is lost, so is everything").WithHint("add a recovery key that is kept elsewhere"))
		d.Warning = true
		all = append(all, d)
	}
	return all
}

// missingKeys are those that a file lacks.
func missingKeys(names []string) []inventory.Key {
	return slices.DeleteFunc(inventory.Keys(), func(k inventory.Key) bool { return slices.Contains(names, k.Name) })
}

func missing(k inventory.Key) ccci.Diagnosis {
	return ccci.Diagnosis{Check: "keys", Code: ccci.CodeInvalid, Message: k.Name + " is missing", Hint: "cc-ci secrets init adds it. " + k.Doc}
}

// complete looks whether every key is there and filled in.
func complete(o *opened) []ccci.Diagnosis {
	var all []ccci.Diagnosis
	for _, k := range inventory.Keys() {
		value, ok := o.Secret(k.Name)
		switch {
		case !ok:
			all = append(all, missing(k))
		case strings.TrimSpace(value.Reveal()) == "":
			hint := "cc-ci secrets edit, or cc-ci secrets rotate " + k.Name + "=FILE. " + k.Doc
			if k.Generated() {
				hint = "cc-ci secrets rotate " + k.Name
			}
			all = append(all, ccci.Diagnosis{Check: "keys", Code: ccci.CodeInvalid, Message: k.Name + " is empty", Hint: hint})
		case !o.Encrypted(k.Name) && !k.Harmless(value):
			all = append(all, ccci.Diagnosis{Check: "keys", Code: ccci.CodeInvalid, Message: k.Name + " stands in the file unencrypted", Hint: "take what selects values out of .sops.yaml, then cc-ci secrets rotate --recipients, and change the value where it is valid"})
		}
	}
	all = append(all, inventory.CheckRedis(o.Secret)...)
	if all == nil {
		all = append(all, doctor.Well("keys", "all that the appliance needs are there"))
	}
	return all
}

func certificate(o *opened, domain string, now time.Time) []ccci.Diagnosis {
	chain, _ := o.Secret(inventory.Certificate)
	key, _ := o.Secret(inventory.CertificateKey)
	if chain.Reveal() == "" || key.Reveal() == "" {
		return nil // it was said
	}
	return inventory.CheckCertificate(chain, key, domain, now)
}

// leaks searches the base repository and, as files, the private one. Without an opened
// file it searches for private keys alone.
func (c *secretsCheckCmd) leaks(a *app, s *secretsCmd, o *opened) ([]ccci.Diagnosis, error) {
	const check = "leaks"
	var scan leak.Scan
	known := 0
	if o != nil {
		o.Secrets(func(key string, value ccci.Secret) {
			if k, ok := inventory.Find(key); !ok || !k.Harmless(value) {
				scan.Know(key, value)
				known++
			}
		})
	}
	err := scan.Repository(a.ctx, c.Repo)
	if _, missing := os.Stat(s.Dir); err == nil && !errors.Is(missing, fs.ErrNotExist) { // that it is missing was said
		err = scan.Folder(s.Dir)
	}
	if a.ctx.Err() != nil {
		return nil, a.ctx.Err()
	}
	var all []ccci.Diagnosis
	if err != nil {
		all = append(all, doctor.Problem(check, err))
	}
	report := scan.Report()
	for _, f := range report.Findings {
		all = append(all, doctor.Problem(check, ccci.Errorf(ccci.CodeInvalid, "%v", f).WithHint("take it for known: change it where it is valid, then cc-ci secrets rotate; removing it from the history does not undo that it was there")))
	}
	for _, name := range report.Skipped {
		d := doctor.Problem(check, ccci.Errorf(ccci.CodeInvalid, "%s is too large to be searched", name).WithHint("look at it yourself"))
		d.Warning = true
		all = append(all, d)
	}
	if len(report.Findings) == 0 && err == nil {
		all = append(all, doctor.Well(check, "none in %s of files, searched for private keys and %s", number(report.Scanned, "version"), number(known, "value")))
	}
	return all, nil
}
