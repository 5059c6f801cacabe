// Package sweep tests what of the enrolled recipes is newer than their canonicals,
// without anybody asking, and makes canonicals of what comes out green (U20).
//
// Each test is an ordinary run of the engine's and is in the store like all others.
// A canonical is written here and nowhere else; a run that is not green leaves the
// former one as it is.
package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// Recipe is one that is enrolled, and where it is.
type Recipe struct {
	Name     string
	Repo     ccci.RepoRef
	Branch   string // the default one
	CloneURL string
	Err      error // why nothing is known of the repository; nil when it is
}

// Config is what a sweep is made of. Recipes, Blobs, WorkDir and, unless it is DryRun,
// Engine, Store and Rand are needed.
type Config struct {
	Recipes []Recipe
	Blobs   ccci.Blobs
	WorkDir string        // for clones; exists, and is empty
	DryRun  bool          // only say what would be tested
	Git     gitcmd.Limits // of what is fetched; fields that are 0 have their defaults

	Engine   ccci.Engine
	Store    ccci.Store
	Deadline time.Duration // of one run
	// Turn waits until the next run may start; nil: at once.
	Turn func(context.Context) error
	// Prune removes the data that runs of a recipe kept, except those of keep; nil: nobody does.
	Prune func(recipe string, keep ...ccci.RunID) error

	Log  io.Writer // what happens, and the logs of the runs; nil: nowhere
	Now  func() time.Time
	Rand io.Reader
	// Pause is the time between two questions to an engine whose log ended early; default 1 s.
	Pause time.Duration
}

// Row is what became of one recipe, or of one version of it.
type Row struct {
	Recipe     string `json:"recipe"`
	Repository string `json:"repository"`
	// Canonical is the name of the canonical when all was done; "" when there is none.
	Canonical string      `json:"canonical"`
	Newer     string      `json:"newer,omitempty"` // what is newer than the canonical was; "" when nothing is
	Commit    ccci.Commit `json:"commit,omitempty"`

	Run      ccci.RunID  `json:"run,omitempty"`
	Status   ccci.Status `json:"status,omitempty"` // "" when nothing ran
	Level    int         `json:"level"`
	Promoted bool        `json:"promoted"`
	Message  string      `json:"message"`        // one sentence
	Code     ccci.Code   `json:"code,omitempty"` // whose fault it is that the work was not done
	Hint     string      `json:"hint,omitempty"` // the way out then
}

// Run sweeps all recipes, one run after the other, and goes on after trouble with
// one: it is in that recipe's row. Nothing to look at is an Error with CodeInvalid
// (U23). When ctx ends, the run under way is cancelled and has torn down before Run
// returns what is known and ctx's cause.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if len(c.Recipes) == 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "nothing is enrolled, so there is nothing to sweep").
			WithHint("name repositories in the configuration; cc-ci enrol OWNER/NAME says how")
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.Pause <= 0 {
		c.Pause = time.Second
	}
	if !c.DryRun {
		if err := c.forget(ctx); err != nil {
			return nil, err
		}
	}
	var rows []Row
	for _, recipe := range c.Recipes {
		if ctx.Err() != nil {
			return rows, context.Cause(ctx)
		}
		rows = append(rows, c.recipe(ctx, recipe)...)
	}
	if ctx.Err() != nil {
		return rows, context.Cause(ctx)
	}
	return rows, nil
}

// keyPrefix begins the keys of the sweep's runs in the store.
const keyPrefix = "sweep/"

// forget ends what a sweep that was killed left unfinished: nobody follows it any more.
func (c *Config) forget(ctx context.Context) error {
	runs, err := c.Store.FindRuns(ctx, ccci.RunFilter{Unfinished: true, Limit: 10_000})
	if err != nil {
		return fmt.Errorf("looking for what an earlier sweep left: %w", err)
	}
	for _, run := range runs {
		if !strings.HasPrefix(run.Key, keyPrefix) {
			continue
		}
		if run.Build != "" {
			if err := c.Engine.Cancel(ctx, run.Build); err != nil {
				return fmt.Errorf("ending run %s of an earlier sweep: %w", run.ID, err)
			}
		}
		run.Status, run.Cause, run.Finished = ccci.StatusErrored, "the sweep that it was part of was killed", c.Now()
		if err := c.Store.UpdateRun(ctx, run); err != nil {
			return fmt.Errorf("ending run %s of an earlier sweep: %w", run.ID, err)
		}
	}
	return nil
}

// recipe sweeps one recipe.
func (c *Config) recipe(ctx context.Context, recipe Recipe) []Row {
	row := Row{Recipe: recipe.Name, Repository: recipe.Repo.String()}
	trouble := func(err error) []Row {
		row.Code, row.Message, row.Hint = ccci.CodeOf(err), err.Error(), ccci.HintOf(err)
		return []Row{row}
	}
	former, err := c.canonical(ctx, recipe.Name)
	if err != nil {
		return trouble(err)
	}
	if former != nil {
		row.Canonical = former.Name()
	}
	if recipe.Err != nil {
		return trouble(recipe.Err)
	}
	targets, err := c.look(ctx, recipe, former)
	if err != nil {
		return trouble(err)
	}
	if len(targets) == 0 {
		row.Message = "nothing is newer than the canonical " + row.Canonical
		return []Row{row}
	}
	var keep []ccci.RunID
	if former != nil {
		keep = append(keep, former.Run) // a quick run may stand on it just now
	}
	var rows []Row
	for _, target := range targets {
		row.Newer, row.Commit = target.name(), target.commit
		if c.DryRun {
			row.Message = row.Newer + " would be tested"
			rows = append(rows, row)
			continue
		}
		done := c.test(ctx, recipe, target, row)
		if done.Promoted {
			keep, row.Canonical = append(keep, done.Run), target.name()
		}
		rows = append(rows, done)
		if ctx.Err() != nil {
			return rows
		}
	}
	if c.Prune != nil && !c.DryRun {
		if err := c.Prune(recipe.Name, keep...); err != nil {
			fmt.Fprintf(c.Log, "%s: %v\n", recipe.Name, err)
		}
	}
	return rows
}

// canonical reads a recipe's canonical; nil when there is none, or none that can be
// used, so that the sweep makes another.
func (c *Config) canonical(ctx context.Context, recipe string) (*ccci.Canonical, error) {
	former, err := ccci.ReadCanonical(ctx, c.Blobs, recipe)
	switch {
	case errors.Is(err, ccci.ErrNotFound):
		return nil, nil
	case ccci.CodeOf(err) == ccci.CodeInvalid && err != nil:
		fmt.Fprintf(c.Log, "%v\n", err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &former, nil
}

// promote writes the canonical that a run makes, or says why it makes none.
func (c *Config) promote(ctx context.Context, result *ccci.Result, t target) (reason string, err error) {
	canonical, reason := ccci.Promote(result, t.release, t.branch, c.Now())
	if reason != "" {
		return reason, nil
	}
	text, err := json.MarshalIndent(canonical, "", "  ")
	if err != nil {
		return "", err
	}
	if _, err := c.Blobs.Put(ctx, ccci.CanonicalKey(canonical.Recipe), bytes.NewReader(text)); err != nil {
		return "", fmt.Errorf("writing the canonical: %w", err)
	}
	return "", nil
}
