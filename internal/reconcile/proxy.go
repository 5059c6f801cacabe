package reconcile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ProxyOptions describe the proxy. All but Entrypoints, Gateways, Dial and Now are needed.
type ProxyOptions struct {
	Domain       string // it has a certificate for this name and *.Domain
	Network      string // of apps deployed by hand; runs attach the proxy to their own
	Certificates string // folder with fullchain.pem and privkey.pem
	Traefik      string // image
	CCCI         string // image, with cc-ci as its entrypoint
	Socket       string // Docker's, on the host
	HTTP, HTTPS  int    // ports of the host
	Entrypoints  []Entrypoint
	Gateways     []Gateway

	// Containers lists which addresses containers have, see [ContainerRanges]. Needed with Gateways.
	Containers func(context.Context) ([]ContainerRange, error)

	// Dial reaches the host's ports; default is to do so from here.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() time.Time // default time.Now
}

// Entrypoint is a further port.
type Entrypoint struct {
	Name string
	Port int
	UDP  bool
}

// Paths inside the containers.
const (
	dynamicDir  = "/dynamic"
	dynamicFile = "dynamic.yml"
	staticPath  = "/etc/traefik/traefik.yml"
	socketDir   = "/run/cc-ci-docker"
	socketPath  = socketDir + "/docker.sock"
	pingPath    = "/.well-known/cc-ci-proxy"
	pingPort    = 8082
)

// Ports at which Traefik listens in its container.
const (
	ProxyHTTP  = 80
	ProxyHTTPS = 443
)

// Proxy is Traefik with what it needs:
//
//   - cc-ci_socket-proxy, the only one with Docker's socket, which Traefik reaches by a Unix
//     socket in a volume of the two: no app can stand in between, whatever its names are;
//   - cc-ci_certificates, which holds certificate, key and the dynamic configuration as secrets and
//     configs and hands them to Traefik's file provider in a folder in memory, so that a new
//     certificate is served without a restart;
//   - cc-ci_traefik itself, on the host's ports.
//
// It has no ACME: labels that name a resolver get the certificate of the files.
func Proxy(o ProxyOptions) Unit {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &proxy{ProxyOptions: o}
	return Unit{Name: "proxy", Desired: p.desired, Check: p.check}
}

type proxy struct {
	ProxyOptions
	leaf []byte // of the certificate that is to be served
}

func (p *proxy) desired(ctx context.Context) (Desired, error) {
	if p.CCCI == "" || p.Traefik == "" {
		return Desired{}, ccci.Errorf(ccci.CodeInvalid, "the proxy needs images of Traefik and of cc-ci").
			WithHint("set reconcile.images.traefik and reconcile.images.cc_ci in the configuration")
	}
	if err := p.checkGateways(ctx); err != nil {
		return Desired{}, err
	}
	pair, err := readCertificate(p.Certificates, p.Domain, p.Now())
	if err != nil {
		return Desired{}, err
	}
	p.leaf = pair.leaf
	static, err := staticConfig(p.ProxyOptions)
	if err != nil {
		return Desired{}, err
	}
	cert := File{Key: "proxy_certificate", Secret: true, Content: pair.cert}
	key := File{Key: "proxy_key", Secret: true, Content: pair.key}
	certName, keyName := cert.digest()[:12]+".crt", cert.digest()[:12]+".key"
	dynamicText, err := dynamicConfig(certName, keyName)
	if err != nil {
		return Desired{}, err
	}
	dynamic := File{Key: "proxy_dynamic", Content: ccci.NewSecret(dynamicText)}
	traefikConf := File{Key: "proxy_static", Content: ccci.NewSecret(static)}
	return Desired{
		Files:    []File{cert, key, dynamic, traefikConf},
		Services: []Service{p.socketProxy(), p.certificates(cert, key, dynamic, certName, keyName), p.traefik(traefikConf)},
	}, nil
}

func (p *proxy) socketProxy() Service {
	s := NewService("socket-proxy", p.CCCI)
	s.Bind(p.Socket, "/docker.sock", true)
	c := s.Spec.TaskTemplate.ContainerSpec
	c.Mounts = append(c.Mounts, memoryVolume("proxy-socket", socketDir, false))
	c.User = "0:0" // the socket's owner
	c.Args = []string{"socket-proxy", "--listen", socketPath, "--socket", "/docker.sock"}
	return s
}

func (p *proxy) certificates(cert, key, dynamic File, certName, keyName string) Service {
	s := NewService("certificates", p.CCCI)
	s.Mount(cert, "/run/secrets/certificate")
	s.Mount(key, "/run/secrets/key")
	s.Mount(dynamic, "/"+dynamicFile)
	s.Spec.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{memoryVolume("proxy-files", dynamicDir, false)}
	c := s.Spec.TaskTemplate.ContainerSpec
	c.User = "0:0"
	c.Args = []string{"live-files", dynamicDir, certName + "=/run/secrets/certificate", keyName + "=/run/secrets/key", dynamicFile + "=/" + dynamicFile}
	return s
}

