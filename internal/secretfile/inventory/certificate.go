package inventory

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Notice is how long before a certificate runs out there is a warning.
const Notice = 30 * 24 * time.Hour

// CheckCertificate looks whether a certificate belongs to its key, is for the domain
// and for every name below it, and lasts. There is one entry for each problem, or one
// that says that all is well.
func CheckCertificate(chain, key ccci.Secret, domain string, now time.Time) []ccci.Diagnosis {
	var all []ccci.Diagnosis
	add := func(warning bool, hint, format string, args ...any) {
		all = append(all, ccci.Diagnosis{Check: "certificate", Code: ccci.CodeInvalid, Warning: warning, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	const renew = "have it issued again, and store both: cc-ci secrets rotate " + Certificate + "=FILE " + CertificateKey + "=FILE"
	certs, err := parseChain(chain)
	if err != nil {
		add(false, "it must hold PEM blocks CERTIFICATE, the host's own first", "%s: %v", Certificate, err)
		return all
	}
	leaf := certs[0]
	if _, err := tls.X509KeyPair([]byte(chain.Reveal()), []byte(key.Reveal())); err != nil {
		add(false, renew, "%s is not the key of %s", CertificateKey, Certificate)
	}
	for _, name := range []string{domain, "any." + domain} {
		if leaf.VerifyHostname(name) != nil {
			add(false, renew, "the certificate is for %v and not for %s", leaf.DNSNames, wildcard(name, domain))
		}
	}
	for _, c := range certs {
		who := "the certificate"
		if c != leaf {
			who = fmt.Sprintf("the certificate of %q in its chain", c.Subject.CommonName)
		}
		switch left := c.NotAfter.Sub(now); {
		case now.Before(c.NotBefore):
			add(false, "look at this machine's clock", "%s is not valid before %s", who, day(c.NotBefore))
		case left <= 0:
			add(false, renew, "%s ran out on %s", who, day(c.NotAfter))
		case left < Notice:
			add(true, renew, "%s runs out on %s, in %d days", who, day(c.NotAfter), int(left.Hours()/24))
		}
	}
	if all == nil {
		all = append(all, ccci.Diagnosis{Check: "certificate", Message: fmt.Sprintf("it is for %s and *.%s until %s", domain, domain, day(leaf.NotAfter))})
	}
	return all
}

func wildcard(name, domain string) string {
	if name == domain {
		return domain
	}
	return "*." + domain
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func parseChain(chain ccci.Secret) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := []byte(chain.Reveal()); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("it holds what is no certificate: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("it holds no certificate")
	}
	return all, nil
}
