package ingress

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	// backdate forgives clocks that are a little behind.
	backdate = time.Hour
)

// ensureCertificates makes what is missing, runs out or was made for another domain.
func (d stateDir) ensureCertificates(domain string, now time.Time) error {
	authority, err := readPair(d.caFile(), d.caKey())
	if err != nil || !lasts(authority.Leaf, now, leafLife) || !permits(authority.Leaf, domain) {
		authority, err = d.makeAuthority(domain, now)
	}
	if err != nil {
		return err
	}
	name := filepath.Join(d.conf(), tlsFile)
	leaf, err := readPair(name, name)
	if err == nil && lasts(leaf.Leaf, now, leafLife/3) && leaf.Leaf.VerifyHostname("x."+domain) == nil &&
		leaf.Leaf.VerifyHostname(domain) == nil && leaf.Leaf.CheckSignatureFrom(authority.Leaf) == nil {
		return nil
	}
	return d.makeLeaf(authority, domain, now)
}

// authorities returns the pool that clients trust.
func (d stateDir) authorities() (*x509.CertPool, error) {
	data, err := os.ReadFile(d.caFile())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	return pool, nil
}

func readPair(certFile, keyFile string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	return pair, err
}

// lasts reports whether a certificate is valid now and for the given time to come.
func lasts(cert *x509.Certificate, now time.Time, rest time.Duration) bool {
	return !now.Before(cert.NotBefore) && now.Add(rest).Before(cert.NotAfter)
}

func permits(authority *x509.Certificate, domain string) bool {
	return len(authority.PermittedDNSDomains) == 1 && authority.PermittedDNSDomains[0] == domain
}

// makeAuthority makes a certificate authority that is good for this domain
// only, so that trusting it in a browser gives nothing else away.
func (d stateDir) makeAuthority(domain string, now time.Time) (tls.Certificate, error) {
	for _, stale := range []string{d.caFile(), d.caKey()} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return tls.Certificate{}, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "cc-ci ingress of " + clip(domain, 40)},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(caLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{domain},
	}
	cert, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := writeFile(d.caKey(), keyPEM); err != nil {
		return tls.Certificate{}, err
	}
	if err := writeFile(d.caFile(), encodeCert(cert)); err != nil {
		return tls.Certificate{}, err
	}
	return readPair(d.caFile(), d.caKey())
}

func (d stateDir) makeLeaf(authority tls.Certificate, domain string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: clip(domain, 60)},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{domain, "*." + domain},
	}
	signer, ok := authority.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the authority's key cannot sign")
	}
	cert, err := sign(template, authority.Leaf, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	// One file for both, so that they change together.
	return writeFile(filepath.Join(d.conf(), tlsFile), append(encodeCert(cert), keyPEM...))
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// Without its own key id, an authority that was made anew would be taken
	// for the old one of the same name.
	if template.IsCA {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(der)
		template.SubjectKeyId = id[:20]
	}
	return x509.CreateCertificate(rand.Reader, template, parent, public, signer)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return b.Bytes(), err
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