// memoryVolume is a folder in memory that two services share, root's alone. It is on no disk: one
// holds a key.
func memoryVolume(name, target string, readOnly bool) mount.Mount {
	return mount.Mount{
		Type: mount.TypeVolume, Source: Prefix + name, Target: target, ReadOnly: readOnly,
		VolumeOptions: &mount.VolumeOptions{
			NoCopy: true,
			Labels: map[string]string{LabelUnit: "proxy"},
			DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{
				"type": "tmpfs", "device": "tmpfs", "o": "size=4m,mode=0700",
			}},
		},
	}
}

func (p *proxy) traefik(static File) Service {
	s := NewService("traefik", p.Traefik)
	s.Join(p.Network, InfraNetwork)
	s.Memory(128<<20, 1<<30)
	s.CPUs(int64(runtime.NumCPU()) * 1e9 * 3 / 4) // visitors of apps decide how much it computes
	s.Mount(static, staticPath)
	c := s.Spec.TaskTemplate.ContainerSpec
	c.Mounts = []mount.Mount{memoryVolume("proxy-files", dynamicDir, true), memoryVolume("proxy-socket", socketDir, true), {
		// Buffered requests and answers, of which Traefik leaves some behind. The image may have a
		// volume there, which would be the disk; what is here counts as the service's memory.
		Type: mount.TypeTmpfs, Target: "/tmp", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 64 << 20, Mode: 0o700},
	}}
	c.Labels[LabelProxy] = "true"
	c.User = "0:0" // the files are readable for their owner alone
	c.Args = []string{"--configFile=" + staticPath}
	c.CapabilityAdd = []string{"CAP_NET_BIND_SERVICE"}
	s.Healthy("traefik", "healthcheck", "--configFile="+staticPath)
	s.Publish(uint32(p.HTTP), ProxyHTTP, swarm.PortConfigProtocolTCP)
	s.Publish(uint32(p.HTTPS), ProxyHTTPS, swarm.PortConfigProtocolTCP)
	for _, e := range p.Entrypoints {
		protocol := swarm.PortConfigProtocolTCP
		if e.UDP {
			protocol = swarm.PortConfigProtocolUDP
		}
		s.Publish(uint32(e.Port), uint32(e.Port), protocol)
	}
	// A route to Traefik's own ping, found in Docker like any other: when it answers, the
	// whole way from labels to HTTPS works.
	for key, value := range map[string]string{
		"traefik.enable":                                                    "true",
		"traefik.http.routers.cc-ci-proxy.rule":                             "Host(`" + p.Domain + "`) && Path(`" + pingPath + "`)",
		"traefik.http.routers.cc-ci-proxy.entrypoints":                      "web-secure",
		"traefik.http.routers.cc-ci-proxy.tls":                              "true",
		"traefik.http.routers.cc-ci-proxy.service":                          "ping@internal",
		"traefik.http.services.cc-ci-proxy-unused.loadbalancer.server.port": strconv.Itoa(pingPort),
	} {
		s.Spec.Labels[key] = value
	}
	return s
}

// check asks, from outside, for what the proxy is there for: the right certificate
// for the domain and for a name under it, a route that comes from Docker, and
// the redirection to HTTPS.
func (p *proxy) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{p.Domain, "cc-ci-check." + p.Domain} {
		if err := p.handshake(ctx, name); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "the proxy does not serve HTTPS for %s: %w", name, err).WithHint("docker service logs %straefik says more", Prefix)
		}
	}
	res, err := p.get(ctx, "https://"+p.Domain+pingPath)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "the proxy does not answer: %w", err).WithHint("docker service logs %straefik says more", Prefix)
	}
	if res.StatusCode != http.StatusOK {
		return ccci.Errorf(ccci.CodeInfra, "the proxy knows no route from Docker: its own answers %s", res.Status).
			WithHint("docker service logs %[1]straefik and docker service logs %[1]ssocket-proxy say more", Prefix)
	}
	if res, err = p.get(ctx, "http://"+p.Domain+"/"); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "the proxy does not answer on port %d: %w", p.HTTP, err)
	}
	if res.StatusCode/100 != 3 {
		return ccci.Errorf(ccci.CodeInfra, "the proxy does not redirect HTTP to HTTPS: it answers %s", res.Status)
	}
	return nil
}

func (p *proxy) handshake(ctx context.Context, name string) error {
	conn, err := p.Dial(ctx, "tcp", p.address(p.HTTPS))
	if err != nil {
		return err
	}
	defer conn.Close()
	// Whom the certificate is signed by is for browsers to judge. Here it has to be ours.
	client := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := client.HandshakeContext(ctx); err != nil {
		return err
	}
	if served := client.ConnectionState().PeerCertificates[0]; !bytes.Equal(served.Raw, p.leaf) {
		return fmt.Errorf("it shows another certificate than that of %s, for %q until %s", p.Certificates, served.Subject.CommonName, served.NotAfter.Format(time.DateOnly))
	}
	return nil
}

func (p *proxy) address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// get asks the proxy, whatever the name says, and does not follow it elsewhere.
func (p *proxy) get(ctx context.Context, url string) (*http.Response, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // handshake has compared it
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			port := p.HTTPS
			if _, asked, err := net.SplitHostPort(address); err == nil && asked == "80" {
				port = p.HTTP
			}
			return p.Dial(ctx, network, p.address(port))
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	return res, errors.Join(err, res.Body.Close())
}
