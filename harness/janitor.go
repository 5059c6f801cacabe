package harness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Reaper is what the janitor needs of a deployer.
type Reaper interface {
	// Apps lists every app on the daemon that a run made, whether it lives or not.
	// Objects without a stack make an app with an empty StackName.
	Apps(ctx context.Context) ([]App, error)
	Remove(ctx context.Context, app App) (map[string]int, error)
}

// Unrouter forgets the routes of a stack.
type Unrouter interface {
	Unroute(ctx context.Context, stackName string) error
}

// Reaped is what the janitor did about one run.
type Reaped struct {
	RunID   ccci.RunID
	Removed map[string]int // by kind
	Held    bool           // the run lives: nothing was touched
}

// Reap removes what dead runs left on the daemon (A20). A run whose lock is
// held lives and is never touched (U11); one whose lock the janitor gets is
// dead, and is removed while the janitor holds the lock. It goes on after an
// error and returns all of them.
func Reap(ctx context.Context, lockDir string, reaper Reaper, routes Unrouter, log *slog.Logger) ([]Reaped, error) {
	apps, err := reaper.Apps(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing what runs left behind: %w", err)
	}
	byRun := map[ccci.RunID][]App{}
	for _, app := range apps {
		byRun[app.RunID] = append(byRun[app.RunID], app)
	}
	var done []Reaped
	var errs []error
	for _, run := range slices.Sorted(maps.Keys(byRun)) {
		r, err := reapRun(ctx, lockDir, run, byRun[run], reaper, routes)
		if err != nil {
			errs = append(errs, fmt.Errorf("removing what run %s left: %w", run, err))
			continue
		}
		done = append(done, r)
		if !r.Held {
			log.Info("janitor removed what a dead run left", "run", run, "removed", r.Removed)
		}
	}
	return done, errors.Join(errs...)
}

func reapRun(ctx context.Context, lockDir string, run ccci.RunID, apps []App, reaper Reaper, routes Unrouter) (Reaped, error) {
	lock, free, err := TryLockRun(lockDir, run)
	if err != nil || !free {
		return Reaped{RunID: run, Held: !free}, err
	}
	defer lock.Release()
	r := Reaped{RunID: run, Removed: map[string]int{}}
	for _, app := range apps {
		if app.StackName != "" {
			if err := routes.Unroute(ctx, app.StackName); err != nil {
				return r, err
			}
		}
		removed, err := reaper.Remove(ctx, app)
		for kind, n := range removed {
			r.Removed[kind] += n
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}
