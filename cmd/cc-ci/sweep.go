package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/backup"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
	"github.com/recipe-maintainers/cc-ci/internal/sweep"
)

type sweepCmd struct {
	Recipe []string `placeholder:"NAME" help:"Only these recipes."`
	DryRun bool     `help:"Say what would be tested, and test nothing."`
	JSON   bool     `name:"json" help:"Print what became of each recipe as JSON on standard output; progress goes to standard error."`
}

func (c *sweepCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	log := io.Writer(newHumanLog(a.stdout, a.colours(a.stdout)))
	if c.JSON {
		log = newHumanLog(a.stderr, a.colours(a.stderr))
	}
	ctx, life := a.begin()
	defer life.stop()
	rows, err := c.sweep(ctx, a, cfg, log)
	if len(rows) > 0 || err == nil {
		if tellErr := c.tell(a, rows); err == nil {
			err = tellErr
		}
	}
	if err != nil {
		return orInterrupted(life, err)
	}
	return sweepEnding(rows)
}

// sweep opens what a sweep needs, and sweeps.
func (c *sweepCmd) sweep(ctx context.Context, a *app, cfg config.Config, log io.Writer) (rows []sweep.Row, err error) {
	s := &server{cfg: cfg, log: a.logger(cfg)}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	if err := s.openStores(ctx); err != nil {
		return nil, err
	}
	recipes, err := c.choose(s.sweepable(ctx, log))
	if err != nil {
		return nil, err
	}
	files, err := scratch.Make("sweep")
	if err != nil {
		return nil, err
	}
	defer files.Remove()
	o := sweep.Config{
		Recipes: recipes, Blobs: s.blobs, Store: s.store, WorkDir: files.Path, DryRun: c.DryRun, Git: gitLimits(cfg.Git), Deadline: cfg.Engine.Deadline,
		Turn:  func(ctx context.Context) error { return s.turn(ctx, log) },
		Prune: func(recipe string, keep ...ccci.RunID) error { return backup.Prune(keptDir(cfg), recipe, keep...) },
		Log:   log, Now: time.Now, Rand: rand.Reader,
	}
	if c.DryRun || len(recipes) == 0 {
		return sweep.Run(ctx, o)
	}
	lock := flock.New(filepath.Join(cfg.Data, "sweep.lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "locking the data folder %s for a sweep: %w", cfg.Data, err)
	} else if !ok {
		return nil, ccci.Errorf(ccci.CodeConflict, "another sweep of %s is under way", cfg.Data).WithHint("wait for its end")
	}
	defer lock.Unlock()
	if s.platform, err = openPlatform(ctx, cfg, s.log, platformOptions{Say: func(line string) { fmt.Fprintln(log, line) }}); err != nil {
		return nil, err
	}
	configPath, err := a.absoluteConfig()
	if err != nil {
		return nil, err
	}
	// The server's queue is the server's; this one is of the sweep alone.
	if s.engine, err = s.openEngine(serverOptions{ConfigPath: configPath, Builds: "sweep"}); err != nil {
		return nil, err
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives ctx: what runs is to be torn down
	ended := make(chan error, 1)
	go func() { ended <- s.engine.Run(working) }()
	defer func() {
		stop()
		err = errors.Join(err, endedWith(working, <-ended))
	}()
	o.Engine = s.engine
	return sweep.Run(ctx, o)
}

// choose keeps the recipes that were named.
func (c *sweepCmd) choose(all []sweep.Recipe) ([]sweep.Recipe, error) {
	if len(c.Recipe) == 0 {
		return all, nil
	}
	var chosen []sweep.Recipe
	for _, name := range c.Recipe {
		i := slices.IndexFunc(all, func(r sweep.Recipe) bool { return r.Name == name })
		if i < 0 {
			var names []string
			for _, r := range all {
				names = append(names, r.Name)
			}
			err := ccci.Errorf(ccci.CodeNotFound, "no repository is enrolled with the recipe %q", name)
			if len(names) == 0 {
				return nil, err.WithHint("nothing is enrolled at all; cc-ci enrol OWNER/NAME says how")
			}
			return nil, err.WithHint("enrolled are %s", strings.Join(names, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// sweepable lists what is enrolled, as the bridge watches it. Trouble with a forge or
// a repository is in the list: it must not look like less work.
func (s *server) sweepable(ctx context.Context, log io.Writer) []sweep.Recipe {
	var all []sweep.Recipe
	add := func(f adapter, recipe string, ref ccci.RepoRef) {
		if i := slices.IndexFunc(all, func(r sweep.Recipe) bool { return r.Name == recipe }); i >= 0 {
			if all[i].Repo != ref {
				fmt.Fprintf(log, "%s is enrolled with %s and with %s: only the first is swept\n", recipe, all[i].Repo, ref)
			}
			return
		}
		all = append(all, lookAt(ctx, f, recipe, ref))
	}
	// Who has the name of a recipe is known once every forge has told what it finds.
	found := map[string][]ccci.RepoRef{}
	for _, f := range s.forges {
		if f.find == nil {
			continue
		}
		refs, err := f.find.Discover(ctx)
		if err != nil {
			all = append(all, sweep.Recipe{Name: f.entry.Name, Err: fmt.Errorf("looking for repositories on %s: %w", f.entry.Name, err)})
		}
		found[f.entry.Name] = refs
	}
	for _, f := range s.forges {
		for _, r := range f.entry.Repos {
			ref, err := ccci.ParseRepoRef(r.Repo)
			if err != nil {
				all = append(all, sweep.Recipe{Name: r.Recipe, Err: err})
				continue
			}
			add(f, r.Recipe, ref)
		}
		adopt := s.adopt(f.entry)
		for _, ref := range found[f.entry.Name] {
			if repo := adopt(ref); repo.Recipe != "" {
				add(f, repo.Recipe, ref)
			}
		}
	}
	return all
}

// lookAt asks a forge where a repository is.
func lookAt(ctx context.Context, f adapter, recipe string, ref ccci.RepoRef) sweep.Recipe {
	out := sweep.Recipe{Name: recipe, Repo: ref}
	reader, can := f.forge.(ccci.RepositoryReader)
	if !can {
		out.Err = ccci.Errorf(ccci.CodeInvalid, "%s does not tell where its repositories are", f.entry.Name)
		return out
	}
	repository, err := reader.Repository(ctx, ref)
	if errors.Is(err, ccci.ErrNotFound) {
		err = ccci.Errorf(ccci.CodeNotFound, "%s has no repository %s, or cc-ci's account may not see it", f.entry.Name, ref).WithHint("%s", seeHint(f.entry, ref))
	}
	out.Branch, out.CloneURL, out.Err = repository.Branch, repository.CloneURL, err
	return out
}

// How long the sweep steps back for people's runs, and how often it looks.
const (
	turnPatience = 2 * time.Hour
	turnEvery    = 5 * time.Second
)

// turn waits until nobody's run is unfinished here, so that the sweep takes no
// memory from what people wait for. Drone has one queue for all and needs none.
func (s *server) turn(ctx context.Context, log io.Writer) error {
	if s.cfg.Engine.Kind == config.KindDrone {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, turnPatience, ccci.Errorf(ccci.CodeInfra, "other runs have not ended within %s", turnPatience))
	defer cancel()
	for said := false; otherServes(s.cfg); said = true {
		runs, err := s.store.FindRuns(ctx, ccci.RunFilter{Unfinished: true, Limit: 1000})
		if err != nil {
			return fmt.Errorf("looking whether other runs have ended: %w", err)
		}
		runs = slices.DeleteFunc(runs, func(r ccci.Run) bool { return r.Trigger == ccci.TriggerSweep })
		if len(runs) == 0 {
			return nil
		}
		if !said {
			fmt.Fprintf(log, "waiting for the end of other runs: %d\n", len(runs))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(turnEvery):
		}
	}
	return nil
}

// tell prints what became of each recipe; trouble goes to standard error besides.
func (c *sweepCmd) tell(a *app, rows []sweep.Row) error {
	idle := true
	for _, r := range rows {
		idle = idle && r.Newer == "" && r.Code == ""
		switch {
		case r.Code != "":
			fmt.Fprintf(a.stderr, "cc-ci: %s: %s\n", r.Recipe, plain.Text(r.Message))
			if r.Hint != "" {
				fmt.Fprintf(a.stderr, "hint: %s\n", plain.Text(r.Hint))
			}
		case !c.JSON:
			fmt.Fprintf(a.stdout, "%s: %s\n", r.Recipe, plain.Text(r.Message))
		}
	}
	if c.JSON {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(append([]sweep.Row{}, rows...)); err != nil {
			return fmt.Errorf("printing the rows: %w", err)
		}
	} else if idle {
		fmt.Fprintln(a.stdout, "nothing to do")
	}
	return nil
}

// sweepEnding maps rows to the exit code: the work that was not done weighs more than
// the recipes that failed.
func sweepEnding(rows []sweep.Row) error {
	weight := map[int]int{exitFailed: 1, exitRefused: 2, exitInconclusive: 3, exitFlaky: 3, exitUsage: 4, exitInfra: 5}
	code := exitPassed
	for _, r := range rows {
		next := exitPassed
		switch {
		case r.Code == ccci.CodeInvalid || r.Code == ccci.CodeNotFound || r.Code == ccci.CodeConflict:
			next = exitUsage
		case r.Code == ccci.CodeRefused:
			next = exitRefused
		case r.Status == ccci.StatusInconclusive:
			next = exitInconclusive
		case r.Status == ccci.StatusFlaky:
			next = exitFlaky
		case r.Status == ccci.StatusRefused:
			next = exitRefused
		case r.Code != "":
			next = exitInfra
		case r.Status == ccci.StatusFailed:
			next = exitFailed
		}
		if weight[next] > weight[code] {
			code = next
		}
	}
	if code == exitPassed {
		return nil
	}
	return codeError(code)
}
