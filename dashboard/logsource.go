package dashboard

import (
	"context"
	"fmt"
	"io"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
)

// pageLogLimit is how many bytes of a log a page is made from. Of a longer one
// the page shows the beginning; the raw log has it all.
const pageLogLimit = 8 << 20

// growingLimit bounds how long a page reads a log that is being written: an app that writes all the time would
// keep the page's place, and the page follows the log anyway.
const growingLimit = 300 * time.Millisecond

// endedSilence is how long the log of a run that has ended may be silent before its page does without the rest.
// It has an end, for which a busy machine may take longer than [runlog.Settle].
const endedSilence = 2 * time.Second

// openLog opens a run's log at a byte offset.
func (d *Dashboard) openLog(ctx context.Context, run ccci.Run, offset int64) (io.ReadCloser, error) {
	return runlog.Open(ctx, d.cfg.Engine, d.cfg.Blobs, run, offset)
}

// writtenSoFar returns what the log holds now, at most limit bytes, and
// whether that is all there will ever be. The port's readers block at the end
// of a growing log; silence tells that it was reached.
func (d *Dashboard) writtenSoFar(ctx context.Context, run ccci.Run, limit int) (data []byte, whole bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := d.openLog(ctx, run, 0)
	if err != nil {
		return nil, false, err
	}
	silence := endedSilence
	var enough <-chan time.Time // nil: the whole log is waited for
	if !run.Status.Terminal() {
		silence = runlog.Settle
		enough = time.After(growingLimit)
	}
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	in := runlog.Pump(ctx, r)
	for {
		select {
		case c, more := <-in:
			switch {
			case !more:
				return data, true, nil
			case c.Err != nil:
				return data, false, fmt.Errorf("reading the log of run %s: %w", run.ID, c.Err)
			}
			data = append(data, c.Data...)
			if len(data) > limit {
				return data[:limit], false, nil
			}
			quiet.Reset(silence)
		case <-quiet.C:
			return data, false, nil
		case <-enough:
			return data, false, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}
