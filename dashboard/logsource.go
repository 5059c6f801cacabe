package dashboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// pageLogLimit is how many bytes of a log a page is made from. Of a longer one
// the page shows the beginning; the raw log has it all.
const pageLogLimit = 8 << 20

// keptLogs are the names under which a log may have been kept among a run's
// artifacts, for when the engine no longer has it.
var keptLogs = []string{"log.txt", "run.log"}

// openLog opens a run's log at a byte offset. Where the run has not ended, Read
// blocks for more.
func (d *Dashboard) openLog(ctx context.Context, run ccci.Run, offset int64) (io.ReadCloser, error) {
	if d.cfg.Engine != nil && run.Build != "" {
		r, err := d.cfg.Engine.Logs(ctx, run.Build, offset)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, ccci.ErrNotFound) {
			return nil, fmt.Errorf("opening the log of run %s: %w", run.ID, err)
		}
	}
	for _, name := range keptLogs {
		r, info, err := d.cfg.Blobs.Open(ctx, ccci.ArtifactKey(run.ID, name))
		if errors.Is(err, ccci.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("opening the kept log of run %s: %w", run.ID, err)
		}
		if _, err := r.Seek(min(offset, info.Size), io.SeekStart); err != nil {
			return nil, errors.Join(fmt.Errorf("reading the kept log of run %s: %w", run.ID, err), r.Close())
		}
		return r, nil
	}
	return nil, ccci.ErrNotFound
}

// chunks reads r in the background and hands on what it read. The channel is
// closed after the last chunk; its Err is nil only at the end of the log.
type chunk struct {
	data []byte
	err  error
}

// pump reads until r ends or ctx is done, then closes r.
func pump(ctx context.Context, r io.ReadCloser) <-chan chunk {
	out := make(chan chunk)
	go func() {
		defer close(out)
		defer r.Close()
		buf := make([]byte, 16<<10)
		for {
			n, err := r.Read(buf)
			c := chunk{data: bytes.Clone(buf[:n])}
			if err != nil && !errors.Is(err, io.EOF) {
				c.err = err
			}
			select {
			case out <- c:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// settle is how long a log must be silent to count as read for now.
const settle = 80 * time.Millisecond

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
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	in := pump(ctx, r)
	for {
		select {
		case c, more := <-in:
			switch {
			case !more:
				return data, true, nil
			case c.err != nil:
				return data, false, fmt.Errorf("reading the log of run %s: %w", run.ID, c.err)
			}
			data = append(data, c.data...)
			if len(data) > limit {
				return data[:limit], false, nil
			}
			quiet.Reset(settle)
		case <-quiet.C:
			return data, false, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}
