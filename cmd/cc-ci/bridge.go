package main

import (
	"context"
	"fmt"

	"github.com/recipe-maintainers/cc-ci/internal/config"
)

type bridgeCmd struct{}

func (bridgeCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := cfg.Needs(config.Apart, "cc-ci bridge"); err != nil {
		return err
	}
	return serve(a, cfg, true)
}

// serve serves until a signal ends it; apart without the dashboard.
func serve(a *app, cfg config.Config, apart bool) error {
	configPath, err := a.absoluteConfig()
	if err != nil {
		return err
	}
	ctx, life := begin(a.ctx, a.stderr, neverOrphaned)
	defer life.stop()
	say := func(line string) { fmt.Fprintln(a.stdout, line) }
	s, err := newServer(ctx, cfg, a.logger(cfg), serverOptions{ConfigPath: configPath, Apart: apart, Say: say})
	if err != nil {
		return orInterrupted(life, err)
	}
	defer s.Close(context.WithoutCancel(ctx))
	what := s.cfg.URL
	if apart {
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
