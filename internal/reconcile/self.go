package reconcile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/mount"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Self is what the services have in common that are cc-ci itself. All but Secrets and
// Dial are needed.
type Self struct {
	Image  string // with cc-ci as its entrypoint
	Domain string // where the proxy serves them
	HTTPS  int    // port of the host
	Egress bool   // they ask something outside of InfraNetwork, as a forge

	Config  string   // path of the configuration file on the host
	Secrets []string // paths of the files with secrets that the service reads
	Data    string   // data folder on the host; the services run as its owner
	Reads   []string // folders in Data that a service which only reads gets, in place of Data
	Tests   string   // folder with enrolments on the host

	// Bus returns where the bus between the services is, as net.Dial takes it; nil is nowhere.
	Bus func() (network, address string, err error)
	// Dial reaches the host's ports; default is to do so from here.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// configDir is where the configuration is in a container.
const configDir = "/etc/cc-ci"

// service returns cc-ci with these arguments as a service, with configuration and
// secrets where they are read: what stands beside the configuration on the host stands
// beside it there, and what has a place of its own keeps it.
func (s Self) service(name string, args ...string) (Service, []File, error) {
	if s.Image == "" || s.Config == "" {
		return Service{}, nil, ccci.Errorf(ccci.CodeInvalid, "the %s needs an image of cc-ci and a configuration file", name).
			WithHint("set reconcile.images.cc_ci in the file that --config names")
	}
	text, err := os.ReadFile(s.Config)
	if err != nil {
		return Service{}, nil, ccci.Errorf(ccci.CodeInvalid, "reading the configuration: %w", err)
	}
	owner, err := ownerOf(s.Data)
	if err != nil {
		return Service{}, nil, err
	}
	config := File{Key: name + "_config", Content: ccci.NewSecret(string(text))}
	service, files := NewService(name, s.Image), []File{config}
	service.Mount(config, configDir+"/cc-ci.yml")
	for _, source := range s.Secrets {
		content, err := os.ReadFile(source)
		if err != nil {
			return Service{}, nil, ccci.Errorf(ccci.CodeInvalid, "reading a secret of the %s: %w", name, err).
				WithHint("the file must be there, and readable for whoever runs cc-ci reconcile")
		}
		// What stands beside the configuration is named by how it does: systemd gives
		// each of its units credentials in a folder of its own.
		called, target := source, source
		if inside, err := filepath.Rel(filepath.Dir(s.Config), source); err == nil && filepath.IsLocal(inside) {
			called, target = inside, path.Join(configDir, inside)
		}
		f := File{Key: fileKeyOf(name, called), Secret: true, Content: ccci.NewSecret(string(content))}
		service.Mount(f, target)
		files = append(files, f)
	}
	c := service.Spec.TaskTemplate.ContainerSpec
	c.Args = append([]string{"--config", configDir + "/cc-ci.yml"}, args...)
	c.User = owner
	uid, gid, _ := strings.Cut(owner, ":")
	for _, ref := range c.Secrets {
		ref.File.UID, ref.File.GID = uid, gid
	}
	egress, err := s.reachBus(&service, gid)
	if err != nil {
		return Service{}, nil, err
	}
	service.Join(InfraNetwork)
	if s.Egress || egress {
		service.Join(EgressNetwork)
	}
	if err := s.bindData(&service, owner); err != nil {
		return Service{}, nil, err
	}
	if _, err := os.Stat(s.Tests); err == nil {
		service.Bind(s.Tests, s.Tests, true)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Service{}, nil, ccci.Errorf(ccci.CodeInvalid, "looking for the enrolments: %w", err)
	}
	c.Mounts = append(c.Mounts, mount.Mount{Type: mount.TypeTmpfs, Target: "/tmp"})
	return service, files, nil
}

// reachBus gives a service the folder with the socket of the bus and the group of that folder, or says that it
// needs a way out to it. gid is the service's own group.
func (s Self) reachBus(service *Service, gid string) (egress bool, err error) {
	if s.Bus == nil {
		return false, nil
	}
	network, address, err := s.Bus()
	if err != nil {
		return false, err
	}
	const hint = "let Redis listen at a Unix socket in a folder of its own, which the owner of the data folder or the group of that folder can enter, and write bus.redis.url_file as unix://:PASSWORD@/run/redis-cc-ci/redis.sock"
	if network == "" {
		return false, nil
	}
	if network != "unix" {
		host, _, _ := net.SplitHostPort(address)
		if ofThisHost(host) {
			return false, ccci.Errorf(ccci.CodeInvalid, "Redis is at %s, an address of this host, of which containers reach no port", address).WithHint(hint)
		}
		return true, nil
	}
	folder := filepath.Dir(address)
	info, err := os.Stat(folder)
	if err != nil || !info.IsDir() {
		return false, ccci.Errorf(ccci.CodeInfra, "the folder of the socket of Redis, %s, is not there", folder).WithHint("start Redis, and see that it listens at %s", address)
	}
	if strings.Count(folder, "/") < 2 { // it holds what is not Redis'
		return false, ccci.Errorf(ccci.CodeInvalid, "the socket of Redis, %s, is in no folder of its own", address).WithHint(hint)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Gid != 0 { // root's group would open more than this
		if group := strconv.FormatUint(uint64(stat.Gid), 10); group != gid {
			service.Spec.TaskTemplate.ContainerSpec.Groups = []string{group}
		}
	}
	service.Bind(folder, folder, true)
	return false, nil
}

// ofThisHost reports whether a host is this one, as far as can be seen without asking a name server.
func ofThisHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	own, _ := net.InterfaceAddrs() // without them it is somewhere else
	return ip.IsUnspecified() || ip.IsLoopback() || slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// bindData gives a service the data folder, or nothing but what it reads of it: the folder
// holds secrets besides. A folder that is not there yet is made, for a bind needs one.
func (s Self) bindData(service *Service, owner string) error {
	if s.Reads == nil {
		service.Bind(s.Data, s.Data, false)
		return nil
	}
	var uid, gid int
	if _, err := fmt.Sscanf(owner, "%d:%d", &uid, &gid); err != nil {
		return fmt.Errorf("reading the owner %q of %s: %w", owner, s.Data, err)
	}
	for _, name := range s.Reads {
		dir := filepath.Join(s.Data, name)
		err := os.Mkdir(dir, 0o750)
		if err == nil {
			err = os.Chown(dir, uid, gid)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return ccci.Errorf(ccci.CodeInfra, "making the folder %s: %w", dir, err)
		}
		service.Bind(dir, dir, true)
	}
	return nil
}

// fileKeyOf names a secret by the service and the end of what its file is called.
func fileKeyOf(service, called string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, strings.TrimPrefix(called, "/"))
	key := service + "_" + name
	if len(key) > 46 { // the end tells files apart
		key = service + "_" + strings.TrimLeft(name[len(name)-(46-len(service)-1):], "_-")
	}
	return strings.TrimRight(key, "_-")
}

// ownerOf returns the user and group of a folder, as uid:gid.
func ownerOf(folder string) (string, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInvalid, "looking at the data folder: %w", err).
			WithHint("make it, and give it to the user that cc-ci is to run as")
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("the owner of %s is not known", folder)
	}
	return fmt.Sprintf("%d:%d", stat.Uid, stat.Gid), nil
}

