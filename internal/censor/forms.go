package censor

import (
	"bytes"
	"encoding/binary"
)

// form is one text that stands for a secret.
type form struct {
	text  []byte // in lower case
	name  string
	lines bool // it may run over the end of a line
}

// forms finds many texts at once. Each has at least [MinLength] bytes, so the first
// four tell most positions of a text that nothing begins there.
type forms struct {
	all    []form
	filter [1 << 10]uint64 // one bit for each hash of four first bytes
	first  map[uint32][]int
	spaces bool // some form holds a space
}

func newForms(all []form) *forms {
	f := &forms{first: map[uint32][]int{}}
	seen := map[string]bool{}
	for _, one := range all {
		if seen[string(one.text)] {
			continue
		}
		seen[string(one.text)] = true
		key := binary.LittleEndian.Uint32(one.text)
		h := hash(key)
		f.filter[h>>6] |= 1 << (h & 63)
		f.first[key] = append(f.first[key], len(f.all))
		f.all = append(f.all, one)
		f.spaces = f.spaces || bytes.IndexByte(one.text, ' ') >= 0
	}
	return f
}

func hash(key uint32) uint32 { return key * 0x9e3779b1 >> 16 }

// each calls hit for every place in t where a form stands.
func (f *forms) each(t []byte, hit func(one *form, at int)) {
	if len(t) < MinLength {
		return
	}
	key := uint32(fold[t[0]])<<8 | uint32(fold[t[1]])<<16 | uint32(fold[t[2]])<<24
	for i := 0; i+4 <= len(t); i++ {
		key = key>>8 | uint32(fold[t[i+3]])<<24
		h := hash(key)
		if f.filter[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		for _, n := range f.first[key] {
			if one := &f.all[n]; begins(t[i:], one.text) {
				hit(one, i)
			}
		}
	}
}

// begins reports whether t begins with a text that is in lower case.
func begins(t, text []byte) bool {
	if len(t) < len(text) {
		return false
	}
	for i, b := range text {
		if fold[t[i]] != b {
			return false
		}
	}
	return true
}

// partial is the length of the longest beginning of a form, at least least bytes, that
// ends t; 0 when there is none.
func (f *forms) partial(t []byte, least int) int {
	for n := min(len(t), pieceLength*2); n >= least; n-- {
		if n < 4 {
			return 0
		}
		end := t[len(t)-n:]
		key := uint32(fold[end[0]]) | uint32(fold[end[1]])<<8 | uint32(fold[end[2]])<<16 | uint32(fold[end[3]])<<24
		h := hash(key)
		if f.filter[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		for _, i := range f.first[key] {
			if text := f.all[i].text; len(text) > n && begins(end, text[:n]) {
				return n
			}
		}
	}
	return 0
}

// fold maps ASCII letters to lower case.
var fold = func() (table [256]byte) {
	for i := range table {
		table[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			table[i] += 'a' - 'A'
		}
	}
	return table
}()
