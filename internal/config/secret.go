package config

import (
	"fmt"
	"io"
	"os"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// secretLimit bounds a file with a secret, in bytes.
const secretLimit = 64 << 10

// ReadSecret reads a secret from its file; white space around it is not part of it.
// It is read whenever it is needed, so that a new one needs no new process.
func ReadSecret(path string) (ccci.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeInvalid, "reading a secret: %w", err).WithHint("the file must be there and readable for cc-ci's user")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, secretLimit+1))
	if err != nil {
		return ccci.Secret{}, fmt.Errorf("reading a secret: %w", err)
	}
	value := strings.TrimSpace(string(text))
	if value == "" || len(text) > secretLimit || strings.ContainsRune(value, 0) {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeInvalid, "the file %s holds no secret", path).WithHint("it must hold the secret and nothing else")
	}
	return ccci.NewSecret(value), nil
}
