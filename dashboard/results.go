package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// resultCache keeps the results of finished runs, which never change, and of more runs the
// newest picture, which is all that overviews show of a result.
type resultCache struct {
	blobs   ccci.BlobReader
	reading chan struct{} // results are read one after the other: each takes several times its size

	mu       sync.Mutex
	kept     map[ccci.RunID]keptResult
	size     int64                   // bytes of what is kept, as it is stored
	pictures map[ccci.RunID]*picture // nil: the run has none
}

type keptResult struct {
	result *ccci.Result
	size   int64
}

const (
	resultLimit      = 1000     // results that are kept
	resultsKeepLimit = 16 << 20 // bytes of them
	pictureLimit     = 10_000   // pictures that are kept
	pictureKeepLimit = 1 << 10  // bytes of one
)

func newResultCache(blobs ccci.BlobReader) *resultCache {
	return &resultCache{blobs: blobs, reading: make(chan struct{}, 1), kept: map[ccci.RunID]keptResult{}, pictures: map[ccci.RunID]*picture{}}
}

// of returns a finished run's result, or nil when it has none. Callers bound how many of them are
// held; see [Dashboard.turn].
func (c *resultCache) of(ctx context.Context, id ccci.RunID) (*ccci.Result, error) {
	result, ok := c.known(id)
	if ok {
		return result, nil
	}
	err := c.alone(ctx, func() (err error) {
		if result, ok = c.known(id); !ok { // others wait for the same
			result, err = c.read(ctx, id)
		}
		return err
	})
	return result, err
}

func (c *resultCache) known(id ccci.RunID) (*ccci.Result, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.kept[id]
	return kept.result, ok
}

// picture returns the newest screenshot of a finished run, or nil.
func (c *resultCache) picture(ctx context.Context, id ccci.RunID) (*picture, error) {
	shown, ok := c.knownPicture(id)
	if ok {
		return shown, nil
	}
	err := c.alone(ctx, func() (err error) {
		if shown, ok = c.knownPicture(id); !ok {
			_, err = c.read(ctx, id)
			shown, _ = c.knownPicture(id)
		}
		return err
	})
	return shown, err
}

func (c *resultCache) knownPicture(id ccci.RunID) (*picture, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown, ok := c.pictures[id]
	return shown, ok
}

// alone waits until no result is read, then calls do.
func (c *resultCache) alone(ctx context.Context, do func() error) error {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read reads a result and keeps it. Of one that cannot be used it keeps that there is no picture.
func (c *resultCache) read(ctx context.Context, id ccci.RunID) (*ccci.Result, error) {
	result, size, err := readResult(ctx, c.blobs, id)
	if errors.Is(err, ccci.ErrNotFound) {
		return nil, nil // it may still come
	}
	if err != nil && !errors.Is(err, errUnusable) {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepPicture(id, result)
	if err == nil {
		c.keep(id, result, size)
	}
	return result, err
}

func (c *resultCache) keep(id ccci.RunID, result *ccci.Result, size int64) {
	c.size -= c.kept[id].size
	delete(c.kept, id)
	for other, old := range c.kept { // any one will do
		if len(c.kept) < resultLimit && c.size+size <= resultsKeepLimit {
			break
		}
		delete(c.kept, other)
		c.size -= old.size
	}
	c.size += size
	c.kept[id] = keptResult{result, size}
}

func (c *resultCache) keepPicture(id ccci.RunID, result *ccci.Result) {
	for other := range c.pictures { // any one will do
		if len(c.pictures) < pictureLimit {
			break
		}
		delete(c.pictures, other)
	}
	c.pictures[id] = nil
	if all := pictures(result, "screenshot"); len(all) > 0 {
		if last := all[len(all)-1]; len(last.Title)+len(last.URL) <= pictureKeepLimit {
			c.pictures[id] = &picture{Title: strings.Clone(last.Title), URL: last.URL}
		}
	}
}

// errUnusable says that a result will never be read.
var errUnusable = errors.New("the result cannot be used")

func readResult(ctx context.Context, blobs ccci.BlobReader, id ccci.RunID) (_ *ccci.Result, size int64, err error) {
	r, _, err := blobs.Get(ctx, ccci.ResultKey(id))
	if err != nil {
		return nil, 0, fmt.Errorf("opening the result of run %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(r, ccci.ResultLimit+1))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the result of run %s: %w", id, err)
	}
	if len(raw) > ccci.ResultLimit {
		return nil, 0, fmt.Errorf("reading the result of run %s: %w: it has more than %d bytes", id, errUnusable, ccci.ResultLimit)
	}
	var result ccci.Result
	if err := json.Unmarshal(raw, &result); err != nil {
		return nil, 0, fmt.Errorf("reading the result of run %s: %w: %w", id, errUnusable, err)
	}
	return &result, int64(len(raw)), nil
}

// fileURL is the address of one artifact.
func fileURL(id ccci.RunID, path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/runs/" + string(id) + "/files/" + strings.Join(parts, "/")
}

// picture is a screenshot as pages show it.
type picture struct {
	Title string
	URL   string
}

// pictures returns a run's pictures of a kind, "screenshot" or "difference", in the order in which
// they were taken.
func pictures(result *ccci.Result, kind string) []picture {
	var all []picture
	if result == nil {
		return nil
	}
	for _, a := range result.Artifacts {
		if a.Kind == kind && imageKinds[ext(a.Path)] != "" {
			all = append(all, picture{Title: a.Title, URL: fileURL(result.RunID, a.Path)})
		}
	}
	return all
}

// thumbnail is the newest screenshot of a run, or nil. A picture can never
// spoil a page: trouble with it leaves it out (U16).
func (d *Dashboard) thumbnail(ctx context.Context, run *ccci.Run) *picture {
	if run == nil || !run.Status.Terminal() {
		return nil
	}
	shown, err := d.facts.picture(ctx, run.ID)
	if err != nil {
		d.log.Warn("looking for a screenshot", "run", run.ID, "error", err)
	}
	return shown
}
