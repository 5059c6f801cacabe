package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
	"github.com/recipe-maintainers/cc-ci/internal/metrics"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// janitorEvery is how often an idle machine is looked over.
const janitorEvery = 5 * time.Minute

// reapLimit bounds one look of the janitor. The first one goes before everything that is served, and
// what hangs in Docker must not keep cc-ci from it; the next looks try again.
const reapLimit = 2 * time.Minute

// server is everything in one process, the harnesses aside, or everything but the
// dashboard. Forges and engine may be elsewhere.
type server struct {
	cfg       config.Config
	log       *slog.Logger
	lock      *flock.Flock
	listener  net.Listener // nil: the dashboard is another process
	ops       net.Listener // nil: the dashboard's does it
	platform  *platform
	store     *sqlstore.Store
	blobs     *dirblob.Blobs
	bus       messenger
	forge     *localforge.Forge // nil when all forges are elsewhere
	forges    []adapter
	engine    engine
	bridges   bridge.Several
	metrics   *metrics.Metrics
	found     found
	reading   sync.Mutex // one repository is read at a time for the bridge
	dashboard *dashboard.Dashboard
	http      []endpoint
}

// serverOptions are what the configuration does not say.
type serverOptions struct {
	ConfigPath string // for the harnesses
	Install    bool
	Builds     string // the local engine's folder within the data folder; default builds
	Apart      bool   // the dashboard is another process
	Locks      string // folder with the locks of runs, for whoever has no Docker
	Say        func(line string)
}

func lockPath(cfg config.Config) string { return filepath.Join(cfg.Data, "serve.lock") }

// otherServes reports whether a server holds the data folder.
func otherServes(cfg config.Config) bool {
	serves, err := serving(cfg)
	return err == nil && serves
}

// newServer makes everything ready. On error nothing is left of it.
func newServer(ctx context.Context, cfg config.Config, log *slog.Logger, o serverOptions) (s *server, err error) {
	s = &server{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			s.Close(context.WithoutCancel(ctx))
		}
	}()
	// What can be refused at once is, before anything is made.
	if err := os.MkdirAll(cfg.Data, 0o755); err != nil {
		return s, ccci.Errorf(ccci.CodeInvalid, "making the data folder: %w", err).WithHint("name one that you may write to: data: in the configuration")
	}
	lock := flock.New(lockPath(cfg))
	if ok, err := lock.TryLock(); err != nil {
		return s, ccci.Errorf(ccci.CodeInvalid, "locking the data folder %s: %w", cfg.Data, err).WithHint("name one that you may write to: data: in the configuration")
	} else if !ok {
		return s, ccci.Errorf(ccci.CodeConflict, "another cc-ci already serves from %s", cfg.Data).WithHint("stop it, or give this one another data folder (data: in the configuration)")
	}
	s.lock = lock
	if !o.Apart {
		if err := s.listen(); err != nil {
			return s, err
		}
	}
	if cfg.Bridge.Listen != "" {
		if s.ops, err = listen(cfg.Bridge.Listen, "the address of /hook and /metrics", "bridge.listen: in the configuration"); err != nil {
			return s, err
		}
		s.cfg.Bridge.Listen = s.ops.Addr().String()
	}
	names, err := checkEnrolments(cfg.Tests)
	if err != nil {
		return s, err
	}
	if err := s.openStores(ctx); err != nil {
		return s, err
	}
	if o.Locks != "" {
		s.platform = onlyLocks(s.cfg, log, o.Locks)
	} else if s.platform, err = openPlatform(ctx, s.cfg, log, platformOptions{Say: o.Say, Install: o.Install, Served: true}); err != nil {
		return s, err
	}
	return s, s.assemble(ctx, o, names)
}

// listen takes the dashboard's address.
func (s *server) listen() (err error) {
	if s.listener, err = listen(s.cfg.Listen, "the dashboard's address", "listen: in the configuration, or --listen"); err != nil {
		return err
	}
	s.cfg.Listen = s.listener.Addr().String() // with the port that was given
	if strings.HasSuffix(s.cfg.URL, ":0") {
		s.cfg.URL = config.URLOf(s.cfg.Listen)
	}
	return nil
}

// listen takes an address. what and key name it where it cannot.
func listen(address, what, key string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, ccci.Errorf(ccci.CodeConflict, "%s %s is taken by another program", what, address).WithHint("choose another with %s", key)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "listening on %s: %w", address, err).WithHint("write an address of this machine and a port, as 127.0.0.1:8480")
	}
	return l, nil
}

func (s *server) openStores(ctx context.Context) (err error) {
	if err := moveStore(s.cfg); err != nil {
		return err
	}
	if s.store, err = sqlstore.Open(ctx, storePath(s.cfg)); err != nil {
		return err
	}
	if s.blobs, err = openBlobs(s.cfg); err != nil {
		return err
	}
	if s.bus, err = openMessenger(s.cfg); err != nil {
		return err
	}
	return s.openForges(ctx)
}

// announce says that a repository's pull requests changed. It is a hint: the next poll comes anyway.
func (s *server) announce(repo ccci.RepoRef) {
	_ = s.bus.Publish(context.Background(), ccci.TopicForge, repo.String())
}

