package inventory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// What the host's units ask for is what init makes and check looks for, and nothing else.
func TestA29_KeysAreThoseThatTheHostAsksFor(t *testing.T) {
	text, err := os.ReadFile("../../../nix/testdata/cc-ci/machine.json")
	if err != nil {
		t.Fatal(err)
	}
	var host struct {
		Secrets map[string]struct{ Key string }
	}
	if err := json.Unmarshal(text, &host); err != nil {
		t.Fatal(err)
	}
	var asked, made []string
	for _, s := range host.Secrets {
		asked = append(asked, s.Key)
	}
	for _, k := range Keys() {
		made = append(made, k.Name)
	}
	slices.Sort(asked)
	slices.Sort(made)
	if !slices.Equal(asked, made) || len(made) == 0 {
		t.Errorf("the host asks for %v, the list has %v", asked, made)
	}
}

func TestGenerated(t *testing.T) {
	rpc, _ := Find("drone_rpc_secret")
	token, _ := Find("drone_token")
	if a, b := rpc.Generate().Reveal(), rpc.Generate().Reveal(); len(a) != 64 || a == b {
		t.Errorf("%q and %q", a, b)
	}
	if n := len(token.Generate().Reveal()); n != 32 { // Drone refuses other lengths
		t.Errorf("a token of %d characters", n)
	}
	cert, ok := Find(Certificate)
	if !ok || cert.Generated() || !cert.Harmless(ccci.NewSecret("x")) {
		t.Errorf("%+v", cert)
	}
	if _, ok := Find("nothing"); ok {
		t.Error("found nothing")
	}
}

func TestRedisAddressFollowsItsPassword(t *testing.T) {
	values := map[string]ccci.Secret{}
	secret := func(name string) (ccci.Secret, bool) { s, ok := values[name]; return s, ok }
	err := Fill(Keys(), secret, func(k Key, s ccci.Secret) error { values[k.Name] = s; return nil })
	if err != nil {
		t.Fatal(err)
	}
	old := values[redisPassword]
	if !strings.Contains(values[redisURL].Reveal(), old.Reveal()) || CheckRedis(secret) != nil {
		t.Errorf("the address lacks the password: %v", CheckRedis(secret))
	}
	values[redisPassword] = ccci.NewSecret("new")
	if found := CheckRedis(secret); len(found) != 1 {
		t.Errorf("another password: %v", found)
	}
	name, s, ok := Follow(redisPassword, old, values[redisPassword], secret)
	if !ok || name != redisURL || !strings.HasPrefix(s.Reveal(), "unix://:new@/run/") {
		t.Errorf("%s, %v", name, ok)
	}
	values[redisURL] = s
	if found := CheckRedis(secret); found != nil {
		t.Errorf("%v", found)
	}
	if _, _, ok := Follow(redisPassword, old, s, secret); ok {
		t.Error("an address with another password followed")
	}
	if _, _, ok := Follow("gitea_token", old, s, secret); ok {
		t.Error("the address followed a token")
	}
	values[redisURL] = ccci.NewSecret("geheim:// x")
	if found := CheckRedis(secret); len(found) != 1 || strings.Contains(fmt.Sprint(found), "geheim") {
		t.Errorf("no address: %v", found)
	}
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func issue(t *testing.T, names []string, from, to time.Time) (chain, key ccci.Secret) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return ccci.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		ccci.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

func TestA29_WildcardCertificate(t *testing.T) {
	const domain = "ci.example.org"
	both, begun, day := []string{domain, "*." + domain}, noon.Add(-time.Hour), 24*time.Hour
	good, goodKey := issue(t, both, begun, noon.Add(90*day))
	_, otherKey := issue(t, both, begun, noon.Add(90*day))
	soon, soonKey := issue(t, both, begun, noon.Add(29*day))
	edge, edgeKey := issue(t, both, begun, noon.Add(30*day))
	over, overKey := issue(t, both, begun, noon)
	later, laterKey := issue(t, both, noon.Add(time.Hour), noon.Add(90*day))
	bare, bareKey := issue(t, []string{domain}, begun, noon.Add(90*day))
	wild, wildKey := issue(t, []string{"*." + domain}, begun, noon.Add(90*day))
	join := func(a, b ccci.Secret) ccci.Secret { return ccci.NewSecret(a.Reveal() + b.Reveal()) }
	for name, c := range map[string]struct {
		chain, key        ccci.Secret
		problems, warning int
		want              string
	}{
		"good":                   {good, goodKey, 0, 0, "until 2027-02-19"},
		"of another key":         {good, otherKey, 1, 0, "wildcard_key is not the key of wildcard_certificate"},
		"runs out soon":          {soon, soonKey, 0, 1, "runs out on 2026-12-20, in 29 days"},
		"in thirty days":         {edge, edgeKey, 0, 0, "until"},
		"ran out":                {over, overKey, 1, 0, "ran out on 2026-11-21"},
		"not yet":                {later, laterKey, 1, 0, "is not valid before"},
		"no wildcard":            {bare, bareKey, 1, 0, "and not for *.ci.example.org"},
		"only the wildcard":      {wild, wildKey, 1, 0, "and not for ci.example.org"},
		"with an old one behind": {join(good, over), goodKey, 1, 0, `the certificate of "test" in its chain ran out`},
		"no certificate":         {ccci.NewSecret("x"), goodKey, 1, 0, "it holds no certificate"},
		"the key in its place":   {goodKey, goodKey, 1, 0, "it holds a PRIVATE KEY"},
		"no key":                 {good, ccci.NewSecret("x"), 1, 0, "is not the key of"},
	} {
		t.Run(name, func(t *testing.T) {
			var problems, warnings int
			all := CheckCertificate(c.chain, c.key, domain, noon)
			for _, d := range all {
				switch {
				case d.Code != "" && d.Warning:
					warnings++
				case d.Code != "":
					problems++
				}
				if d.Code != "" && d.Hint == "" {
					t.Errorf("no way out: %v", d)
				}
			}
			if problems != c.problems || warnings != c.warning || !strings.Contains(fmt.Sprint(all), c.want) {
				t.Errorf("%v", all)
			}
		})
	}
}
