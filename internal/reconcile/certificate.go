package reconcile

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// certificate is a chain with its key, in PEM, that fit each other and the domain.
type certificate struct {
	cert, key ccci.Secret
	leaf      []byte // DER
}

// Files of a folder with a certificate, as Let's Encrypt's tools call them.
const (
	chainFile = "fullchain.pem"
	keyFile   = "privkey.pem"
)

// readCertificate reads the certificate of a folder and refuses one that would not
// do: of another key, for other names, too early or too late. What serves stays as it is then.
func readCertificate(dir, domain string, now time.Time) (certificate, error) {
	bad := func(format string, args ...any) *ccci.Error {
		return ccci.Errorf(ccci.CodeInvalid, "the certificate in "+dir+": "+format, args...).
			WithHint("put %s and %s there, for %s and *.%s; what serves now is left alone", chainFile, keyFile, domain, domain)
	}
	cert, err := os.ReadFile(filepath.Join(dir, chainFile))
	if err != nil {
		return certificate{}, bad("%w", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return certificate{}, bad("%w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return certificate{}, bad("%w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return certificate{}, bad("%w", err)
	}
	for _, name := range []string{domain, "any." + domain} {
		if err := leaf.VerifyHostname(name); err != nil {
			return certificate{}, bad("%w", err)
		}
	}
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return certificate{}, bad("it is valid from %s to %s", leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	return certificate{ccci.NewSecret(string(cert)), ccci.NewSecret(string(key)), leaf.Raw}, nil
}
