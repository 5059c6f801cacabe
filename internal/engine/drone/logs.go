package drone

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Logs implements [ccci.Engine].
//
// While the step runs the log comes as Drone's event stream, which begins with all
// lines so far; a connection that breaks is made again and goes on where it was.
// Afterwards, and for what the stream has missed, it is the step's log. The first
// line, where the runner's shell shows the step's command, is not part of it.
func (e *Engine) Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "reading the log of %s: the offset %d is negative", ref, offset)
	}
	if _, err := e.build(ctx, ref); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r, w := io.Pipe()
	f := &follower{engine: e, ref: ref, skip: offset, out: w}
	go func() { w.CloseWithError(f.follow(ctx)) }()
	return &logReader{PipeReader: r, cancel: cancel, ctx: ctx}, nil
}

type logReader struct {
	*io.PipeReader
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (r *logReader) Close() error {
	r.cancel(os.ErrClosed)
	return r.PipeReader.CloseWithError(os.ErrClosed)
}

// follower writes one log to its reader.
type follower struct {
	engine *Engine
	ref    ccci.BuildRef
	out    io.Writer
	skip   int64 // bytes that the reader does not want
	next   int   // number of the next line
	stage  int
	step   int
}

const (
	restFirst = 100 * time.Millisecond
	restMost  = 2 * time.Second
)

// errMissed means that a stream began after the next line, or left lines out:
// the rest is read when the step's whole log is there.
var errMissed = errors.New("the stream has left lines out")

// follow returns io.EOF when the build is done and all was written.
func (f *follower) follow(ctx context.Context) error {
	rest := restFirst
	streaming := true
	for {
		b, err := f.engine.build(ctx, f.ref)
		var judged ccci.Build
		if err == nil {
			judged, err = f.engine.judge(ctx, b)
		}
		if errors.Is(err, ccci.ErrNotFound) {
			return err
		}
		progress := false
		if err == nil {
			stage, step := f.engine.step(b)
			if step != nil {
				f.stage, f.step = stage.Number, step.Number
			}
			switch {
			case judged.State == ccci.BuildDone && (step == nil || step.Status == drone.StatusSkipped):
				return io.EOF
			case judged.State == ccci.BuildDone:
				if err = f.remainder(ctx, b); err == nil {
					return io.EOF
				}
			case step != nil && step.Status == drone.StatusRunning && streaming:
				was := f.next
				err = f.stream(ctx)
				if errors.Is(err, errMissed) {
					streaming, err = false, nil
				}
				progress = f.next > was
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed) {
			return os.ErrClosed
		}
		if err != nil {
			f.engine.log.Debug("following a log is interrupted", "build", f.ref, "err", err)
		}
		if progress {
			rest = restFirst
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(rest):
		}
		rest = min(2*rest, restMost)
	}
}

// remainder writes what is missing from the step's log, which Drone has once the
// step has ended. A step whose runner died has none; what was streamed is all.
func (f *follower) remainder(ctx context.Context, b *drone.Build) error {
	var lines []*drone.Line
	err := f.engine.call(ctx, "reading the log of build "+string(f.ref), func(c drone.Client) (err error) {
		lines, err = c.Logs(f.engine.opts.Repo.Owner, f.engine.opts.Repo.Name, int(b.Number), f.stage, f.step)
		return err
	})
	// The runner of a killed step brings the log a moment after Drone knows the end.
	if errors.Is(err, ccci.ErrNotFound) && f.engine.now().Sub(moment(b.Finished)) > lateLog {
		return nil
	}
	if err != nil {
		return err
	}
	for _, line := range lines {
		f.next = max(f.next, line.Number) // Drone drops the beginning of a long log
		if err := f.line(line); err != nil {
			return err
		}
	}
	return nil
}

// stream writes lines as they come, until the server ends the stream.
func (f *follower) stream(ctx context.Context) error {
	e := f.engine
	uri := fmt.Sprintf("%s/api/stream/%s/%s/%s/%d/%d", e.opts.URL, e.opts.Repo.Owner, e.opts.Repo.Name, f.ref, f.stage, f.step)
	// A server or a proxy that is gone without a word is found by its silence.
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { f.endWithBuild(ctx, cancel) })
	alive := time.AfterFunc(silenceLimit, cancel)
	defer alive.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+e.opts.Token.Reveal())
	resp, err := e.opts.Transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		return fmt.Errorf("the answer is no stream but %d %s", resp.StatusCode, kind)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20) // a "line" of Drone is what the harness wrote at once
	for lines.Scan() {
		alive.Reset(silenceLimit)
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "eof" {
			return nil
		}
		var line drone.Line
		if err := json.Unmarshal([]byte(data), &line); err != nil {
			return fmt.Errorf("reading an event: %w", err) // cut off in the middle
		}
		if err := f.line(&line); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// endWithBuild ends a stream when the build is done: Drone leaves that of a
// runner which died open.
func (f *follower) endWithBuild(ctx context.Context, end func()) {
	tick := time.NewTicker(f.engine.opts.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b, err := f.engine.Status(ctx, f.ref); err == nil && b.State == ccci.BuildDone {
			end()
			return
		}
	}
}

const (
	// silenceLimit is how long a stream may be silent before it is made again: a
	// harness says something every 15 s.
	silenceLimit = 45 * time.Second
	lateLog      = 10 * time.Second
)

// line writes one line unless it was written before.
func (f *follower) line(line *drone.Line) error {
	switch {
	case line.Number < f.next:
		return nil
	case line.Number > f.next:
		return errMissed
	}
	text := line.Message
	if line.Number == 0 && strings.HasPrefix(text, "+ ") {
		text = "" // the runner's shell shows the command
	}
	f.next++
	if n := min(f.skip, int64(len(text))); n > 0 {
		f.skip -= n
		text = text[n:]
	}
	if text == "" {
		return nil
	}
	_, err := io.WriteString(f.out, text)
	return err
}
