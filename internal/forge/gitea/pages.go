package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// pageSize is the most that a forge gives at once, as it is delivered.
	pageSize = 50
	// emptyEnd is how many empty pages in a row end a list whose pages lose rows after
	// they were cut (see the timeline in head.go).
	emptyEnd = 3
	// listTime is how long one list may be read where that is bounded.
	listTime = 40 * time.Second
)

// list says how a list is read.
type list struct {
	path  string
	query url.Values
	// counted is set where the forge counts the whole list; it ends as soon as all of it
	// is there, else after `empty` pages without a row.
	counted bool
	empty   int
	keep    int       // of each string's beginning; 0: keptString
	until   time.Time // no further page is begun later; zero: no bound
}

// errTooMuch says that a list was not read to its end because it is too long.
var errTooMuch = errors.New("the list is too long")

// pages reads a list page by page. A page that is too large, or takes too long, is read
// again in smaller ones. A single row that is too large is left out of a list that is
// counted: nothing that matters here has that size. reads is how many requests it took.
func pages[T any](ctx context.Context, c *client, l list) (rows []T, reads int, err error) {
	for _, size := range []int{pageSize, 5, 1} {
		rows, reads, err = pagesOf[T](ctx, c, l, size)
		if !errors.Is(err, errTooLarge) && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			break
		}
	}
	return rows, reads, err
}

func pagesOf[T any](ctx context.Context, c *client, l list, size int) (rows []T, reads int, err error) {
	q := url.Values{"limit": {strconv.Itoa(size)}}
	for k, v := range l.query {
		q[k] = v
	}
	left, passed := l.empty, 0
	for page := 1; ; page++ {
		if page > 1 { // after an answer, so that a forge that hangs is no long list
			if !l.until.IsZero() && !c.now().Before(l.until) {
				return nil, reads, errTooMuch
			}
			q.Set("page", strconv.Itoa(page))
		}
		n := 0
		header, err := c.do(ctx, http.MethodGet, l.path, q, nil, wanted{keep: l.keep, out: each[T](func(row T) {
			rows = append(rows, row)
			n++
		})})
		reads++
		total, uncounted := strconv.Atoi(header.Get("X-Total-Count"))
		known := l.counted && uncounted == nil
		switch {
		case errors.Is(err, errTooLarge) && size == 1 && known && passed < total:
			n = 1
		case err != nil:
			return nil, reads, err
		}
		passed += n
		if known && passed >= total {
			return rows, reads, nil
		}
		if left--; n > 0 {
			left = l.empty
		}
		if left == 0 {
			return rows, reads, nil
		}
	}
}

// count asks how long a counted list is, and reads no row of it.
func (c *client) count(ctx context.Context, path string, query url.Values) (int, error) {
	q := url.Values{"limit": {"1"}, "page": {"1000000"}}
	for k, v := range query {
		q[k] = v
	}
	header, err := c.do(ctx, http.MethodGet, path, q, nil, wanted{out: each[struct{}](func(struct{}) {})})
	if err != nil {
		return 0, err
	}
	total, err := strconv.Atoi(header.Get("X-Total-Count"))
	if err != nil {
		return 0, fmt.Errorf("%s does not count its comments", c.base.Host)
	}
	return total, nil
}
