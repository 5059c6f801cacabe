package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
)

// heartbeat is how often a silent stream shows that it lives.
const heartbeat = 15 * time.Second

// pause is the least time between two "changed" events of one stream.
const pause = 400 * time.Millisecond

// stream writes server-sent events.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func openStream(w http.ResponseWriter) (*stream, error) {
	s := &stream{w: w, c: http.NewResponseController(w)}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	return s, s.raw(": hello\nretry: 2000\n\n")
}

func (s *stream) raw(text string) error {
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.c.Flush()
}

// send writes one event; id may be "".
func (s *stream) send(event, id string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	var b strings.Builder
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + event + "\ndata: ")
	b.Write(body)
	b.WriteString("\n\n")
	return s.raw(b.String())
}

// events tells a page that something changed; the page then reads itself again.
func (d *Dashboard) events(w http.ResponseWriter, r *http.Request) error {
	done, ok := d.stream(w, r)
	if !ok {
		return nil
	}
	defer done()
	wake, leave := d.hub.join(func(hint) bool { return true })
	defer leave()
	s, err := openStream(w)
	if err != nil {
		return nil // the reader left
	}
	// What changed between the page and this stream, or while a reader was cut
	// off, was announced to nobody: so each stream begins with a hint.
	if s.send("changed", "", struct{}{}) != nil {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-wake:
			err = s.send("changed", "", struct{}{})
			if err == nil {
				err = d.wait(r.Context(), pause)
			}
		case <-beat.C:
			err = s.raw(": alive\n\n")
		case <-r.Context().Done():
			return nil
		case <-d.stopped.Done():
			return nil
		}
		if err != nil {
			return nil // the reader left
		}
	}
}

func (d *Dashboard) wait(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.stopped.Done():
		return context.Canceled
	}
}

// logEvent is a piece of a log: whole lines, or a stage's begin or end.
type logEvent struct {
	Lines   []string         `json:"lines,omitempty"`
	Bad     []int            `json:"bad,omitempty"` // indexes of lines that read like errors
	Begin   ccci.StageName   `json:"begin,omitempty"`
	End     ccci.StageName   `json:"end,omitempty"`
	Status  ccci.CheckStatus `json:"status,omitempty"`
	Refused bool             `json:"refused,omitempty"`
	Took    string           `json:"took,omitempty"`
	Reason  string           `json:"reason,omitempty"`
}

// runEvents streams a run: "log" with its log from a byte offset on, "changed"
// when its record changed, "end" when it is over. The id of a log event is the
// offset to go on from, which browsers send back as Last-Event-ID (P19).
func (d *Dashboard) runEvents(w http.ResponseWriter, r *http.Request) error {
	run, err := d.findRun(r)
	if err != nil {
		return err
	}
	offset, err := startOffset(r)
	if err != nil {
		return err
	}
	done, ok := d.stream(w, r)
	if !ok {
		return nil
	}
	defer done()
	wake, leave := d.hub.join(func(h hint) bool {
		return h.topic == ccci.TopicRuns && h.message == string(run.ID)
	})
	defer leave()
	s, err := openStream(w)
	if err != nil {
		return nil // the reader left
	}
	f := &runFollower{d: d, s: s, run: run, offset: offset}
	if err := f.follow(r.Context(), wake); err != nil && r.Context().Err() == nil && d.stopped.Err() == nil {
		d.log.Warn("following a run", "run", run.ID, "error", err)
	}
	return nil
}

func startOffset(r *http.Request) (int64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("offset")
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, ccci.Errorf(ccci.CodeInvalid, "The offset %q is not a number of bytes", text)
	}
	return n, nil
}

// runFollower streams one run to one reader.
type runFollower struct {
	d      *Dashboard
	s      *stream
	run    ccci.Run
	offset int64  // of the first byte that was not sent
	rest   []byte // the beginning of a line whose end was not read yet; at most longLine
	left   int64  // bytes of that line that were read and are not in rest
	batch  logEvent
	size   int // bytes of the batch's lines
	log    <-chan runlog.Chunk
	opened ccci.BuildRef // whose log was asked for last
}

