package secretfile

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/edwards25519"
	sopsage "github.com/getsops/sops/v3/age"
	"golang.org/x/crypto/ssh"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Where keys usually are.
const (
	HostKeyFile = "/var/lib/sops-nix/key.txt"     // the host's own, readable for root
	SSHKeyFile  = "/etc/ssh/ssh_host_ed25519_key" // likewise
	personFile  = "sops/age/keys.txt"             // a person's, in the folder of configuration
	PreparedKey = "cc-ci-host-key.txt"            // a host's before it is brought there, in the home folder
)

// Keys name the files of what opens secrets. Empty names stand for the usual files, of
// which any may be missing.
type Keys struct {
	Age string // age identities
	SSH string // an ed25519 private key of ssh
}

// Identities reads them. A named file that cannot be read is an Error with CodeInvalid, and
// so is having none at all.
func (k Keys) Identities() ([]age.Identity, error) {
	all, badAge, err := readKeys(k.Age, usualFiles(), ageIdentities)
	if err != nil {
		return nil, err
	}
	ofSSH, badSSH, err := readKeys(k.SSH, []string{SSHKeyFile}, sshIdentities)
	if err != nil {
		return nil, err
	}
	all = append(all, ofSSH...)
	if bad := errors.Join(badAge, badSSH); len(all) == 0 && bad != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "there is no key to open secrets with: %s", strings.ReplaceAll(bad.Error(), "\n", "; ")).
			WithHint("%s", cmp.Or(ccci.HintOf(badAge), ccci.HintOf(badSSH)))
	}
	if len(all) == 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "there is no key to open secrets with").
			WithHint("name one with --key-file or $SOPS_AGE_KEY_FILE; a host has %s, readable for root", HostKeyFile)
	}
	return all, nil
}

func usualFiles() []string {
	files := []string{HostKeyFile}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, personFile))
	}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, PreparedKey))
	}
	return files
}

// readKeys reads the named file, or those of the usual ones that are there. Nobody asked for one of
// these, so what is wrong with the first of them is no error, and matters where there is no key.
func readKeys(named string, usual []string, parse func(name string, text []byte) ([]age.Identity, error)) (all []age.Identity, bad, err error) {
	if named == "" {
		for _, file := range usual {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			found, err := parse(file, text)
			all, bad = append(all, found...), cmp.Or(bad, err)
		}
		return all, bad, nil
	}
	text, err := os.ReadFile(named)
	if err != nil {
		return nil, nil, ccci.Errorf(ccci.CodeInvalid, "reading a key: %w", err).WithHint("name a file that is there and that you may read")
	}
	all, err = parse(named, text)
	return all, nil, err
}

const (
	utf8Mark     = "\xef\xbb\xbf" // what editors of Windows write at the beginning of UTF-8
	pluginPrefix = "AGE-PLUGIN-"
)

// ageIdentities reads a file of identities. Beside an error it returns those that can be used. No
// error repeats a line of the file.
func ageIdentities(name string, text []byte) (all []age.Identity, err error) {
	if bytes.IndexByte(text, 0) >= 0 || bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s:1: the file is in UTF-16", name).WithHint("save it as UTF-8: iconv -f UTF-16 -t UTF-8")
	}
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), utf8Mark)) {
		number++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		found, wrong := age.ParseIdentities(strings.NewReader(line))
		all = append(all, found...)
		switch {
		case wrong == nil || err != nil:
		case strings.HasPrefix(line, pluginPrefix):
			err = ccci.Errorf(ccci.CodeInvalid, "%s:%d: this identity is of an age plugin, and cc-ci runs none", name, number).
				WithHint("name a file with another key, which begins with AGE-SECRET-KEY-1; cc-ci secrets init makes one, and whoever can open the secrets adds its recipient")
		default:
			err = ccci.Errorf(ccci.CodeInvalid, "%s:%d: this is no age identity", name, number).WithHint(identityHint)
		}
	}
	if err == nil && len(all) == 0 {
		err = ccci.Errorf(ccci.CodeInvalid, "%s holds no age identity", name).WithHint(identityHint)
	}
	return all, err
}

const identityHint = "it must hold a line that begins with AGE-SECRET-KEY-1; cc-ci secrets init makes one"

// sshIdentities makes two of an ssh key: the one that sops-nix makes of it, and the
// one that age itself does.
func sshIdentities(name string, text []byte) ([]age.Identity, error) {
	raw, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "the ssh key %s has a passphrase", name).WithHint("a host's key has none; for a person an age key does better")
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s is no private key of ssh", name).WithHint("name the file without .pub")
	}
	key, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, ccci.Errorf(ccci.CodeInvalid, "the ssh key %s is no ed25519 key", name).WithHint("a host has one at %s", SSHKeyFile)
	}
	sum := sha512.Sum512(key.Seed())
	converted, err := age.ParseX25519Identity(strings.ToUpper(bech32("age-secret-key-", sum[:32])))
	if err != nil {
		return nil, fmt.Errorf("converting the ssh key %s: %w", name, err)
	}
	native, err := agessh.NewEd25519Identity(*key)
	if err != nil {
		return nil, fmt.Errorf("converting the ssh key %s: %w", name, err)
	}
	return []age.Identity{converted, native}, nil
}

