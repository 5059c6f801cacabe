package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/doctor"
)

type bridgeCmd struct {
	Locks   string   `placeholder:"DIR" help:"Folder with the locks of this machine's runs, for a bridge in a container, which has no Docker; engine.kind must be drone."`
	Proxies []string `placeholder:"NETWORK" help:"Peers whose X-Forwarded-For is believed, in place of the configuration's dashboard.proxies."`
}

func (c *bridgeCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := cfg.Needs(config.Apart, "cc-ci bridge"); err != nil {
		return err
	}
	if c.Locks != "" && cfg.Engine.Kind != config.KindDrone {
		return ccci.Errorf(ccci.CodeInvalid, "--locks is for a bridge whose runs are elsewhere, and engine.kind is %s", cfg.Engine.Kind).
			WithHint("leave --locks out, or write engine: {kind: drone, …}")
	}
	if len(c.Proxies) > 0 {
		cfg.Dashboard.Proxies = c.Proxies
	}
	return serve(a, cfg, serverOptions{Apart: true, Locks: c.Locks})
}

// serve serves until a signal ends it.
func serve(a *app, cfg config.Config, o serverOptions) (err error) {
	if o.ConfigPath, err = a.absoluteConfig(); err != nil {
		return err
	}
	ctx, life := a.beginServer(neverOrphaned)
	defer life.stop()
	say := func(line string) { fmt.Fprintln(a.stdout, line) }
	o.Say = say
	s, err := newServer(ctx, cfg, a.logger(cfg), o)
	if err != nil {
		return orInterrupted(life, err)
	}
	defer s.Close(context.WithoutCancel(ctx))
	warnOfVersions(ctx, s.platform, s.log)
	what := s.cfg.URL
	if o.Apart {
		what = "the bridge; its dashboard is expected at " + s.cfg.URL
	}
	say("serving " + what + " (data in " + s.cfg.Data + "); Ctrl-C ends it")
	if s.cfg.Bridge.Listen != "" {
		say("/hook, /healthz and /metrics are at " + config.URLOf(s.cfg.Bridge.Listen))
	}
	err = s.Run(ctx)
	say("ended; nothing of it runs any more")
	return orInterrupted(life, err)
}

// warnOfVersions logs what the doctor says of the versions of Docker and runc, where this process has a Docker. It
// ends nothing, and no run is judged by it.
func warnOfVersions(ctx context.Context, p *platform, log *slog.Logger) {
	if p.docker == nil {
		return
	}
	version, err := p.docker.ServerVersion(ctx)
	if err != nil {
		log.WarnContext(ctx, "asking Docker for its version", "error", err)
		return
	}
	for _, d := range doctor.Versions(version, p.daemon.DefaultRuntime) {
		if d.Code != "" {
			log.WarnContext(ctx, d.Message, "check", d.Check, "hint", d.Hint)
		}
	}
}

// onlyLocks is the platform of a bridge that has no Docker: it sees which runs live,
// and makes, reaps and ends none. The machine's janitor is a process of its own.
func onlyLocks(cfg config.Config, log *slog.Logger, dir string) *platform {
	return &platform{cfg: cfg, log: log, lockDir: dir}
}

// endRun ends a run on this machine. In a container its process has another number, which may
// be somebody else's; there it ends by itself, when Drone has ended the build or at its deadline.
func (p *platform) endRun(run ccci.RunID, kill bool) error {
	if p.docker == nil && os.Getpid() == 1 {
		return errors.New("a bridge in a container cannot end a process of the host")
	}
	return harness.EndRun(p.slotDir(), run, kill)
}
