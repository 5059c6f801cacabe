// Package runlog reads the log of a run: from the engine while it has it, else from the run's
// artifacts.
package runlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
// blocks for more. engine may be nil.
func Open(ctx context.Context, engine Source, blobs ccci.BlobOpener, run ccci.Run, offset int64) (io.ReadCloser, error) {
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