// ask asks the proxy of this host for a path of the domain, and returns the status.
func (s Self) ask(ctx context.Context, method, path string) (int, error) {
	transport := ThroughProxy(s.Dial, s.HTTPS)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+s.Domain+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// ThroughProxy reaches every name at the HTTPS port of this host's proxy, so that a host is
// brought up before its names and its gateway are. The certificate is not looked at: the unit
// proxy has compared it, and nobody stands between this process and this host. dial may
// be nil.
func ThroughProxy(dial func(ctx context.Context, network, address string) (net.Conn, error), https int) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(https)))
		},
	}
}

// Route is how the proxy reaches a service.
type Route struct {
	Name string // of router and service at the proxy, without the prefix
	Rule string
	Port int // in the container
}

// Route gives the service, which is in InfraNetwork, the labels that the proxy reads.
func (s *Service) Route(r Route) {
	router := "traefik.http.routers.cc-ci-" + r.Name
	for key, value := range map[string]string{
		"traefik.enable":        "true",
		"traefik.swarm.network": InfraNetwork,
		router + ".rule":        r.Rule,
		router + ".entrypoints": "web-secure",
		router + ".tls":         "true",
		router + ".middlewares": "security@file",
		"traefik.http.services.cc-ci-" + r.Name + ".loadbalancer.server.port": strconv.Itoa(r.Port),
	} {
		s.Spec.Labels[key] = value
	}
}
