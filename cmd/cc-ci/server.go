package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/bus/inproc"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/engine/localengine"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// janitorEvery is how often an idle machine is looked over.
const janitorEvery = 5 * time.Minute

// server is the embedded profile: everything in one process, the harnesses aside.
type server struct {
	cfg       config.Config
	log       *slog.Logger
	lock      *flock.Flock
	listener  net.Listener
	platform  *platform
	store     *sqlstore.Store
	blobs     *dirblob.Blobs
	bus       *inproc.Bus
	forge     *localforge.Forge
	engine    *localengine.Engine
	bridge    *bridge.Bridge
	dashboard *dashboard.Dashboard
	http      *http.Server
}

// serverOptions are what the configuration does not say.
type serverOptions struct {
	ConfigPath string // for the harnesses
	Install    bool
	Say        func(line string)
}

func lockPath(cfg config.Config) string { return filepath.Join(cfg.Data, "serve.lock") }

// otherServes reports whether a server holds the data folder.
func otherServes(cfg config.Config) bool {
	lock := flock.New(lockPath(cfg))
	ok, err := lock.TryLock()
	if ok {
		lock.Unlock()
	}
	return err == nil && !ok
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
	if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return s, ccci.Errorf(ccci.CodeConflict, "the dashboard's address %s is taken by another program", cfg.Listen).WithHint("choose another with listen: in the configuration, or --listen")
		}
		return s, ccci.Errorf(ccci.CodeInvalid, "listening on %s: %w", cfg.Listen, err).WithHint("write an address of this machine and a port, as 127.0.0.1:8480")
	}
	s.cfg.Listen = s.listener.Addr().String() // with the port that was given
	if strings.HasSuffix(cfg.URL, ":0") {
		s.cfg.URL = config.URLOf(s.cfg.Listen)
	}
	names, err := checkEnrolments(cfg.Tests)
	if err != nil {
		return s, err
	}
	if err := s.openStores(ctx); err != nil {
		return s, err
	}
	if s.platform, err = openPlatform(ctx, s.cfg, log, platformOptions{Say: o.Say, Install: o.Install, Served: true}); err != nil {
		return s, err
	}
	return s, s.assemble(ctx, o, names)
}

func (s *server) openStores(ctx context.Context) (err error) {
	data := func(parts ...string) string { return filepath.Join(append([]string{s.cfg.Data}, parts...)...) }
	if s.store, err = sqlstore.Open(ctx, data("cc-ci.db")); err != nil {
		return err
	}
	if s.blobs, err = openBlobs(s.cfg); err != nil {
		return err
	}
	s.bus = &inproc.Bus{}
	s.forge, err = openForge(ctx, s.cfg, s.announce)
	return err
}

// announce says that a repository's pull requests changed. It is a hint: the next poll comes anyway.
func (s *server) announce(repo ccci.RepoRef) {
	_ = s.bus.Publish(context.Background(), ccci.TopicForge, repo.String())
}

// openForge opens the local forge, whose own account is cc-ci's and whose
// person at the keyboard is a member.
func openForge(ctx context.Context, cfg config.Config, changed func(ccci.RepoRef)) (*localforge.Forge, error) {
	forge, err := localforge.Open(ctx, localforge.Options{Dir: filepath.Join(cfg.Data, "forge"), OnComment: changed})
	if err != nil {
		return nil, err
	}
	if err := forge.AddMember(ctx, cfg.Forge.Org, cfg.Forge.User); err != nil {
		forge.Close()
		return nil, err
	}
	return forge, nil
}

// pullPages is the local forge as the dashboard's pages use it.
type pullPages struct{ *localforge.Forge }

func (p pullPages) AddComment(ctx context.Context, pr ccci.PRRef, author ccci.User, body string) (ccci.CommentID, error) {
	return p.Forge.AddComment(ctx, pr, author.Name, body)
}

