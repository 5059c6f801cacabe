package gitea

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// The API tells a comment's times in whole seconds, so one that is changed within the
// second in which it was written looks untouched. Whoever may write to the repository
// can change a member's comment, and a program is fast enough. What the web page
// shows as "edited" knows better: it counts the versions of each comment. It takes no
// token, so it answers for public repositories alone; of private ones the times are all
// there is.

// editedUnseen reports which comments of a pull request were changed, whatever
// their times say. nil when the page does not tell; an error when ctx ended before it did.
func (f *Forge) editedUnseen(whole context.Context, pr ccci.PRRef) (map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(whole, f.opts.Timeout)
	defer cancel()
	var overview struct {
		Versions map[string]int `json:"editedHistoryCountMap"` // by the comment's number; "0" is the pull request's own text
	}
	if err := f.page(ctx, fmt.Sprintf("/%s/%s/pulls/%d/content-history/overview", pr.Repo.Owner, pr.Repo.Name, pr.Number), &overview); whole.Err() != nil {
		return nil, fmt.Errorf("asking which comments on %s were changed: %w", pr, whole.Err())
	} else if err != nil {
		f.log.Debug("the page with the history of comments does not answer", "pr", pr, "error", err)
		return nil, nil
	}
	edited := map[int64]bool{}
	for id, versions := range overview.Versions {
		if n, err := strconv.ParseInt(id, 10, 64); err == nil && versions > 0 {
			edited[n] = true
		}
	}
	return edited, nil
}

// pageLimit bounds the body of such a page.
const pageLimit = 8 << 20

// page reads JSON from a page that needs no sign-in. The token stays here.
func (f *Forge) page(ctx context.Context, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base.String()+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "cc-ci")
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !isJSON(resp) {
		return fmt.Errorf("it answers %s in %q", resp.Status, resp.Header.Get("Content-Type"))
	}
	return json.NewDecoder(io.LimitReader(resp.Body, pageLimit)).Decode(out)
}

// markEdited corrects what the times of fresh comments say. An error means that it is not known.
func (f *Forge) markEdited(ctx context.Context, comments []ccci.Comment) error {
	known := map[int]map[int64]bool{}
	for i := range comments {
		c := &comments[i]
		// An old one that is read for the first time had its second long ago; that
		// it was changed within it concerns nobody: a bridge that starts takes no old commands.
		if c.Edited || f.opts.Now().Sub(c.Created) > freshFor {
			continue
		}
		edited, asked := known[c.PR.Number]
		if !asked {
			var err error
			if edited, err = f.editedUnseen(ctx, c.PR); err != nil {
				return err
			}
			known[c.PR.Number] = edited
		}
		if number, ok := commentNumber(c.ID); ok && edited[number] {
			c.Edited = true
		}
	}
	return nil
}

// freshFor is how long after it was written a comment may still be a command that nobody has read:
// what a bridge catches up with after it was down.
const freshFor = 48 * time.Hour
