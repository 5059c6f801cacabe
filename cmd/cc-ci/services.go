package main

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
	"github.com/recipe-maintainers/cc-ci/internal/bus/redisbus"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile"
)

// serviceUnits returns the units that stand on the proxy, in their order (A33): Drone
// with engine.kind drone, bridge and dashboard with processes apart, and backups.
func (a *app) serviceUnits(ctx context.Context, cfg config.Config, docker *client.Client) ([]reconcile.Unit, error) {
	path, err := a.absoluteConfig()
	if err != nil {
		return nil, err
	}
	r := cfg.Reconcile
	var units []reconcile.Unit
	if cfg.Engine.Kind == config.KindDrone {
		units = append(units, reconcile.Drone(droneOptions(cfg)))
	}
	self := func(secrets []string) reconcile.Self {
		return reconcile.Self{
			Image: r.Images.CCCI, Domain: cfg.Domain, HTTPS: r.Proxy.HTTPS,
			Config: path, Secrets: secrets, Data: cfg.Data, Tests: cfg.Tests,
			Bus: func() (string, string, error) {
				if cfg.Bus.Kind != config.BusRedis {
					return "", "", nil
				}
				address, err := cfg.ReadSecret(cfg.Bus.Redis.URLFile)
				if err != nil {
					return "", "", err
				}
				return redisbus.Address(address)
			},
		}
	}
	bridge := reconcile.BridgeOptions{Self: self(cfg.BridgeSecrets()), Port: portOf(cfg.Bridge.Listen), Locks: func() (string, error) {
		if cfg.Engine.Kind != config.KindDrone {
			return "", ccci.Errorf(ccci.CodeInvalid, "a bridge in a container has no Docker to run tests with, and engine.kind is %s", cfg.Engine.Kind).
				WithHint("write engine: {kind: drone, …}, or start cc-ci bridge outside of the swarm")
		}
		p := &platform{cfg: cfg, docker: docker}
		err := p.findLocks(ctx)
		return p.lockDir, err
	}}
	bridge.Self.Egress = true // to forges and Drone
	for _, f := range cfg.AllForges() {
		if f.Kind != config.KindLocal {
			bridge.Hook = hook.Path + f.Name
			break
		}
	}
	dashboard := reconcile.DashboardOptions{Self: self(cfg.DashboardSecrets()), Port: portOf(cfg.Listen)}
	dashboard.Self.Reads = []string{"store", "blobs"}
	if cfg.Engine.Kind != config.KindDrone {
		dashboard.Self.Reads = append(dashboard.Self.Reads, "builds") // logs
	}
	backups := reconcile.BackupbotOptions{Repository: r.Backup.Repository, Password: func() (ccci.Secret, error) { return cfg.ReadSecret(r.Backup.Password) }}
	if cfg.Processes == config.Apart {
		units = append(units, reconcile.Bridge(bridge), reconcile.Dashboard(dashboard))
	}
	return append(units, reconcile.Backupbot(backups)), nil
}

func droneOptions(cfg config.Config) reconcile.DroneOptions {
	d := cfg.Reconcile.Drone
	o := reconcile.DroneOptions{
		Image: cfg.Reconcile.Images.Drone, Host: d.Host, URL: strings.TrimRight(cfg.Engine.Drone.URL, "/"), Admin: d.Admin, Timeout: cfg.Engine.Deadline,
	}
	if u, err := url.Parse(o.URL); err == nil && u.Scheme == "https" && u.Hostname() == d.Host {
		o.Transport = reconcile.ThroughProxy(nil, cfg.Reconcile.Proxy.HTTPS)
	}
	o.Repo, _ = ccci.ParseRepoRef(cfg.Engine.Drone.Repo) // Read has checked it
	for _, f := range cfg.Forges {
		if f.Kind == config.KindGitea {
			o.Forge = f.URL
			break
		}
	}
	o.Secrets = func() (s reconcile.DroneSecrets, err error) {
		for path, into := range map[string]*ccci.Secret{
			d.ClientID: &s.ClientID, d.ClientSecret: &s.ClientSecret, d.RPCSecret: &s.RPC, cfg.Engine.Drone.TokenFile: &s.Token,
		} {
			if *into, err = cfg.ReadSecret(path); err != nil {
				return s, err
			}
		}
		return s, nil
	}
	return o
}

// portOf is the port of an address that was checked.
func portOf(address string) int {
	_, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	return number
}
