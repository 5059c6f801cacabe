// Package runlog reads the log of a run: from the engine while it has it, else from the run's
// artifacts.
package runlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Source has the logs of builds.
type Source interface {
	// Logs is [ccci.Engine]'s.
	Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (io.ReadCloser, error)
}

// keptLogs are the names under which a log may have been kept among a run's
// artifacts, for when the engine no longer has it.
var keptLogs = []string{"log.txt", "run.log"}

// Open opens a run's log at a byte offset, or returns ErrNotFound. Where the run has not ended, Read
// blocks for more. The log of a run that was repeated is those of all its attempts, one after the
// other, each after the first with [AttemptLine] before it. engine may be nil.
func Open(ctx context.Context, engine Source, blobs ccci.BlobOpener, run ccci.Run, offset int64) (io.ReadCloser, error) {
	if engine == nil || len(run.Earlier) == 0 {
		return openLast(ctx, engine, blobs, run, offset)
	}
	all := &attempts{skip: offset}
	for i, ref := range run.Earlier {
		if err := all.add(i+1, func() (io.ReadCloser, error) { return engine.Logs(ctx, ref, 0) }); err != nil {
			return nil, fmt.Errorf("opening the log of attempt %d of run %s: %w", i+1, run.ID, err)
		}
	}
	if err := all.add(len(run.Earlier)+1, func() (io.ReadCloser, error) { return openLast(ctx, engine, blobs, run, 0) }); err != nil {
		return nil, err
	}
	if len(all.closers) == 0 {
		return nil, ccci.ErrNotFound
	}
	all.in = io.MultiReader(all.parts...)
	return all, nil
}

// AttemptLine is the line in a log before an attempt that the bridge started, counted from 2. An
// engine that repeats a build itself writes one that begins alike.
func AttemptLine(attempt int) string {
	return fmt.Sprintf("=== cc-ci: attempt %d, because attempt %d ended with an infrastructure error ===", attempt, attempt-1)
}

// attempts are the logs of all attempts at a run as one.
type attempts struct {
	parts   []io.Reader
	closers []io.Closer
	in      io.Reader
	skip    int64 // bytes that the reader does not want
}

// add appends the log of an attempt, if there is one. After an error nothing is left open.
func (a *attempts) add(number int, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if errors.Is(err, ccci.ErrNotFound) {
		return nil
	}
	if err != nil {
		return errors.Join(err, a.Close())
	}
	if number > 1 {
		a.parts = append(a.parts, strings.NewReader(AttemptLine(number)+"\n"))
	}
	a.parts, a.closers = append(a.parts, &ended{r: r}), append(a.closers, r)
	return nil
}

func (a *attempts) Read(p []byte) (int, error) {
	for a.skip > 0 {
		n, err := a.in.Read(make([]byte, min(a.skip, 32<<10)))
		a.skip -= int64(n)
		if err != nil {
			return 0, err
		}
	}
	return a.in.Read(p)
}

func (a *attempts) Close() error {
	var errs []error
	for _, c := range a.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// ended reads a log and ends its last line.
type ended struct {
	r    io.Reader
	last byte
	over bool
}

func (e *ended) Read(p []byte) (int, error) {
	if e.over || len(p) == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p)
	if n > 0 {
		e.last = p[n-1]
		if errors.Is(err, io.EOF) {
			err = nil // the next Read says it
		}
		return n, err
	}
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	e.over = true
	if e.last == 0 || e.last == '\n' {
		return 0, io.EOF
	}
	p[0] = '\n'
	return 1, nil
}

// openLast opens the log of the last attempt.
func openLast(ctx context.Context, engine Source, blobs ccci.BlobOpener, run ccci.Run, offset int64) (io.ReadCloser, error) {
	if engine != nil && run.Build != "" {
		r, err := engine.Logs(ctx, run.Build, offset)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, ccci.ErrNotFound) {
			return nil, fmt.Errorf("opening the log of run %s: %w", run.ID, err)
		}
	}
	for _, name := range keptLogs {
		r, info, err := blobs.Open(ctx, ccci.ArtifactKey(run.ID, name))
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

// Chunk is what one read of a log gave. Err is nil at the end of the log.
type Chunk struct {
	Data []byte
	Err  error
}

// Pump reads r in the background and hands on what it read until r ends or ctx is done, then
// closes r. The channel is closed after the last chunk.
func Pump(ctx context.Context, r io.ReadCloser) <-chan Chunk {
	out := make(chan Chunk)
	go func() {
		defer close(out)
		defer r.Close()
		buf := make([]byte, 16<<10)
		for {
			n, err := r.Read(buf)
			c := Chunk{Data: bytes.Clone(buf[:n])}
			if err != nil && !errors.Is(err, io.EOF) {
				c.Err = err
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

// Settle is how long a log must be silent to count as read for now.
const Settle = 80 * time.Millisecond

// Copy writes what r has to w until r ends or ctx is done. With untilSilent it ends as well once
// the log was silent for [Settle]: at the end of a growing log Read blocks.
func Copy(ctx context.Context, w io.Writer, r io.ReadCloser, untilSilent bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := Pump(ctx, r)
	quiet := time.NewTimer(Settle)
	defer quiet.Stop()
	if !untilSilent {
		quiet.Stop()
	}
	for {
		select {
		case c, more := <-in:
			if !more || c.Err != nil {
				return c.Err
			}
			if _, err := w.Write(c.Data); err != nil {
				return err
			}
			if untilSilent {
				quiet.Reset(Settle)
			}
		case <-quiet.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