// RecipientOf returns the age recipient of an identity that a host or a person has in
// a file, or an Error with CodeInvalid.
func RecipientOf(keyFile string) (string, error) {
	all, _, err := readKeys(keyFile, nil, ageIdentities)
	if err != nil {
		return "", err
	}
	switch id := all[0].(type) {
	case *age.X25519Identity:
		return id.Recipient().String(), nil
	case *age.HybridIdentity:
		return id.Recipient().String(), nil
	}
	return "", ccci.Errorf(ccci.CodeInvalid, "the first identity in %s is of no kind that is known here", keyFile)
}

// Recipient reads what somebody gives as their public key: an age recipient, or the
// public half of an ssh ed25519 key, which becomes the age recipient that sops-nix
// opens with the private one. It is an Error with CodeInvalid otherwise.
func Recipient(text string) (string, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "ssh-") {
		_, err := parseRecipient(text)
		return text, err
	}
	invalid := ccci.Errorf(ccci.CodeInvalid, "%.20q… is no ed25519 key of ssh", text).WithHint("a host has one at %s.pub", SSHKeyFile)
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return "", invalid
	}
	crypto, ok := public.(ssh.CryptoPublicKey)
	if !ok {
		return "", invalid
	}
	key, ok := crypto.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return "", invalid
	}
	point, err := new(edwards25519.Point).SetBytes(key)
	if err != nil {
		return "", invalid
	}
	return bech32("age", point.BytesMontgomery()), nil
}

func parseRecipient(text string) (age.Recipient, error) {
	var r age.Recipient
	var err error
	switch {
	case strings.HasPrefix(text, "AGE-SECRET-KEY-"):
		return nil, ccci.Errorf(ccci.CodeInvalid, "this is a secret key, not a recipient").WithHint("a recipient begins with age1; this key is to be replaced now if it stands in a file")
	case strings.HasPrefix(text, "age1pq1"):
		r, err = age.ParseHybridRecipient(text)
	case strings.HasPrefix(text, "age1"):
		r, err = age.ParseX25519Recipient(text)
	case strings.HasPrefix(text, "ssh-"):
		r, err = agessh.ParseRecipient(text)
	default:
		err = errors.New("unknown kind")
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%q is no recipient: %w", text, err).WithHint("write an age recipient, as age1…, or an ssh-ed25519 public key")
	}
	return r, nil
}

func (m *metadata) recipients() []string {
	var all []string
	for _, k := range m.Age {
		all = append(all, k.Recipient)
	}
	return all
}

// unseal decrypts the data key by the first identity that fits.
func (m *metadata) unseal(name string, identities []age.Identity) ([]byte, error) {
	var broken error
	for _, k := range m.Age {
		master := &sopsage.MasterKey{Recipient: k.Recipient, EncryptedKey: k.Enc}
		sopsage.ParsedIdentities(identities).ApplyToMasterKey(master)
		key, err := master.Decrypt()
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			continue
		}
		if err == nil && len(key) == keySize {
			return key, nil
		}
		broken = ccci.Errorf(ccci.CodeInvalid, "%s: what is there for the recipient %s cannot be read", name, k.Recipient).WithHint("take the file from git again")
	}
	if broken != nil {
		return nil, broken
	}
	return nil, ccci.Errorf(ccci.CodeRefused, "%s: none of your keys opens it", name).
		WithHint("it opens with the keys of: %s", strings.Join(m.recipients(), ", "))
}

// seal encrypts the data key for the recipients that lack it.
func (m *metadata) seal(key []byte) error {
	for i := range m.Age {
		k := &m.Age[i]
		if k.Enc != "" {
			continue
		}
		if _, err := parseRecipient(k.Recipient); err != nil { // which says more than sops does
			return err
		}
		master := &sopsage.MasterKey{Recipient: k.Recipient}
		if err := master.Encrypt(key); err != nil {
			return fmt.Errorf("encrypting for %s: %w", k.Recipient, err)
		}
		k.Enc = master.EncryptedKey
	}
	return nil
}

// bech32 encodes data as BIP 173 does, in lower case; age does not export its own.
func bech32(prefix string, data []byte) string {
	const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	var words []byte
	var acc, bits uint
	for _, b := range data {
		acc, bits = acc<<8|uint(b), bits+8
		for bits >= 5 {
			bits -= 5
			words = append(words, byte(acc>>bits)&31)
		}
	}
	if bits > 0 {
		words = append(words, byte(acc<<(5-bits))&31)
	}
	var sum []byte
	for _, c := range []byte(prefix) {
		sum = append(sum, c>>5)
	}
	sum = append(sum, 0)
	for _, c := range []byte(prefix) {
		sum = append(sum, c&31)
	}
	sum = append(append(sum, words...), make([]byte, 6)...)
	check := uint32(1)
	for _, w := range sum {
		top := check >> 25
		check = check&0x1ffffff<<5 ^ uint32(w)
		for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				check ^= g
			}
		}
	}
	check ^= 1
	for i := range 6 {
		words = append(words, byte(check>>(5*(5-i)))&31)
	}
	out := []byte(prefix + "1")
	for _, w := range words {
		out = append(out, alphabet[w])
	}
	return string(out)
}