// follow returns nil when the run is over and everything was sent.
func (f *runFollower) follow(ctx context.Context, wake <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	// Hints may be lost, so the store is asked from time to time as well.
	look := time.NewTicker(3 * time.Second)
	defer look.Stop()
	if err := f.open(ctx); err != nil {
		return err
	}
	for {
		// A run that is repeated has the log of its next attempt after this one.
		if f.log == nil && f.run.Build != "" && f.run.Build != f.opened {
			if err := f.open(ctx); err != nil {
				return err
			}
		}
		if f.log == nil && f.run.Status.Terminal() {
			return f.s.send("end", "", map[string]any{"status": f.run.Status})
		}
		var err error
		select {
		case c, more := <-f.log:
			if !more {
				err = f.finish()
				f.log = nil
				break
			}
			if c.Err != nil {
				return c.Err
			}
			err = f.feed(c.Data)
		case <-wake:
			err = f.reload(ctx)
		case <-look.C:
			err = f.reload(ctx)
		case <-beat.C:
			err = f.s.raw(": alive\n\n")
		case <-ctx.Done():
			return ctx.Err()
		case <-f.d.stopped.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// open begins to read the log where there is one already.
func (f *runFollower) open(ctx context.Context) error {
	f.opened = f.run.Build
	r, err := f.d.openLog(ctx, f.run, f.offset+int64(len(f.rest))+f.left)
	if errors.Is(err, ccci.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.log = runlog.Pump(ctx, r)
	return nil
}

// reload reads the run again and tells the reader when it changed.
func (f *runFollower) reload(ctx context.Context) error {
	run, err := f.d.cfg.Store.FindRun(ctx, f.run.ID)
	if err != nil {
		return fmt.Errorf("reading run %s: %w", f.run.ID, err)
	}
	before, after := f.run, run
	f.run = run
	if sameRun(before, after) {
		return nil
	}
	return f.s.send("changed", "", map[string]any{"status": run.Status})
}

func sameRun(a, b ccci.Run) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

const (
	longLine  = 4*lineLimit + 1 // bytes of a line that are kept; fewer of them are shown
	batchSize = 16 << 10        // bytes of lines from which on an event is sent
)

// feed sends the lines that end in data. One event holds lines of one stage.
func (f *runFollower) feed(data []byte) error {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		kept := line[:min(len(line), longLine-len(f.rest))]
		f.rest = append(f.rest, kept...)
		f.left += int64(len(line) - len(kept))
		data = rest
		if !ended {
			break
		}
		if err := f.line(1); err != nil {
			return err
		}
	}
	return f.send()
}

// finish sends also the last line, which has no end.
func (f *runFollower) finish() error {
	if len(f.rest) > 0 {
		if err := f.line(0); err != nil {
			return err
		}
	}
	return f.send()
}

// line takes rest for a whole line, whose end has that many bytes.
func (f *runFollower) line(end int64) error {
	text, n, whole := string(f.rest), int64(len(f.rest))+f.left+end, f.left == 0
	f.rest, f.left = f.rest[:0], 0
	if m, ok := ccci.ParseMarker(text); ok && whole {
		if err := f.send(); err != nil {
			return err
		}
		f.offset += n
		e := logEvent{Begin: m.Stage}
		if !m.Begin {
			e = logEvent{End: m.Stage, Status: m.Status, Refused: m.Refused, Took: duration(m.Duration), Reason: m.Reason}
		}
		return f.s.send("log", strconv.FormatInt(f.offset, 10), e)
	}
	f.offset += n
	text = plain(text)
	if looksBad(text) {
		f.batch.Bad = append(f.batch.Bad, len(f.batch.Lines))
	}
	f.batch.Lines = append(f.batch.Lines, text)
	if f.size += len(text); f.size >= batchSize || len(f.batch.Lines) >= 500 {
		return f.send()
	}
	return nil
}

// send sends the batch, if there is something in it.
func (f *runFollower) send() error {
	if len(f.batch.Lines) == 0 {
		return nil
	}
	e := f.batch
	f.batch, f.size = logEvent{}, 0
	return f.s.send("log", strconv.FormatInt(f.offset, 10), e)
}