func (s *server) assemble(ctx context.Context, o serverOptions, enrolled []string) (err error) {
	if s.engine, err = s.openEngine(o); err != nil {
		return err
	}
	s.metrics = metrics.New(prometheus.NewRegistry())
	s.metrics.Machine(func() (held bool, disk, memory int64) {
		state := s.needs().Look()
		return state.Short != "", state.Disk, state.Memory
	})
	configs, err := s.bridgeConfigs()
	if err != nil {
		return err
	}
	if s.bridges, err = bridge.NewSeveral(configs...); err != nil {
		return err
	}
	if o.Apart {
		return s.routes()
	}
	recipes := func() []string {
		names := append(slices.Clone(enrolled), s.found.recipes()...)
		for _, c := range configs {
			for _, r := range c.Repos {
				names = append(names, r.Recipe)
			}
		}
		return names
	}
	cfg, err := dashboardConfig(s.cfg, s.log)
	if err != nil {
		return err
	}
	cfg.Held = s.needs().Short
	cfg.Store, cfg.Blobs, cfg.Engine, cfg.Bus, cfg.Recipes = s.store, s.blobs, s.engine, s.bus, recipes
	if s.forge != nil {
		cfg.Forge = pullPages{s.forge}
		if cfg.User, err = s.forge.User(ctx, s.cfg.Forge.User); err != nil {
			return err
		}
	}
	if s.dashboard, err = dashboard.New(cfg); err != nil {
		return err
	}
	return s.routes()
}

// Run serves until ctx ends, then drains: running harnesses tear down first.
func (s *server) Run(ctx context.Context) error {
	s.reap(ctx)
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range s.http {
		h.run(ctx, group)
	}
	group.Go(func() error { return endedWith(ctx, s.engine.Run(ctx)) })
	group.Go(func() error { return endedWith(ctx, s.bridges.Run(ctx)) })
	group.Go(func() error { s.keepClean(ctx); return nil })
	group.Go(func() error {
		if err := fillChecks(ctx, s.store, s.blobs); err != nil && ctx.Err() == nil {
			s.log.Error("reading the checks of earlier runs", "error", err)
		}
		return nil
	})
	return group.Wait()
}

// endedWith forgives the error that only says that ctx ended.
func endedWith(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// buildsKept is how long the engine remembers a finished build with its own copy
// of the log; the run's artifacts hold another. Nobody asks for one that is older.
const buildsKept = 30 * 24 * time.Hour

// keepClean runs the janitor on an idle machine too, and keeps results within bounds.
func (s *server) keepClean(ctx context.Context) {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.reap(ctx)
			if err := prune(ctx, s.store, s.blobs, s.cfg.Keep.Runs); err != nil {
				s.log.Error("removing old results", "error", err)
			}
			if _, err := s.engine.Prune(time.Now().Add(-buildsKept)); err != nil {
				s.log.Error("removing old builds", "error", err)
			}
		}
	}
}

func (s *server) reap(ctx context.Context) {
	if s.platform.docker == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reapLimit, fmt.Errorf("the janitor has %s for one look", reapLimit))
	defer cancel()
	if _, _, err := s.platform.reap(ctx); err != nil {
		s.log.Error("janitor", "error", err)
	}
}

// fillChecks reads, of results that were stored by versions which kept no checks, those of the last
// runs that speak for each recipe. A run that left no result stays without checks.
func fillChecks(ctx context.Context, store ccci.Store, blobs ccci.BlobReader) error {
	latest, err := store.LatestPerRecipe(ctx)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, run := range latest {
		if done[run.Recipe] {
			continue
		}
		done[run.Recipe] = true
		past, err := store.CheckHistory(ctx, ccci.CheckFilter{Recipe: run.Recipe, About: ccci.SubjectRecipe})
		if err != nil {
			return err
		}
		for _, o := range past {
			if len(o.Checks) > 0 || !o.Run.Status.Judged() {
				continue
			}
			result, _, err := ccci.ReadResult(ctx, blobs, o.Run, ccci.Build{Attempt: o.Run.Attempt})
			if err != nil {
				return err
			}
			if result == nil { // removed, or none that can be used
				continue
			}
			if err := store.KeepChecks(ctx, o.Run.ID, result.Outcomes()); err != nil {
				return err
			}
		}
	}
	return nil
}

// prune removes the artifacts of runs beyond the newest keep of each recipe, except those of the
// run that speaks for it. The rows in the history stay (U18).
func prune(ctx context.Context, store ccci.Store, blobs ccci.Blobs, keep int) error {
	latest, err := store.LatestPerRecipe(ctx)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	speaks := map[ccci.RunID]bool{}
	for _, run := range latest {
		speaks[run.ID] = true
	}
	for _, run := range latest {
		if done[run.Recipe] {
			continue
		}
		done[run.Recipe] = true
		old, err := store.FindRuns(ctx, ccci.RunFilter{Recipe: run.Recipe, Limit: keep + 50})
		if err != nil {
			return err
		}
		for _, r := range old[min(keep, len(old)):] {
			if speaks[r.ID] {
				continue
			}
			infos, err := blobs.List(ctx, ccci.ArtifactKey(r.ID, ""))
			if err != nil {
				return err
			}
			for _, info := range infos {
				if err := blobs.Delete(ctx, info.Key); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Close releases everything. Legal twice and on a server that was half made.
func (s *server) Close(ctx context.Context) error {
	var errs []error
	if s.dashboard != nil {
		errs = append(errs, s.dashboard.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.platform != nil {
		errs = append(errs, s.platform.Close(ctx))
	}
	for _, f := range s.forges {
		errs = append(errs, f.close())
	}
	if s.bus.close != nil {
		errs = append(errs, s.bus.close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	for _, l := range []net.Listener{s.listener, s.ops} {
		if l != nil {
			l.Close() // closed already by an orderly shutdown
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}
