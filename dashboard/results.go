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

// resultCache keeps the results of finished runs, which never change.
type resultCache struct {
	blobs ccci.BlobReader
	mu    sync.Mutex
	kept  map[ccci.RunID]keptResult
	size  int64 // bytes of what is kept, as it is stored
}

type keptResult struct {
	result *ccci.Result
	size   int64
}

const (
	resultLimit      = 1000     // results that are kept
	resultBytesLimit = 32 << 20 // of one result
	resultKeepLimit  = 1 << 20  // of one that is kept
	resultsKeepLimit = 16 << 20 // of all that are kept
)

func newResultCache(blobs ccci.BlobReader) *resultCache {
	return &resultCache{blobs: blobs, kept: map[ccci.RunID]keptResult{}}
}

// of returns a run's result, or nil when it has none (yet).
func (c *resultCache) of(ctx context.Context, run ccci.Run) (*ccci.Result, error) {
	c.mu.Lock()
	kept, ok := c.kept[run.ID]
	c.mu.Unlock()
	if ok {
		return kept.result, nil
	}
	result, size, err := readResult(ctx, c.blobs, run.ID)
	if err != nil && !errors.Is(err, ccci.ErrNotFound) {
		return nil, err
	}
	if !run.Status.Terminal() || result == nil || size > resultKeepLimit {
		return result, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, old := range c.kept { // any one will do
		if len(c.kept) < resultLimit && c.size+size <= resultsKeepLimit {
			break
		}
		delete(c.kept, id)
		c.size -= old.size
	}
	c.size += size - c.kept[run.ID].size
	c.kept[run.ID] = keptResult{result, size}
	return result, nil
}

func readResult(ctx context.Context, blobs ccci.BlobReader, id ccci.RunID) (_ *ccci.Result, size int64, err error) {
	r, _, err := blobs.Get(ctx, ccci.ResultKey(id))
	if err != nil {
		return nil, 0, fmt.Errorf("opening the result of run %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(r, resultBytesLimit))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the result of run %s: %w", id, err)
	}
	var result ccci.Result
	if err := json.Unmarshal(raw, &result); err != nil {
		return nil, 0, fmt.Errorf("reading the result of run %s: %w", id, err)
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

// pictures returns a run's screenshots in the order in which they were taken.
func pictures(result *ccci.Result) []picture {
	var all []picture
	if result == nil {
		return nil
	}
	for _, a := range result.Artifacts {
		if a.Kind == "screenshot" && imageKinds[ext(a.Path)] != "" {
			all = append(all, picture{Title: a.Title, URL: fileURL(result.RunID, a.Path)})
		}
	}
	return all
}

// thumbnail is the newest screenshot of a run, or nil. A picture can never
// spoil a page: trouble with it leaves it out (U16).
func (d *Dashboard) thumbnail(ctx context.Context, run *ccci.Run) *picture {
	if run == nil {
		return nil
	}
	result, err := d.facts.of(ctx, *run)
	if err != nil {
		d.log.Warn("looking for a screenshot", "run", run.ID, "error", err)
		return nil
	}
	if all := pictures(result); len(all) > 0 {
		return &all[len(all)-1]
	}
	return nil
}
