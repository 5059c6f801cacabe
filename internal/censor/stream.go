package censor

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"sync"
)

const (
	// reach is the longest stretch of a text that is sure to be seen whole, in bytes: a
	// form of a piece with every character written as an escape or between colours.
	reach = 20 * pieceLength

	windowSize = 64<<10 + reach

	// leastOpen is the shortest beginning of a secret, in bytes, for which a line that is
	// complete is held back.
	leastOpen = 4
)

// Stream looks for secrets in a text of any length, and masks them, in constant memory. Where
// the text is cut into writes makes no difference. It is not safe for concurrent use.
type Stream struct {
	c     *Censor
	fixed *forms // in place of c's
	out   func(text []byte, end int64) error
	live  bool // lines are passed on as soon as they are complete

	look   looker
	buf    []byte // a window that is not passed on yet
	offset int64  // of buf in the text
	inside int    // beginning of buf that belongs to a mask which is out already
	masked int    // masks so far
}

// NewStream returns a stream that gives the masked text to out, which must not keep
// it; out may be nil. text stands for what was written up to offset end: either for exactly that
// many bytes, or it is a mask. Up to about 70 KiB are held back until Close.
func (c *Censor) NewStream(out func(text []byte, end int64) error) *Stream {
	return &Stream{c: c, out: out}
}

// Found returns the names of the secrets found so far, sorted.
func (s *Stream) Found() []string { return slices.Sorted(maps.Keys(s.look.names)) }

func (s *Stream) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), windowSize-len(s.buf))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
		written += n
		if len(s.buf) == windowSize {
			if err := s.pass(windowSize-reach, false); err != nil {
				return written, err
			}
		}
	}
	if s.live {
		if cut := bytes.LastIndexByte(s.buf, '\n') + 1; cut > 0 {
			return written, s.pass(cut, false)
		}
	}
	return written, nil
}

// Close passes on what is held back. The stream may be written to again: what comes
// then stands for itself.
func (s *Stream) Close() error {
	err := s.pass(len(s.buf), true)
	s.inside, s.look.within = 0, false
	return err
}

// pass looks at the window and passes on its first cut bytes, or fewer when a secret
// may have begun in them that is not complete.
func (s *Stream) pass(cut int, last bool) error {
	l := &s.look
	if l.forms = s.fixed; s.c != nil {
		l.forms = s.c.current()
	}
	l.open = -1
	if s.live && !last {
		l.open = len(s.buf)
	}
	l.look(s.buf)
	full := len(s.buf) == windowSize
	switch {
	case last:
	case l.open >= 0 && !full:
		cut = min(cut, l.open)
		if l.cut >= 0 {
			cut = min(cut, l.cut)
		}
		l.within = l.within && cut == 0
	case l.cut > 0:
		cut = min(cut, l.cut)
		l.within = false
	case l.cut == 0: // longer than a window: covered, whatever it holds
		l.spans = []span{{0, len(s.buf)}}
		l.within = true
	default:
		l.within = false
	}
	err := s.emit(cut)
	s.buf = append(s.buf[:0], s.buf[cut:]...)
	s.offset += int64(cut)
	return err
}

// emit passes on the first cut bytes of the window.
func (s *Stream) emit(cut int) error {
	put := func(text []byte, end int) error {
		if s.out == nil {
			return nil
		}
		return s.out(text, s.offset+int64(end))
	}
	at := s.inside
	if at > 0 {
		if err := put(nil, min(at, cut)); err != nil {
			return err
		}
	}
	for _, covered := range s.look.spans {
		if covered.from >= cut {
			break
		}
		if covered.from <= at && s.inside > 0 {
			at = max(at, covered.to)
			if err := put(nil, min(at, cut)); err != nil {
				return err
			}
			continue
		}
		if covered.from > at {
			if err := put(s.buf[at:covered.from], covered.from); err != nil {
				return err
			}
		}
		if err := put([]byte(mask), min(covered.to, cut)); err != nil {
			return err
		}
		s.masked++
		at = covered.to
	}
	s.inside = max(at-cut, 0)
	if at < cut {
		return put(s.buf[at:cut], cut)
	}
	return nil
}

// Writer masks what is written to w and passes lines on when they are complete. A line
// whose end may be the beginning of a secret is held back until the next one or Flush; so is a
// line that is not complete, up to about 70 KiB. It is safe for concurrent use.
type Writer struct {
	mu     sync.Mutex
	stream *Stream
}

// NewWriter returns a masking writer.
func (c *Censor) NewWriter(w io.Writer) *Writer {
	s := c.NewStream(func(text []byte, _ int64) error {
		if len(text) == 0 {
			return nil
		}
		_, err := w.Write(text)
		return err
	})
	s.live = true
	return &Writer{stream: s}
}

func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream.Write(p)
}

// Flush passes on what is held back.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream.Close()
}
