package censor

import "bytes"

// The characters of what may be a run of bytes in hexadecimal.
const (
	otherChar = iota
	hexChar
	gapChar // what programs write between bytes
)

var hexClass = func() (table [256]byte) {
	for _, c := range []byte("0123456789abcdefABCDEF") {
		table[c] = hexChar
	}
	for _, c := range []byte(" ,:-\txX\\") { // 0x and \x among them
		table[c] = gapChar
	}
	return table
}()

// hexDigits reads the hexadecimal digits of src, without what programs write between bytes:
// spaces, commas, colons, dashes, 0x and \x. Anything else separates.
func (t *reading) hexDigits(src *reading) {
	t.reset()
	b := src.b
	for i := 0; i < len(b); i++ {
		start, count := i, 0
		for i < len(b) {
			class := hexClass[b[i]]
			if class == otherChar {
				break
			}
			count += int(class & hexChar)
			i++
		}
		if count < 2*MinLength {
			continue
		}
		t.separate(src, start)
		for j := start; j < i; j++ {
			switch c := b[j]; {
			case c == '0' && j+1 < i && fold[b[j+1]] == 'x':
				j++
			case hexClass[c] == hexChar:
				t.putFrom(src, c, j, j)
			}
		}
	}
}

// separate keeps one run of bytes from the next.
func (t *reading) separate(src *reading, at int) {
	if len(t.b) > 0 {
		t.putFrom(src, 0, at, at)
	}
}

// numbers reads lists of byte values in decimal, as [104, 105].
func (t *reading) numbers(src *reading) {
	t.reset()
	b := src.b
	for i := 0; i < len(b); i++ {
		start, count := i, 0
		for i < len(b) && (b[i] >= '0' && b[i] <= '9' || b[i] == ' ' || b[i] == ',' || b[i] == '\t') {
			if i > start && b[i] <= ',' && b[i-1] >= '0' {
				count++
			}
			i++
		}
		if count+1 < MinLength {
			continue
		}
		t.separate(src, start)
		for j := start; j < i; {
			v, n := digits(b[j:i], 10, 4)
			switch {
			case n > 0 && n < 4 && v < 256:
				t.putFrom(src, byte(v), j, j+n-1)
			case n > 0:
				t.putFrom(src, 0, j, j)
			}
			j += max(n, 1)
		}
	}
}

// dumpKind is how the columns of a dump are read.
type dumpKind struct {
	width, base int  // digits of a column
	swap        bool // a column has several bytes, the last first
	chars       bool // od -c: characters and their escapes
}

var dumpKinds = []dumpKind{
	{width: 2, base: 16}, {width: 4, base: 16}, {width: 4, base: 16, swap: true}, {width: 8, base: 16}, {width: 8, base: 16, swap: true},
	{width: 3, base: 8}, {width: 6, base: 8, swap: true}, {chars: true},
}

// dumpLine is a line of a window that may be of a dump, as xxd, hexdump and od write
// them: an offset, columns, and perhaps the same as text.
type dumpLine struct {
	columns, end int
	colon        bool // behind the offset, as xxd writes it
	follows      bool // the line before it is such a line too
}

// dumpLines finds the lines that may be of a dump. What stands before the offset, as
// the prefix of a logger, is passed over.
func dumpLines(window []byte, lines []dumpLine) []dumpLine {
	follows := false
	for start := 0; start < len(window); {
		end := len(window)
		if i := bytes.IndexByte(window[start:], '\n'); i >= 0 {
			end = start + i
		}
		columns, colon := offset(window[start:end])
		if columns > 0 {
			lines = append(lines, dumpLine{start + columns, end, colon, follows})
		}
		follows = columns > 0
		start = end + 1
	}
	return lines
}

// offset finds where the offset of a line of a dump ends; 0: it has none.
func offset(line []byte) (end int, colon bool) {
	least := 4
	for i := 0; i < len(line) && i < 200; i++ {
		if hexClass[line[i]] != hexChar {
			if line[i] != ' ' {
				least = 7 // within a line, a short number is none
			}
			continue
		}
		start := i
		for i < len(line) && hexClass[line[i]] == hexChar {
			i++
		}
		if i-start < least || i-start > 16 || i+1 >= len(line) {
			least = 7
			continue
		}
		colon = line[i] == ':'
		if colon {
			i++
		}
		if line[i] == ' ' || line[i] == '\t' {
			return i, colon
		}
		least = 7
	}
	return 0, false
}

// dump reads the lines of a dump. A byte stands for all of its line that
// follows, since the text there repeats it.
func (t *reading) dump(window []byte, lines []dumpLine, kind dumpKind) {
	t.reset()
	for _, line := range lines {
		if !line.follows && len(t.b) > 0 {
			t.putDump(0, line.columns, line.columns)
		}
		if kind.chars {
			t.dumpChars(window, line)
			continue
		}
		t.dumpColumns(window[line.columns:line.end], line, kind)
	}
}

func (t *reading) putDump(c byte, from, end int) {
	t.b = append(t.b, c)
	t.at = append(t.at, place{from: int32(from), to: int32(end)})
}

func (t *reading) dumpColumns(text []byte, line dumpLine, kind dumpKind) {
	for i := 0; i < len(text); {
		gap := i
		for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
			i++
		}
		if i == len(text) || text[i] == '|' || text[i] == '>' || line.colon && gap > 0 && i-gap > 1 {
			return
		}
		from := i
		for i < len(text) && i-from <= kind.width && text[i] != ' ' && text[i] != '\t' && text[i] != '\r' {
			i++
		}
		if !t.column(text[from:i], kind, line.columns+from, line.end) || i < len(text) && text[i] == '\r' {
			return
		}
	}
}

// column reads one column; one with fewer digits is the last.
func (t *reading) column(text []byte, kind dumpKind, from, end int) bool {
	if len(text) > kind.width || len(text) < kind.width && (kind.base != 16 || len(text)%2 != 0) {
		return false
	}
	v, n := digits(text, kind.base, len(text))
	if n != len(text) {
		return false
	}
	size := len(text) / 2 // of hexadecimal
	if kind.base == 8 {
		size = kind.width / 3
	}
	for i := range size {
		shift := 8 * i
		if !kind.swap {
			shift = 8 * (size - 1 - i)
		}
		t.putDump(byte(v>>shift), from, end)
	}
	return true
}

// dumpChars reads a line of od -c: columns of four characters.
func (t *reading) dumpChars(window []byte, line dumpLine) {
	for i := line.columns; i+4 <= line.end; i += 4 {
		cell := window[i : i+4]
		c := cell[3]
		switch {
		case cell[0] != ' ':
			return
		case cell[1] == ' ' && cell[2] == ' ':
		case cell[1] == ' ' && cell[2] == '\\':
			text, n := backslash(cell[2:])
			if n != 2 {
				return
			}
			c = text[0]
		default:
			v, n := digits(cell[1:], 8, 3)
			if n != 3 {
				return
			}
			c = byte(v)
		}
		t.putDump(c, i, line.end)
	}
}
