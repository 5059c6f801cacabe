package localengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// look is how often a follower in another process asks whether a build is done.
const look = 500 * time.Millisecond

// Logs reads the logs of an engine that is another process. It writes nothing.
type Logs struct {
	dir    string
	notify *notifier
}

// OpenLogs opens the logs in an engine's directory, which need not be there yet.
// The caller closes it.
func OpenLogs(dir string) (*Logs, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the builds in %s: %w", dir, err)
	}
	n, err := newNotifier()
	if err != nil {
		return nil, err
	}
	return &Logs{dir: abs, notify: n}, nil
}

// Close ends every reader.
func (l *Logs) Close() error { return l.notify.close() }

// Logs is [ccci.Engine]'s.
func (l *Logs) Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (io.ReadCloser, error) {
	if !validID.MatchString(string(ref)) {
		return nil, unknown(ref)
	}
	if offset < 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "reading the log of %s: the offset %d is negative", ref, offset)
	}
	dir := filepath.Join(l.dir, string(ref))
	over, err := isDone(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknown(ref)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the build %s: %w", ref, err)
	}
	done := make(chan struct{})
	r, err := l.notify.openLog(ctx, dir, offset, done)
	if err != nil {
		return nil, err
	}
	if over {
		close(done)
		return r, nil
	}
	go func() {
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			case <-r.closed:
				return
			case <-l.notify.ended:
				return
			}
			// A build that was forgotten gets no more lines either.
			if over, err := isDone(dir); over || errors.Is(err, fs.ErrNotExist) {
				close(done)
				return
			}
		}
	}()
	return r, nil
}

func isDone(dir string) (bool, error) {
	b, err := loadBuild(dir)
	if err != nil {
		return false, err
	}
	return b.state.State == ccci.BuildDone, nil
}
