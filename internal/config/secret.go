package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// secretLimit bounds a file with a secret, in bytes.
const secretLimit = 64 << 10

// ReadSecret reads a secret of one line (a token, a password, an address) from a file that
// the configuration names; white space around it is not part of it. It is read whenever it is
// needed, so that a new one needs no new process. A file that holds none is an Error with
// CodeInvalid that names the file and, where the configuration was read from a file, the line
// and the key that name it.
func (c *Config) ReadSecret(path string) (ccci.Secret, error) {
	text, err := c.readSecret(path)
	if err != nil {
		return ccci.Secret{}, err
	}
	if lines := strings.Count(text, "\n") + 1; lines > 1 {
		return ccci.Secret{}, c.badSecret(path, "write the secret into it and nothing else, in one line", "%s holds %d lines, and a secret is one", path, lines)
	}
	return ccci.NewSecret(text), nil
}

// ReadKey is [Config.ReadSecret] for a key in PEM, which has several lines.
func (c *Config) ReadKey(path string) (ccci.Secret, error) {
	text, err := c.readSecret(path)
	if err != nil {
		return ccci.Secret{}, err
	}
	return ccci.NewSecret(text), nil
}

func (c *Config) readSecret(path string) (string, error) {
	// Without O_NONBLOCK a named pipe would be waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		hint := "the file must be there and readable for cc-ci's user"
		if errors.Is(err, fs.ErrNotExist) {
			return "", c.badSecret(path, hint, "there is no file %s", path)
		}
		return "", c.badSecret(path, hint, "reading a secret: %w", err)
	}
	defer f.Close()
	const hint = "name a file that holds the secret and nothing else"
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", c.badSecret(path, hint, "reading a secret: %w", err)
	case info.IsDir():
		return "", c.badSecret(path, hint, "%s is a directory, not a file", path)
	case !info.Mode().IsRegular():
		return "", c.badSecret(path, hint, "%s is not a regular file", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, secretLimit+1))
	text := strings.TrimSpace(string(raw))
	switch {
	case err != nil:
		return "", c.badSecret(path, hint, "reading a secret: %w", err)
	case len(raw) > secretLimit:
		return "", c.badSecret(path, hint, "%s has more than %d KiB, and holds no secret", path, secretLimit>>10)
	case text == "":
		return "", c.badSecret(path, hint, "%s is empty", path)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unprintable):
		return "", c.badSecret(path, hint, "%s does not hold text (another encoding, or binary data)", path)
	}
	return text, nil
}

// unprintable matches what no secret holds: control characters but line breaks, and invisible
// ones, as the mark that some editors put before a text.
func unprintable(r rune) bool { return r != '\n' && r != '\r' && r != '\t' && !unicode.IsPrint(r) }

// badSecret is an error about a file with a secret, with the place that names the file.
func (c *Config) badSecret(path, hint, format string, args ...any) error {
	e := ccci.Errorf(ccci.CodeInvalid, format, args...).WithHint("%s", hint)
	if place := c.places[path]; place != "" {
		e.Message = place + ": " + e.Message
	}
	return e
}

// secretFile is a setting that names a file with a secret.
type secretFile struct {
	key  string
	path *string
}

func (c *Config) secretFiles() []secretFile {
	all := []secretFile{
		{"ingress.ca_file", &c.Ingress.CAFile}, {"engine.drone.token_file", &c.Engine.Drone.TokenFile}, {"bus.redis.url_file", &c.Bus.Redis.URLFile},
		{"reconcile.drone.rpc_secret_file", &c.Reconcile.Drone.RPCSecret}, {"reconcile.drone.client_id_file", &c.Reconcile.Drone.ClientID},
		{"reconcile.drone.client_secret_file", &c.Reconcile.Drone.ClientSecret}, {"reconcile.backup.password_file", &c.Reconcile.Backup.Password},
	}
	for i := range c.Forges {
		f, key := &c.Forges[i], fmt.Sprintf("forges[%d]", i)
		all = append(all, secretFile{key + ".token_file", &f.TokenFile}, secretFile{key + ".app.key_file", &f.App.KeyFile})
		for j := range f.HookSecrets {
			all = append(all, secretFile{fmt.Sprintf("%s.hook_secret_files[%d]", key, j), &f.HookSecrets[j]})
		}
	}
	return all
}

// notePlaces remembers where each file with a secret is named. The first place counts.
func (c *Config) notePlaces(file string, d *settings.Decoder) {
	c.places = map[string]string{}
	for _, f := range c.secretFiles() {
		if *f.path == "" || c.places[*f.path] != "" {
			continue
		}
		c.places[*f.path] = placeOf(file, f.key, d)
	}
}

// placeOf is where a setting stands, as "cc-ci.yml:7: bus.redis.url_file".
func placeOf(file, key string, d *settings.Decoder) string {
	if line := d.Line(key); line > 0 { // else its default is in force
		file += fmt.Sprintf(":%d", line)
	}
	return file + ": " + key
}
