package box

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

const (
	domain = "ci.example.org"
	org    = "recipe-maintainers"
	recipe = org + "/canary-good"
	member = "ada"
)

// operator has prepared what the box needs from outside, and looks at it from there.
type operator struct {
	*box
	world
	gitea    *gitea.Server
	port     string          // Gitea's
	identity tls.Certificate // likewise
	client   *http.Client    // follows no redirect, and trusts the test's authority alone
	pull     int
}

// prepare makes the forge's side: organisation, accounts, the repository of cc-ci with its
// pipeline, one recipe with a pull request, the OAuth application and a token.
func prepare(t *testing.T, b *box) *operator {
	t.Helper()
	o := &operator{box: b, gitea: gitea.Start(t)}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(o.gitea.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	o.port = port
	trust := newAuthority(t)
	certificate, key := trust.issue(t, domain, "*."+domain)
	if o.identity, err = tls.X509KeyPair(pair(trust.issue(t, "git.example.org"))); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{drone.User, member} {
		o.gitea.User(t, user)
	}
	own := o.gitea.CreateRepo(t, org+"/cc-ci", false)
	for _, user := range []string{drone.User, member} {
		o.gitea.AddMember(t, org, user)
	}
	o.gitea.Collaborator(t, org+"/cc-ci", drone.User, "admin")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".drone.yml"), []byte(read(t, "../../.drone.yml")), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "--quiet", "--initial-branch=main")
	git(t, dir, "add", ".")
	git(t, dir, "-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--message=The pipeline")
	git(t, dir, "push", "--quiet", own, "main")

	push := o.gitea.CreateRepo(t, recipe, false)
	o.gitea.Collaborator(t, recipe, drone.User, "write")
	clone, err := examples.Materialise(t.TempDir(), "canary-good")
	if err != nil {
		t.Fatal(err)
	}
	branch, err := examples.UpgradeBranch("canary-good")
	if err != nil {
		t.Fatal(err)
	}
	git(t, clone, "push", "--quiet", push, "main", branch, "--tags")
	if _, err := o.gitea.Do("", http.MethodPut, "/repos/"+recipe+"/topics", map[string]any{"topics": []string{"cc-ci"}}, nil); err != nil {
		t.Fatal(err)
	}
	o.pull = o.gitea.OpenPull(t, recipe, gitea.Admin, "Upgrade", branch, "main")

	id, secret := o.gitea.OAuthApp(t, drone.User, "drone", "https://drone."+domain+"/login")
	o.world = world{forge: "https://git.example.org:" + o.port, authority: trust.text, secrets: map[string]string{
		"gitea_token":           o.gitea.Token(t, drone.User, "write:issue", "write:repository", "read:organization", "read:user"),
		"drone_gitea_client_id": id, "drone_gitea_client_secret": secret,
		"wildcard_certificate": certificate, "wildcard_key": key,
		"registry_auth": `{"auths":{"registry.example.org":{"auth":"` + rand.Text() + `"}}}`,
	}}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(trust.text))
	o.client = &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: o.dialName}}
	return o
}

// pair is what tls.X509KeyPair takes.
func pair(certificate, key string) (c, k []byte) { return []byte(certificate), []byte(key) }

// dialName is the gateway and the DNS: every name leads to the box.
func (o *operator) dialName(ctx context.Context, _, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return o.dial(ctx, port)
}

// connect lets the box reach Gitea by TLS, at its own addresses and at Gitea's port: cc-ci
// refuses a forge in the open.
func (o *operator) connect() {
	o.t.Helper()
	var listener net.Listener
	var failed error
	if err := dockerd.Within(o.network(), func() { listener, failed = net.Listen("tcp4", "0.0.0.0:"+o.port) }); err != nil || failed != nil {
		o.t.Fatal(err, failed)
	}
	listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{o.identity}})
	o.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go relay(from, "127.0.0.1:"+o.port)
		}
	}()
}

func relay(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(way[1], way[0])
			done <- struct{}{}
		}()
	}
	<-done
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

// authority signs certificates, for this test alone.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	text        string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.certificate = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	a.text, a.key, _ = a.sign(t, a.certificate)
	return a
}

// issue makes a certificate and its key, both as PEM.
func (a *authority) issue(t *testing.T, names ...string) (certificate, key string) {
	t.Helper()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: a.certificate.NotBefore, NotAfter: a.certificate.NotAfter}
	certificate, _, key = a.sign(t, leaf)
	return certificate, key
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (certificate string, private *ecdsa.PrivateKey, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil { // its own
		signer = private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), private, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

// comments are those of cc-ci's account on the pull request.
func (o *operator) comments() (bodies []string) {
	var all []struct {
		Body string
		User struct{ Login string }
	}
	if _, err := o.gitea.Do("", http.MethodGet, fmt.Sprintf("/repos/%s/issues/%d/comments", recipe, o.pull), nil, &all); err != nil {
		o.t.Error(err)
	}
	for _, c := range all {
		if c.User.Login == drone.User {
			bodies = append(bodies, c.Body)
		}
	}
	return bodies
}

// builds are Drone's, the newest first, as event and status.
func (o *operator) builds() (all []string) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, "https://drone."+domain+"/api/repos/"+org+"/cc-ci/builds", nil)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+read(o.t, o.path("/etc/cc-ci/drone_token")))
	res, err := o.client.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	var builds []struct{ Event, Status string }
	if err := json.NewDecoder(res.Body).Decode(&builds); err != nil {
		o.t.Fatal(err)
	}
	for _, b := range builds {
		all = append(all, b.Event+" "+b.Status)
	}
	return all
}
