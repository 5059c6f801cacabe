package censor

import (
	"bytes"
	"slices"
)

// span is a part of a window that a secret covers.
type span struct{ from, to int }

// looker looks for secrets in one window after another. It keeps its buffers.
type looker struct {
	forms    *forms
	readings [4]reading // by depth of escapes; the last for codes
	lines    []dumpLine
	spans    []span
	names    map[string]bool

	// open is where something may have begun that the window's end cuts; -1: not asked.
	open int

	unpacking
}

// look fills spans with what the window holds, in order and without overlaps.
func (l *looker) look(window []byte) {
	l.spans = l.spans[:0]
	l.cut = -1
	if l.forms == nil || len(l.forms.all) == 0 {
		return
	}
	l.readings[0].raw(window, false)
	l.explore(0, true)
	if l.forms.spaces && bytes.Contains(window, []byte("\n ")) {
		l.readings[0].raw(window, true)
		l.explore(0, true)
	}
	code := &l.readings[len(l.readings)-1]
	if l.lines = dumpLines(window, l.lines[:0]); len(l.lines) > 0 {
		for _, kind := range dumpKinds {
			code.dump(window, l.lines, kind)
			l.search(code)
		}
	}
	l.binary(window)
	slices.SortFunc(l.spans, func(a, b span) int { return a.from - b.from })
	merged := l.spans[:0]
	for _, s := range l.spans {
		if n := len(merged); n > 0 && s.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	l.spans = merged
}

// explore looks at the reading of a depth and, if there may be more, at what is behind its
// escapes and what is packed in it.
func (l *looker) explore(depth int, more bool) {
	t := &l.readings[depth]
	l.search(t)
	if more {
		l.packed(t)
	}
	if depth < 2 {
		code := &l.readings[len(l.readings)-1]
		code.hexDigits(t)
		l.search(code)
		code.numbers(t)
		l.search(code)
	}
	if depth+2 == len(l.readings) || !more {
		return
	}
	behind := func(e escape) {
		if depth > 0 && !e.inner || bytes.IndexByte(t.b, e.sign) < 0 || e.present != nil && !e.present(t) {
			return
		}
		l.readings[depth+1].decode(t, e)
		l.explore(depth+1, e.outer)
	}
	for _, e := range escapes {
		behind(e)
	}
	if depth == 0 && l.forms.spaces {
		behind(plus)
	}
}

func (l *looker) search(t *reading) {
	l.forms.each(t.b, func(one *form, at int) {
		last := at + len(one.text) - 1
		if one.lines || t.at[at].line == t.at[last].line {
			l.found(one.name, int(t.at[at].from), int(t.at[last].to))
		}
	})
	if l.open >= 0 {
		if n := l.forms.partial(t.b, leastOpen); n > 0 {
			l.open = min(l.open, int(t.at[len(t.b)-n].from))
		}
	}
}

func (l *looker) found(name string, from, to int) {
	if l.names == nil {
		l.names = map[string]bool{}
	}
	l.names[name] = true
	l.spans = append(l.spans, span{from, to})
}
