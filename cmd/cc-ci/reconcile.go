package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/firewall"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile/livefiles"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile/socketproxy"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// reconcileCommands keep the host's own services; the hidden ones are what some of these services run.
type reconcileCommands struct {
	Reconcile   reconcileCmd   `cmd:"" help:"Bring this host's own services into the state that the configuration wants, or say that there is nothing to do."`
	Firewall    firewallCmd    `cmd:"" help:"Install the firewall between apps and this host, which needs no Docker: before each start of Docker, also without reconcile."`
	SocketProxy socketProxyCmd `cmd:"" hidden:"" help:"Answer for Docker to whoever may only look."`
	LiveFiles   liveFilesCmd   `cmd:"" hidden:"" help:"Put files into a folder that another program watches."`
}

type reconcileCmd struct {
	Units  []string `arg:"" name:"unit" help:"swarm, firewall, proxy, drone, bridge, dashboard, backupbot, several of them, or all. Every unit begins with swarm, which it stands on."`
	DryRun bool     `help:"Say what would be done and do nothing."`
	JSON   bool     `name:"json" help:"Print what was done as JSON."`
	Retry  bool     `help:"Try an update again that failed less than an hour ago."`
}

// reconcileUnits returns the units of a configuration, in the order in which they stand on each
// other (A33).
func reconcileUnits(cfg config.Config, docker *client.Client) []reconcile.Unit {
	r := cfg.Reconcile
	proxy := reconcile.ProxyOptions{
		Domain: cfg.Domain, Network: cfg.Network, Certificates: r.Proxy.Certificates, Traefik: r.Images.Traefik, CCCI: r.Images.CCCI,
		Socket: r.Socket, HTTP: r.Proxy.HTTP, HTTPS: r.Proxy.HTTPS, Gateways: gateways(cfg), Containers: reconcile.ContainerRanges(docker),
	}
	for _, text := range r.Proxy.Entrypoints {
		e, _ := config.ParseEntrypoint(text) // Read has checked it
		proxy.Entrypoints = append(proxy.Entrypoints, reconcile.Entrypoint(e))
	}
	return []reconcile.Unit{
		reconcile.Swarm(reconcile.SwarmOptions{Network: cfg.Network, Subnet: r.Subnet}),
		reconcile.Firewall(firewallOptions(cfg, docker)),
		reconcile.Proxy(proxy),
	}
}

func gateways(cfg config.Config) []reconcile.Gateway {
	var all []reconcile.Gateway
	for _, g := range cfg.Gateways() {
		all = append(all, reconcile.Gateway(g))
	}
	return all
}

func firewallOptions(cfg config.Config, docker *client.Client) reconcile.FirewallOptions {
	r := cfg.Reconcile
	o := reconcile.FirewallOptions{Ports: []uint16{uint16(r.Proxy.HTTP), uint16(r.Proxy.HTTPS)}, Bridges: reconcile.Bridges(docker)}
	// Forge and Drone may be on this host too.
	ask := []string{cfg.Engine.Drone.URL}
	for _, f := range cfg.AllForges() {
		ask = append(ask, f.URL)
	}
	for _, text := range ask {
		if port, ok := portOfURL(text); ok {
			o.Ports = append(o.Ports, port)
		}
	}
	slices.Sort(o.Ports)
	o.Ports = slices.Compact(o.Ports)
	for _, text := range r.Firewall.Allow {
		d, _ := config.ParseDestination(text) // Read has checked it
		o.Allow = append(o.Allow, firewall.Destination(d))
	}
	o.Docker = reconcile.DockerOptions{Cgroup: r.Firewall.DockerCgroup, Published: []firewall.Destination{{Port: reconcile.ProxyHTTP}, {Port: reconcile.ProxyHTTPS}}}
	for _, text := range r.Proxy.Entrypoints {
		e, _ := config.ParseEntrypoint(text)
		o.Docker.Published = append(o.Docker.Published, firewall.Destination{Port: uint16(e.Port), UDP: e.UDP})
	}
	for _, text := range r.Firewall.DockerAllow {
		if port, ok := portOfURL(text); ok {
			u, _ := url.Parse(text)
			o.Docker.Names = append(o.Docker.Names, reconcile.Name{Host: u.Hostname(), Port: port})
			continue
		}
		d, _ := config.ParseDestination(text)
		o.Docker.Allow = append(o.Docker.Allow, firewall.Destination(d))
	}
	return o
}

// portOfURL returns the TCP port that a URL of HTTP leads to.
func portOfURL(text string) (uint16, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return 0, false
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]), 10, 16)
	return uint16(port), err == nil && port > 0
}

