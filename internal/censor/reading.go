package censor

import "bytes"

// reading is one way to read a window: its text without line ends, and where in the
// window each byte of it comes from.
type reading struct {
	b      []byte
	at     []place // one for each of b
	lines  int32
	indent bool // at the beginning of a line
	keep   bool // indentation counts; else it is passed over
}

// place is where a byte of a reading comes from.
type place struct {
	from, to int32 // in the window
	line     int32 // line ends before it
}

func (t *reading) reset() {
	t.b, t.at, t.lines, t.indent = t.b[:0], t.at[:0], 0, false
}

// put adds a byte that the window's bytes from..to stand for. Line ends are counted.
func (t *reading) put(c byte, from, to int32) {
	switch {
	case c == '\n' || c == '\r':
		t.lines++
		t.indent = true
		return
	case t.indent && !t.keep && (c == ' ' || c == '\t'):
		return
	}
	t.indent = false
	t.b = append(t.b, c)
	t.at = append(t.at, place{from, to, t.lines})
}

// putFrom adds a byte that src's bytes first..last stand for, whatever byte it is.
func (t *reading) putFrom(src *reading, c byte, first, last int) {
	t.b = append(t.b, c)
	t.at = append(t.at, place{src.at[first].from, src.at[last].to, src.at[first].line})
}

// raw reads a window as it is.
func (t *reading) raw(window []byte, indentation bool) {
	t.reset()
	t.keep = indentation
	for i, c := range window {
		t.put(c, int32(i), int32(i+1))
	}
}

// decode reads src anew, with the escapes of one family replaced by what they mean. An
// escape sign at the end of a line may join it to the next one.
func (t *reading) decode(src *reading, e escape) {
	t.reset()
	t.keep = src.keep
	more := int32(0) // line ends that were escapes, without those that joined lines
	for i := 0; i < len(src.b); {
		next := bytes.IndexByte(src.b[i:], e.sign)
		if next < 0 {
			next = len(src.b) - i
		}
		next += i
		for ; i < next && t.indent; i++ { // behind a line end that was an escape
			t.lines = src.at[i].line + more
			t.put(src.b[i], src.at[i].from, src.at[i].to)
		}
		t.b = append(t.b, src.b[i:next]...)
		t.at = append(t.at, src.at[i:next]...)
		if more != 0 {
			for j := len(t.at) - (next - i); j < len(t.at); j++ {
				t.at[j].line += more
			}
		}
		if i = next; i == len(src.b) {
			return
		}
		if e.joins && i+1 < len(src.b) && src.at[i+1].line != src.at[i].line {
			more -= src.at[i+1].line - src.at[i].line
			i++
			continue
		}
		meaning, n := e.step(src.b[i:])
		t.lines = src.at[i].line + more
		if n == 0 {
			t.put(src.b[i], src.at[i].from, src.at[i].to)
			i++
			continue
		}
		before := t.lines
		for _, c := range meaning {
			t.put(c, src.at[i].from, src.at[i+n-1].to)
		}
		more += t.lines - before
		i += n
	}
}
