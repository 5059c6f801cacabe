package drone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	maxPage   = 100 // the most that Drone gives at once
	fewBuilds = 20  // what is asked for again and again
)

// find returns the number of the first build of an attempt at a run, or 0. Run ids begin with
// their time, so builds from well before it need not be looked at.
func (e *Engine) find(ctx context.Context, job ccci.Job) (number int64, err error) {
	run, attempt := job.RunID, max(job.Attempt, 1)
	notBefore := runTime(run).Add(-24 * time.Hour)
	err = e.pages(ctx, e.pageSize, fmt.Sprintf("looking for the build of %s", run), func(builds []*drone.Build) (more bool) {
		for _, b := range builds {
			if b.Params[runParam] == string(run) && attemptOf(b.Params) == attempt && (number == 0 || b.Number < number) {
				number = b.Number
			}
			more = time.Unix(b.Created, 0).After(notBefore)
		}
		return more
	})
	if err != nil {
		return 0, err
	}
	if number != 0 {
		e.mu.Lock()
		e.trackOf(number, run)
		e.mu.Unlock()
	}
	return number, nil
}

// pages hands out the builds, newest first, until see has had enough. A build
// that arrives meanwhile shifts the pages, so that some are seen twice and none is missed.
func (e *Engine) pages(ctx context.Context, size int, doing string, see func([]*drone.Build) bool) error {
	for page := 1; ; page++ {
		var builds []*drone.Build
		err := e.call(ctx, doing, func(c drone.Client) (err error) {
			builds, err = c.BuildList(e.opts.Repo.Owner, e.opts.Repo.Name, drone.ListOptions{Page: page, Size: size})
			return err
		})
		if err != nil {
			return err
		}
		if len(builds) == 0 || !see(builds) {
			return nil
		}
	}
}

// runTime is the time in a run id, or the zero time where there is none.
func runTime(run ccci.RunID) time.Time {
	const layout = "060102-150405"
	if len(run) < len(layout) {
		return time.Time{}
	}
	t, err := time.Parse(layout, string(run[:len(layout)]))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Builds returns the unfinished builds: first the running ones, then the queue
// in its order.
func (e *Engine) Builds(ctx context.Context) ([]ccci.Build, error) {
	found, err := e.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	var out []ccci.Build
	for _, b := range found {
		judged, err := e.judge(ctx, b)
		if err != nil {
			return nil, err
		}
		if judged.State != ccci.BuildDone {
			out = append(out, judged)
		}
	}
	slices.SortStableFunc(out, func(a, b ccci.Build) int {
		if a.State != b.State {
			if a.State == ccci.BuildRunning {
				return -1
			}
			return 1
		}
		return 0
	})
	return out, nil
}

// unfinished lists, oldest first, the builds of runs that Drone has not ended.
// They are among the newest: the search ends with the first page that has none.
// One that others overtook since is known to this process.
func (e *Engine) unfinished(ctx context.Context) ([]*drone.Build, error) {
	byNumber := map[int64]*drone.Build{}
	err := e.pages(ctx, fewBuilds, "listing unfinished builds", func(builds []*drone.Build) (more bool) {
		for _, b := range builds {
			if !over(b.Status) {
				more = true
				if b.Params[runParam] != "" {
					byNumber[b.Number] = b
				}
			}
		}
		return more
	})
	if err != nil {
		return nil, err
	}
	for _, number := range e.unsettled() {
		if byNumber[number] != nil {
			continue
		}
		b, err := e.build(ctx, refOf(number))
		switch {
		case errors.Is(err, ccci.ErrNotFound):
			e.forget(number)
		case err != nil:
			return nil, err
		case over(b.Status):
			if err := e.outlived(ctx, b); err != nil {
				return nil, err
			}
		default:
			byNumber[number] = b
		}
	}
	var out []*drone.Build
	for _, b := range byNumber {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *drone.Build) int { return int(a.Number - b.Number) })
	return out, nil
}

// unsettled returns the builds of which this process knows and not that they are done.
func (e *Engine) unsettled() (numbers []int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for number, t := range e.tracks {
		if !t.settled {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

func (e *Engine) forget(number int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tracks, number)
}
