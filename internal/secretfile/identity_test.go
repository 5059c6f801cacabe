package secretfile

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestA30_EachRecipientOpensAndNobodyElse(t *testing.T) {
	host, recovery, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	text := sealed1(t, "token: aaaaaaaa\n", host, recovery)
	for _, id := range []age.Identity{host, recovery} {
		mustOpen(t, text, stranger, id)
	}
	_, err := Open("secrets.yaml", text, []age.Identity{stranger})
	if ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(ccci.HintOf(err), host.Recipient().String()) {
		t.Errorf("%v, hint %q", err, ccci.HintOf(err))
	}

	// Whoever stays keeps what was encrypted for them; whoever goes cannot open it.
	f := mustOpen(t, text, host)
	before := f.meta.Age[0].Enc
	if err := f.SetRecipients([]string{stranger.Recipient().String(), host.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	text = sealNow(t, f)
	f = mustOpen(t, text, stranger)
	if f.meta.Age[1].Enc != before {
		t.Error("the host's part was made anew")
	}
	if _, err := Open("secrets.yaml", text, []age.Identity{recovery}); ccci.CodeOf(err) != ccci.CodeRefused {
		t.Errorf("the removed one: %v", err)
	}
	if err := f.SetRecipients(nil); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("no recipients: %v", err)
	}
	if err := f.SetRecipients([]string{host.String()}); err == nil || strings.Contains(err.Error(), "AGE-SECRET") {
		t.Errorf("a secret key as recipient: %v", err)
	}
}

func TestA30_HostKeyOfSSH(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "host")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ssh_host_ed25519_key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	line := string(ssh.MarshalAuthorizedKey(sshKey))
	converted, err := Recipient(line)
	if err != nil || !strings.HasPrefix(converted, "age1") {
		t.Fatalf("%q, %v", converted, err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "")
	ids, err := Keys{SSH: file}.Identities()
	if err != nil {
		t.Fatal(err)
	}
	if got := ids[len(ids)-2].(*age.X25519Identity).Recipient().String(); got != converted {
		t.Errorf("of %d the private half gives %s, the public one %s", len(ids), got, converted)
	}
	for _, recipient := range []string{converted, strings.TrimSpace(line)} {
		f, err := New("secrets.yaml", []byte("a: secret\n"), Rule{Recipients: []string{recipient}})
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, sealNow(t, f), ids...)
	}
}