// chosen returns the units of these names and the one that every unit stands on, in the
// order in which they stand on each other.
func chosen(units []reconcile.Unit, names []string) ([]reconcile.Unit, error) {
	known := []string{"all"}
	for _, u := range units {
		known = append(known, u.Name)
	}
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		return nil, ccci.Errorf(ccci.CodeInvalid, "reconcile: there is no unit %q", name).
			WithHint("%s", settings.Suggest(name, known, "there are "+strings.Join(known, ", ")))
	}
	var picked []reconcile.Unit
	for i, u := range units {
		if i == 0 || slices.Contains(names, "all") || slices.Contains(names, u.Name) {
			picked = append(picked, u)
		}
	}
	return picked, nil
}

func (c *reconcileCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	docker, err := dockerClient()
	if err != nil {
		return err
	}
	defer docker.Close()
	ctx, life := a.begin()
	defer life.stop()
	services, err := a.serviceUnits(ctx, cfg, docker)
	if err != nil {
		return err
	}
	units, err := chosen(append(reconcileUnits(cfg, docker), services...), c.Units)
	if err != nil {
		return err
	}
	runner := &reconcile.Runner{Daemon: reconcile.NewDaemon(docker), DryRun: c.DryRun, Retry: c.Retry, Logger: a.logger(cfg)}
	if !c.JSON {
		runner.Began = func(unit string, action reconcile.Action) { fmt.Fprintf(a.stdout, "%s: %s\n", unit, action) }
	}
	if !c.DryRun {
		release, err := reconcile.Lock(ctx, reconcile.LockFile, func() {
			fmt.Fprintln(a.stderr, "cc-ci: waiting for another cc-ci reconcile")
		})
		if err != nil {
			return err
		}
		defer release()
	}
	reports, err := runner.Run(ctx, units...)
	if ended := life.exit(); ended != nil && err != nil {
		err = ended
	}
	if c.JSON {
		encoder := json.NewEncoder(a.stdout)
		encoder.SetIndent("", "  ")
		if writeErr := encoder.Encode(reports); writeErr != nil {
			return fmt.Errorf("writing what was done: %w", writeErr)
		}
		return err
	}
	for _, report := range reports {
		if writeErr := report.WriteText(a.stdout); writeErr != nil {
			return fmt.Errorf("writing what was done: %w", writeErr)
		}
	}
	return err
}

type firewallCmd struct {
	DryRun bool `help:"Print the tables as nft reads them and change nothing. Needs no rights."`
}

// Help is the end of the command's help text.
func (firewallCmd) Help() string {
	return `It installs the table inet cc-ci, which keeps apps from this host, from private networks and from
each other, and with reconcile.firewall.docker_cgroup the table inet cc-ci-dockerd, for what dockerd
asks. A table inet cc-ci that exists already stays as it is: cc-ci reconcile firewall, which asks
Docker for further bridges, may have made it. It needs root or the capability CAP_NET_ADMIN.
See docs/reconcile.md, firewall.`
}

func (c *firewallCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if c.DryRun {
		text, err := firewallOptions(cfg, nil).Text(a.ctx)
		if err != nil {
			return err
		}
		_, err = io.WriteString(a.stdout, text)
		return err
	}
	raised, err := firewallOptions(cfg, nil).Raise(a.ctx)
	if err != nil {
		return err
	}
	said := "the rules are installed already"
	if raised {
		said = "the rules are installed"
	}
	_, err = fmt.Fprintln(a.stdout, said)
	return err
}

type socketProxyCmd struct {
	Listen string `required:"" help:"Path of the Unix socket to answer at."`
	Socket string `default:"/var/run/docker.sock" help:"Docker's socket."`
}

func (c *socketProxyCmd) Run(a *app) error {
	ctx, life := a.begin()
	defer life.stop()
	return socketproxy.Serve(ctx, c.Listen, c.Socket, slog.New(slog.NewTextHandler(a.stderr, nil)))
}

type liveFilesCmd struct {
	Dir   string   `arg:"" help:"The folder, which holds nothing else."`
	Files []string `arg:"" placeholder:"NAME=SOURCE" help:"Files; the last one names the others."`
}

// Run puts the files there and stays, for as long as they are to be there.
func (c *liveFilesCmd) Run(a *app) error {
	var files []livefiles.File
	for _, text := range c.Files {
		f, err := livefiles.Parse(text)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	ctx, life := a.begin()
	defer life.stop()
	if err := livefiles.Publish(ctx, c.Dir, files, livefiles.Quiet); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%d files are in %s\n", len(files), c.Dir)
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(livefiles.Settled):
	}
	if err := livefiles.Sweep(ctx, c.Dir, files); err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	return nil
}
