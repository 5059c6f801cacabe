package main

import (
	"context"
	"fmt"
	"io"

	"github.com/recipe-maintainers/cc-ci/internal/box"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/ingress"
)

type serveCmd struct {
	Listen string `placeholder:"ADDRESS" help:"Address of the dashboard, in place of the configuration's."`
}

func (c *serveCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := cfg.Needs(config.Together, "cc-ci serve"); err != nil {
		return err
	}
	cfg.ListenOn(c.Listen)
	return serve(a, cfg, serverOptions{})
}

type janitorCmd struct{}

func (janitorCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	ctx, life := a.begin()
	defer life.stop()
	p, err := openPlatform(ctx, cfg, a.logger(cfg), platformOptions{Say: func(line string) { fmt.Fprintln(a.stdout, line) }})
	if err != nil {
		return orInterrupted(life, err)
	}
	defer p.Close(context.WithoutCancel(ctx))
	reaped, folders, err := p.reap(ctx)
	for _, r := range reaped {
		if r.Held {
			fmt.Fprintf(a.stdout, "run %s lives: left alone\n", r.RunID)
			continue
		}
		fmt.Fprintf(a.stdout, "run %s is dead: removed %v\n", r.RunID, r.Removed)
	}
	for _, path := range folders {
		fmt.Fprintf(a.stdout, "removed %s, which a killed process left\n", path)
	}
	if len(reaped) == 0 && len(folders) == 0 && err == nil {
		fmt.Fprintln(a.stdout, "nothing to do")
	}
	return err
}

// contained runs what containers of the helper image are started with. These
// commands are not for people, and their flags are not kong's.
func contained(args []string, stderr io.Writer) (code int, ours bool) {
	if len(args) < 2 {
		return 0, false
	}
	work, ours := map[string]func(context.Context, []string) error{
		"ingress serve": ingress.Serve,
		"box measure":   box.Measure,
		"box guard":     box.Guard,
		"box hold":      box.Hold,
		"box dial":      box.Dial,
		"box own":       box.Own,
		"box clear":     box.Clear,
		"box get":       box.Get,
		"box put":       box.Put,
		"box empty":     box.Empty,
	}[args[0]+" "+args[1]]
	if !ours {
		return 0, false
	}
	ctx, life := begin(context.Background(), stderr, neverOrphaned)
	defer life.stop()
	return exitCode(work(ctx, args[2:]), stderr), true
}