func (s *server) assemble(ctx context.Context, o serverOptions, enrolled []string) (err error) {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	s.engine, err = localengine.New(localengine.Options{
		Dir: filepath.Join(s.cfg.Data, "builds"), Capacity: s.cfg.Engine.Capacity, Deadline: s.cfg.Engine.Deadline, Grace: s.cfg.Engine.Grace, Logger: s.log,
		Command: func(_ ccci.Job, dir string) (string, []string, []string) {
			args := []string{"run", "--job", filepath.Join(dir, "job.json"), "--parent", fmt.Sprint(os.Getpid())}
			if o.ConfigPath != "" {
				args = append([]string{"--config", o.ConfigPath}, args...)
			}
			return program, args, []string{"DOCKER_HOST=" + s.platform.docker.DaemonHost()}
		},
	})
	if err != nil {
		return err
	}
	var repos []bridge.Repo
	for _, r := range s.cfg.Repos {
		ref, err := ccci.ParseRepoRef(r.Repo)
		if err != nil {
			return err
		}
		repos = append(repos, bridge.Repo{Ref: ref, Recipe: r.Recipe, Org: s.cfg.Forge.Org})
	}
	s.bridge, err = bridge.New(bridge.Config{
		Forge: announcing{s.forge, s.announce}, Engine: s.engine, Store: s.store, Bus: s.bus, Locker: &inproc.Locker{}, Blobs: s.blobs,
		Repos: repos, Roles: roles(s.cfg.Roles), PollInterval: s.cfg.Forge.Poll, EditGap: time.Second, // a forge of our own need not be spared
		Deadline: s.cfg.Engine.Deadline, Capacity: s.cfg.Engine.Capacity, DashboardURL: s.cfg.URL, Logger: s.log,
	})
	if err != nil {
		return err
	}
	recipes := func() []string {
		names := append([]string{}, enrolled...)
		for _, r := range repos {
			names = append(names, r.Recipe)
		}
		return names
	}
	user, err := s.forge.User(ctx, s.cfg.Forge.User)
	if err != nil {
		return err
	}
	s.dashboard, err = dashboard.New(dashboard.Config{
		Store: s.store, Blobs: s.blobs, Engine: s.engine, Bus: s.bus, Forge: pullPages{s.forge}, User: user, Recipes: recipes,
		Capacity: s.cfg.Engine.Capacity, Version: version(), Title: s.cfg.Title, URL: s.cfg.URL, StaleAfter: s.cfg.Badge.Stale, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.http = &http.Server{Handler: s.dashboard, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.http.RegisterOnShutdown(func() { s.dashboard.Close() })
	return nil
}

// announcing is the local forge as the bridge uses it: what the bridge says is
// made known, so that open pages show it at once.
type announcing struct {
	*localforge.Forge
	said func(ccci.RepoRef)
}

func (a announcing) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	id, err := a.Forge.PostComment(ctx, pr, key, body)
	a.said(pr.Repo)
	return id, err
}

func (a announcing) EditComment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string) error {
	err := a.Forge.EditComment(ctx, pr, id, body)
	a.said(pr.Repo)
	return err
}

func (a announcing) SetStatus(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit, status ccci.CommitStatus) error {
	err := a.Forge.SetStatus(ctx, repo, commit, status)
	a.said(repo)
	return err
}

// roles turns the configuration's words into the bridge's.
func roles(r config.Roles) bridge.Roles {
	role := func(text string) bridge.Role {
		who, users, _ := config.ParseRole(text) // Read has checked it
		return bridge.Role{Who: map[string]bridge.Who{config.Anyone: bridge.Anyone, config.Member: bridge.Members, config.Listed: bridge.Listed}[who], Users: users}
	}
	return bridge.Roles{
		bridge.VerbTest: role(r.Testme), bridge.VerbRetest: role(r.Testme), bridge.VerbCancel: role(r.Cancel),
		bridge.VerbHelp: role(r.Ask), bridge.VerbStatus: role(r.Ask),
	}
}

// Run serves until ctx ends, then drains: running harnesses tear down first.
func (s *server) Run(ctx context.Context) error {
	s.reap(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving the dashboard: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return s.http.Shutdown(stop)
	})
	group.Go(func() error { return endedWith(ctx, s.engine.Run(ctx)) })
	group.Go(func() error { return endedWith(ctx, s.bridge.Run(ctx)) })
	group.Go(func() error { s.keepClean(ctx); return nil })
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
	if _, _, err := s.platform.reap(ctx); err != nil {
		s.log.Error("janitor", "error", err)
	}
}

// prune removes the artifacts of runs beyond the newest keep of each recipe. The
// rows in the history stay (U18).
func prune(ctx context.Context, store ccci.Store, blobs ccci.Blobs, keep int) error {
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
		old, err := store.FindRuns(ctx, ccci.RunFilter{Recipe: run.Recipe, Limit: keep + 50})
		if err != nil {
			return err
		}
		for _, r := range old[min(keep, len(old)):] {
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
	if s.forge != nil {
		errs = append(errs, s.forge.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.listener != nil {
		s.listener.Close() // closed already by an orderly shutdown
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}
