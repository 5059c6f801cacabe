package gitea

import (
	"bufio"
	"io"
)

// clipped is a JSON text as it is read, with every long string shortened to its
// beginning and its end, so that a text of a person, however long it is, takes no
// memory here. Between the two stands a line with "…": what was shortened is no
// command, and the tag of an own comment is still at its end.
type clipped struct {
	from *bufio.Reader
	keep int // bytes of a string's beginning, as they stand in the text

	ready  []byte
	buffer []byte
	within bool   // in a string
	given  int    // bytes of it that were given on
	tail   []byte // what comes after these, or its end
	cut    bool   // something between the two was left out
	err    error
}

// tailKept is how many bytes of the end of a long string are kept.
const tailKept = 1 << 10

func newClipped(from io.Reader, keep int) *clipped {
	return &clipped{from: bufio.NewReaderSize(from, 32<<10), keep: keep}
}

func (c *clipped) Read(p []byte) (int, error) {
	for len(c.ready) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.ready = c.buffer[:0]
		for c.err == nil && len(c.ready) < 4<<10 {
			c.err = c.step()
		}
		c.buffer = c.ready
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// step reads one character, or one escape sequence, which is never cut apart.
func (c *clipped) step() error {
	b, err := c.from.ReadByte()
	if err != nil {
		return err
	}
	switch {
	case !c.within:
		c.ready = append(c.ready, b)
		c.within, c.given, c.tail, c.cut = b == '"', 0, c.tail[:0], false
		return nil
	case b == '"':
		if c.cut {
			c.tail = c.tail[dropped(c.tail):]
			c.ready = append(c.ready, `\n…\n`...)
		}
		c.ready = append(append(c.ready, c.tail...), '"')
		c.tail, c.within = c.tail[:0], false
		return nil
	}
	unit := [6]byte{b}
	n := 1
	for n < width(unit[:n]) {
		if unit[n], err = c.from.ReadByte(); err != nil {
			return err
		}
		n++
	}
	if c.given < c.keep {
		c.ready = append(c.ready, unit[:n]...)
		c.given += n
		return nil
	}
	c.tail = append(c.tail, unit[:n]...)
	if len(c.tail) > 4*tailKept {
		c.tail = append(c.tail[:0], c.tail[dropped(c.tail):]...)
		c.cut = true
	}
	return nil
}

// width is how many bytes the character or escape sequence has that text begins with.
func width(text []byte) int {
	switch {
	case text[0] != '\\':
		return 1
	case len(text) > 1 && text[1] == 'u':
		return 6
	}
	return 2
}

// dropped is how many bytes at the beginning of a string's rest are not kept.
func dropped(rest []byte) int {
	n := 0
	for len(rest)-n > tailKept {
		n += width(rest[n:])
	}
	return n
}
