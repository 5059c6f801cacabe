package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/engine/drone"
	"github.com/recipe-maintainers/cc-ci/internal/engine/localengine"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

type dashCmd struct {
	Listen  string   `placeholder:"ADDRESS" help:"Address of the dashboard, in place of the configuration's."`
	Proxies []string `placeholder:"NETWORK" help:"Peers whose X-Forwarded-For is believed, in place of the configuration's dashboard.proxies."`
}

func (c *dashCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := cfg.Needs(config.Apart, "cc-ci dashboard"); err != nil {
		return err
	}
	cfg.ListenOn(c.Listen)
	if len(c.Proxies) > 0 {
		cfg.Dashboard.Proxies = c.Proxies
	}
	debug.SetMemoryLimit(int64(cfg.Dashboard.MemoryMiB) << 20)
	ctx, life := a.beginServer(neverOrphaned)
	defer life.stop()
	r, err := newReading(ctx, cfg, a.logger(cfg))
	if err != nil {
		return orInterrupted(life, err)
	}
	defer r.Close()
	fmt.Fprintf(a.stdout, "the dashboard is at %s (reads %s); Ctrl-C ends it\n", r.cfg.URL, r.cfg.Data)
	group, ctx := errgroup.WithContext(ctx)
	r.endpoint.run(ctx, group)
	return orInterrupted(life, group.Wait())
}

// reading is the dashboard as a process of its own. It reads what the bridge's
// process writes into the data folder, and writes nothing there. The pages of the
// local forge are not part of it: their comments are written.
type reading struct {
	cfg       config.Config
	dashboard *dashboard.Dashboard
	endpoint  endpoint
	close     []func() error // in the order in which things were made
}

func newReading(ctx context.Context, cfg config.Config, log *slog.Logger) (r *reading, err error) {
	s := server{cfg: cfg}
	r = &reading{}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := s.listen(); err != nil {
		return r, err
	}
	cfg, r.cfg = s.cfg, s.cfg
	r.close = append(r.close, func() error { s.listener.Close(); return nil }) // closed already by an orderly shutdown
	enrolled, err := checkEnrolments(cfg.Tests)
	if err != nil {
		return r, err
	}
	for _, f := range cfg.AllForges() {
		for _, repo := range f.Repos {
			enrolled = append(enrolled, repo.Recipe)
		}
	}
	store, err := sqlstore.OpenReader(ctx, storePath(cfg))
	if err != nil {
		return r, err
	}
	r.close = append(r.close, store.Close)
	blobs, err := dirblob.OpenReader(blobsPath(cfg))
	if err != nil {
		return r, err
	}
	bus, err := openMessenger(cfg)
	if err != nil {
		return r, err
	}
	r.close = append(r.close, bus.close)
	logs, done, err := openLogs(cfg, log)
	if err != nil {
		return r, err
	}
	r.close = append(r.close, done)
	c, err := dashboardConfig(cfg, log)
	if err != nil {
		return r, err
	}
	needs := needsOf(cfg, "")
	needs.Dirs[0] = storeDir(cfg) // of the data folder it may have this and no more
	c.Held = needs.Short
	c.Store, c.Blobs, c.Engine, c.Bus, c.Recipes = store, blobs, logs, bus, func() []string { return enrolled }
	if r.dashboard, err = dashboard.New(c); err != nil {
		return r, err
	}
	r.close = append(r.close, r.dashboard.Close)
	r.endpoint = pagesEndpoint(r.dashboard, r.dashboard, s.listener, log)
	return r, nil
}

// Close releases everything. Legal twice and when it was half made.
func (r *reading) Close() error {
	var errs []error
	for len(r.close) > 0 {
		last := len(r.close) - 1
		errs = append(errs, r.close[last]())
		r.close = r.close[:last]
	}
	return errors.Join(errs...)
}

// dashboardConfig is what the configuration says of a dashboard, wherever it runs.
func dashboardConfig(cfg config.Config, log *slog.Logger) (dashboard.Config, error) {
	d := cfg.Dashboard
	proxies, err := config.ParseProxies(d.Proxies, attachedNetworks)
	if err != nil {
		return dashboard.Config{}, err
	}
	return dashboard.Config{
		Limits: dashboard.Limits{
			Requests: d.Requests, PerAddress: d.PerAddress, Streams: d.Streams, StreamsPer: d.StreamsPer, Patience: d.Patience, Proxies: proxies,
		},
		Capacity: cfg.Engine.Capacity, Version: version(), Title: cfg.Title, URL: cfg.URL, StaleAfter: cfg.Badge.Stale, Logger: log,
	}, nil
}

// attachedNetworks lists the networks of this machine's, or container's, interfaces.
func attachedNetworks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "looking for the networks of this machine: %w", err)
	}
	var all []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all, nil
}

// openLogs opens the logs of an engine that is another process.
func openLogs(cfg config.Config, log *slog.Logger) (runlog.Source, func() error, error) {
	if cfg.Engine.Kind != config.KindDrone {
		logs, err := localengine.OpenLogs(filepath.Join(cfg.Data, "builds"))
		if err != nil {
			return nil, nothing, err
		}
		return logs, logs.Close, nil
	}
	settings := cfg.Engine.Drone
	token, err := cfg.ReadSecret(settings.TokenFile)
	if err != nil { // it may do more than read; who keeps it from this process knows why
		log.Warn("without Drone's token logs appear when their runs have ended", "error", err)
		return nil, nothing, nil
	}
	repo, err := ccci.ParseRepoRef(settings.Repo)
	if err != nil {
		return nil, nothing, err
	}
	logs, err := drone.New(drone.Options{URL: settings.URL, Token: token, Repo: repo, Branch: settings.Branch, Logger: log,
		Host: func(context.Context, ccci.RunID) (drone.Presence, error) { return drone.Absent, errReads }})
	return logs, nothing, err
}

var errReads = errors.New("this process only reads logs")
