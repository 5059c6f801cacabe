package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/health"
)

// endpoint is a server and what it listens on.
type endpoint struct {
	*http.Server
	on   net.Listener
	what string
}

// routes says what is served where: /hook, /healthz and /metrics beside the
// dashboard, or at an address of their own.
func (s *server) routes() error {
	proxies, err := config.ParseProxies(s.cfg.Dashboard.Proxies, attachedNetworks)
	if err != nil {
		return err
	}
	hooks, err := hook.New(hook.Options{
		Sources: s.hookSources(), Observe: s.metrics.Hook, Logger: s.log, Proxies: proxies,
		Publish: func(ctx context.Context, forge string, repo ccci.RepoRef) error {
			return s.bus.Publish(ctx, ccci.TopicForge, ccci.ForgeHint(forge, repo))
		},
	})
	if err != nil {
		return err
	}
	ops := http.NewServeMux()
	ops.Handle(hook.Path, hooks)
	ops.Handle("GET /metrics", s.metrics.Handler())
	ops.Handle("GET /healthz", health.Handler(func() map[string]any { return map[string]any{"forges": s.bridges.Health()} }, s.probeStore, s.probeBridges, s.probeMachine))
	if s.ops != nil {
		s.http = append(s.http, endpoint{newHTTP(ops, s.log), s.ops, "webhooks and figures"})
	}
	if s.dashboard == nil {
		return nil
	}
	pages := http.Handler(s.dashboard)
	if s.ops == nil {
		ops.Handle("/", s.dashboard)
		pages = ops
	}
	s.http = append(s.http, pagesEndpoint(s.dashboard, pages, s.listener, s.log))
	return nil
}

// pagesEndpoint serves h, whose pages are d's.
func pagesEndpoint(d *dashboard.Dashboard, h http.Handler, on net.Listener, log *slog.Logger) endpoint {
	server := newHTTP(h, log)
	server.RegisterOnShutdown(func() { d.Close() })
	return endpoint{server, on, "the dashboard"}
}

// run serves until ctx ends, and lets requests that were begun end.
func (e endpoint) run(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error {
		if err := e.Serve(e.on); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving %s: %w", e.what, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return e.Shutdown(stop)
	})
}

// newHTTP gives every answer half a minute; the dashboard, whose answers may last, renews
// that as long as its reader takes something.
func newHTTP(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10,
		ConnContext: dashboard.ConnContext, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

func (s *server) probeStore(ctx context.Context) []health.Reason {
	if _, err := s.store.FindRuns(ctx, ccci.RunFilter{Limit: 1}); err != nil {
		return []health.Reason{{Part: "store", Problem: err.Error(), Fatal: true}}
	}
	return nil
}

// probeMachine says why no run starts. Queued runs wait for it, so it is not fatal.
func (s *server) probeMachine(context.Context) []health.Reason {
	if why := s.needs().Short(); why != "" {
		return []health.Reason{{Part: "machine", Problem: "no run starts: " + why}}
	}
	return nil
}

// hangs is for how long a bridge may not look round before it is said to hang.
const hangs = 5 * time.Minute

func (s *server) probeBridges(context.Context) []health.Reason {
	var reasons []health.Reason
	for _, h := range s.bridges.Health() {
		reasons = append(reasons, bridgeReasons(h, time.Now())...)
	}
	return reasons
}

// bridgeReasons says what is not well with a bridge. A forge that is away is
// waited for; only a bridge that does nothing any more is fatal.
func bridgeReasons(h bridge.Health, now time.Time) []health.Reason {
	var reasons []health.Reason
	add := func(fatal bool, format string, args ...any) {
		reasons = append(reasons, health.Reason{Part: h.Forge, Problem: fmt.Sprintf(format, args...), Fatal: fatal})
	}
	if !h.Working {
		add(false, "another cc-ci has the lease for this forge, or none has it yet")
	} else if now.Sub(h.Turned) > hangs {
		add(true, "the bridge has done nothing since %s", h.Turned.Format(time.RFC3339))
	}
	if !h.Reachable {
		add(false, "the forge cannot be reached since %s: %s", h.Since.Format(time.RFC3339), h.Error)
	}
	for _, ref := range h.Missing {
		add(false, "%s is not there, or cc-ci's account may not see it", ref)
	}
	if age := now.Sub(h.Oldest); !h.Oldest.IsZero() && age > 10*time.Minute {
		add(false, "%d messages wait to be delivered, the oldest for %s", h.Waiting, age.Round(time.Minute))
	}
	return reasons
}
