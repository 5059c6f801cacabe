package github

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// position is what a cursor of GitHub says: how far comments were read, and with
// which heads the open pull requests were seen. The heads outlive the process in it,
// so that after a restart as much can be proven as before.
type position struct {
	mark  time.Time // the youngest updated_at that was seen; zero at the beginning
	heads map[int]Sighting
}

// parsePosition reads what String wrote, and what cursors were before they held
// heads: a time. The zero cursor is the beginning.
func parsePosition(cursor ccci.Cursor) (position, error) {
	p := position{heads: map[int]Sighting{}}
	fields := strings.Fields(string(cursor))
	if len(fields) == 0 {
		return p, nil
	}
	var err error
	if p.mark, err = time.Parse(time.RFC3339, fields[0]); err != nil {
		return p, err
	}
	for _, field := range fields[1:] {
		parts := strings.Split(field, ":")
		if len(parts) != 3 {
			return p, fmt.Errorf("%q is no head", field)
		}
		number, err := strconv.Atoi(parts[0])
		if err != nil {
			return p, err
		}
		first, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			return p, err
		}
		head := ccci.Commit(parts[1])
		if number <= 0 || !head.Valid() {
			return p, fmt.Errorf("%q is no head", field)
		}
		at := time.Unix(first, 0).UTC()
		p.heads[number] = Sighting{Head: head, First: at, Last: at}
	}
	return p, nil
}

// cursor writes the position: as long as nothing happens it stays the same.
func (p position) cursor() ccci.Cursor {
	var numbers []int
	for number := range p.heads {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	var b strings.Builder
	b.WriteString(p.mark.UTC().Format(time.RFC3339))
	for _, number := range numbers {
		s := p.heads[number]
		// Rounded up: it must never look as though it had been seen earlier.
		fmt.Fprintf(&b, " %d:%s:%d", number, s.Head, s.First.Add(time.Second-1).Unix())
	}
	return ccci.Cursor(b.String())
}

// recall hands the heads of a cursor to the ledger, which drops what it knows better.
func (f *Forge) recall(ctx context.Context, repo ccci.RepoRef, p position) {
	f.mu.Lock()
	_, known := f.open[repo]
	if !known {
		var numbers []int
		for number := range p.heads {
			numbers = append(numbers, number)
		}
		f.open[repo] = numbers
	}
	f.mu.Unlock()
	if known {
		return
	}
	for number, s := range p.heads {
		f.observe(ctx, ccci.PRRef{Repo: repo, Number: number}, s.Head, s.First)
	}
}

// heads are the last sightings of the repository's open pull requests.
func (f *Forge) heads(ctx context.Context, repo ccci.RepoRef) map[int]Sighting {
	f.mu.Lock()
	numbers := f.open[repo]
	f.mu.Unlock()
	heads := map[int]Sighting{}
	for _, number := range numbers {
		seen, err := f.opts.Ledger.Sightings(ctx, ccci.PRRef{Repo: repo, Number: number})
		if err == nil && len(seen) > 0 {
			heads[number] = seen[len(seen)-1]
		}
	}
	return heads
}