// A pair that ssh-to-age, which sops-nix uses, prints.
func TestA30_RecipientOfAnSSHKeyIsThatOfSopsNix(t *testing.T) {
	got, err := Recipient("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICFrs5OngYGD5FHUaYqr3gAk7NApAuFCL3cVaHLSWRXL root@host\n")
	if err != nil || got != "age1wy42r2p2c67ckywgq8xj7ejf6eykqfu623wktxeh729rtagu4fkqkvsudc" {
		t.Errorf("%s, %v", got, err)
	}
	for _, text := range []string{"ssh-rsa AAAA", "ssh-ed25519 x", "", "age1", "x"} {
		if got, err := Recipient(text); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// Age exports no encoder; what ours gives must be what age prints.
func TestBech32AgreesWithAge(t *testing.T) {
	for range 50 {
		id := newIdentity(t)
		text := id.Recipient().String()
		point := reflect.ValueOf(id.Recipient()).Elem().FieldByName("theirPublicKey").Bytes()
		if got := bech32("age", point); got != text {
			t.Fatalf("%s, want %s", got, text)
		}
	}
}

// A file of the usual places that cannot be used is named with its line and what to do, when there
// is no other key. What can be used of it is.
func TestAKeyFileThatCannotBeUsedIsNamed(t *testing.T) {
	home, id := t.TempDir(), newIdentity(t).String()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	file := filepath.Join(home, PreparedKey)
	const plugin = "AGE-PLUGIN-YUBIKEY-1QQGEHEIM\n"
	wide := func(mark string, order binary.AppendByteOrder) string {
		out := []byte(mark)
		for _, unit := range utf16.Encode([]rune(id + "\n")) {
			out = order.AppendUint16(out, unit)
		}
		return string(out)
	}
	for name, c := range map[string]struct {
		text       string
		found      int
		error, tip string
	}{
		"UTF-8 with a mark":           {"\xef\xbb\xbf" + id + "\r\n", 1, "", ""},
		"a mark and a comment":        {"\xef\xbb\xbf# mine\r\n" + id + "\r\n", 1, "", ""},
		"UTF-16 of Windows":           {wide("\xff\xfe", binary.LittleEndian), 0, file + ":1: the file is in UTF-16", "iconv"},
		"UTF-16, the other order":     {wide("\xfe\xff", binary.BigEndian), 0, file + ":1: the file is in UTF-16", "iconv"},
		"UTF-16 without a mark":       {wide("", binary.LittleEndian), 0, file + ":1: the file is in UTF-16", "iconv"},
		"of a plugin":                 {"# yubikey\n\n" + plugin, 0, file + ":3: this identity is of an age plugin", "secrets init"},
		"of a plugin, and another":    {plugin + id + "\n", 1, file + ":1: this identity is of an age plugin", "secrets init"},
		"broken":                      {"\n" + id[:40] + "\n", 0, file + ":2: this is no age identity", "AGE-SECRET-KEY-1"},
		"nothing but a comment":       {"# mine\n", 0, file + " holds no age identity", "AGE-SECRET-KEY-1"},
		"encrypted with a passphrase": {"-----BEGIN AGE ENCRYPTED FILE-----\nGEHEIM\n", 0, file + ":1: this is no age identity", "AGE-SECRET-KEY-1"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for where, k := range map[string]Keys{"usual": {}, "named": {Age: file}} {
			all, err := k.Identities()
			wrong := c.error != "" && (where == "named" || c.found == 0)
			text := fmt.Sprint(err)
			switch {
			case wrong && (ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(text, c.error) || !strings.Contains(ccci.HintOf(err), c.tip)):
				t.Errorf("%s, %s: %v; hint %q", name, where, err, ccci.HintOf(err))
			case wrong && (strings.Contains(text, "GEHEIM") || strings.Contains(text, id[:40])):
				t.Errorf("%s, %s: the error has a line of the file: %v", name, where, err)
			case !wrong && (err != nil || len(all) < c.found):
				t.Errorf("%s, %s: %d, %v", name, where, len(all), err)
			}
		}
	}
}

func TestKeysAreFoundWhereTheyUsuallyAre(t *testing.T) {
	home, id := t.TempDir(), newIdentity(t)
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	if err := os.MkdirAll(filepath.Join(home, "config", "sops", "age"), 0o700); err != nil {
		t.Fatal(err)
	}
	has := func(k Keys, want bool) {
		t.Helper()
		all, err := k.Identities()
		found := slices.ContainsFunc(all, func(i age.Identity) bool {
			x, ok := i.(*age.X25519Identity)
			return ok && x.String() == id.String()
		})
		if found != want || want && err != nil {
			t.Errorf("%+v: %v, %v", k, found, err)
		}
	}
	has(Keys{}, false)
	for _, file := range []string{filepath.Join(home, "config", "sops", "age", "keys.txt"), filepath.Join(home, PreparedKey)} {
		if err := os.WriteFile(file, []byte("# mine\n"+id.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		has(Keys{}, true)
		has(Keys{Age: file}, true)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(home, "none")
	for _, k := range []Keys{{Age: none}, {SSH: none}} {
		if _, err := k.Identities(); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
			t.Errorf("%+v: %v", k, err)
		}
	}
	bad := filepath.Join(home, "bad")
	if err := os.WriteFile(bad, []byte("AGE-SECRET-KEY-1geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Keys{{Age: bad}, {SSH: bad}} {
		if _, err := k.Identities(); ccci.CodeOf(err) != ccci.CodeInvalid || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%+v: %v", k, err)
		}
	}
}
