package gitea

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// client sends one request and believes an answer only when it is the forge's own:
// a proxy in front of it that says 404 while the forge restarts must not look
// like a repository that is gone.
type client struct {
	base    *url.URL
	token   ccci.Secret
	http    *http.Client
	timeout time.Duration
	now     func() time.Time

	mu    sync.Mutex
	until time.Time // the forge asked to be left alone until then
}

// answerLimit bounds the body of an answer.
const answerLimit = 8 << 20

// errTooLarge says that a body was longer than the limit.
var errTooLarge = errors.New("the answer is too large")

// refusal is an answer of the forge other than what was asked for.
type refusal struct {
	Status  int
	Message string // the forge's own words; "" when the answer is not the forge's
}

func (r *refusal) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("it answers %d %s", r.Status, http.StatusText(r.Status))
	}
	return fmt.Sprintf("it answers %d: %s", r.Status, r.Message)
}

// statusOf is the HTTP status in an error's chain, or 0.
func statusOf(err error) int {
	var r *refusal
	if errors.As(err, &r) {
		return r.Status
	}
	return 0
}

func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.do(ctx, http.MethodGet, path, query, nil, out, answerLimit)
	return err
}

func (c *client) send(ctx context.Context, method, path string, in, out any) error {
	_, err := c.do(ctx, method, path, nil, in, out, answerLimit)
	return err
}

// do sends a request and decodes the answer into out, unless that is nil. Its
// errors: [ccci.ErrNotFound] when the forge itself says so; everything else may be
// tried again, after [Busy.Until] where one is given.
func (c *client) do(ctx context.Context, method, path string, query url.Values, in, out any, limit int64) (http.Header, error) {
	if rest := c.resting(); rest != nil {
		return nil, explain(rest)
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	header, err := c.roundTrip(ctx, method, path, query, in, out, limit)
	if err != nil && whole.Err() != nil {
		return nil, fmt.Errorf("asking %s: %w", c.base.Host, whole.Err())
	}
	return header, explain(err)
}

func (c *client) roundTrip(ctx context.Context, method, path string, query url.Values, in, out any, limit int64) (http.Header, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	address := c.base.String() + "/api/v1" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "token "+c.token.Reveal())
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "cc-ci")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.base.Host, err)
	}
	if int64(len(text)) > limit {
		return resp.Header, errTooLarge
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		c.rest(resp.Header.Get("Retry-After"), resp.StatusCode)
	}
	if resp.StatusCode >= 300 {
		return resp.Header, &refusal{resp.StatusCode, message(resp, text)}
	}
	if resp.StatusCode == http.StatusNoContent {
		return resp.Header, &refusal{Status: resp.StatusCode}
	}
	if !isJSON(resp) {
		return nil, fmt.Errorf("%s does not answer in JSON but in %q: something stands in between", c.base.Host, resp.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.base.Host, err)
	}
	return resp.Header, nil
}

func isJSON(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// message is what the forge itself says with a refusal: "" for a page of somebody else.
func message(resp *http.Response, text []byte) string {
	var said struct {
		Message string `json:"message"`
	}
	if !isJSON(resp) || json.Unmarshal(text, &said) != nil {
		return ""
	}
	said.Message = strings.Join(strings.Fields(said.Message), " ")
	return said.Message[:min(len(said.Message), 300)]
}

// explain turns an answer into an error of the port.
func explain(err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.Status == http.StatusNotFound && r.Message != "":
		return &ccci.Error{Code: ccci.CodeNotFound, Message: r.Error(), Err: errors.Join(ccci.ErrNotFound, r),
			Hint: "if it is there, cc-ci's account may not see it, or its token lacks a scope"}
	case r.Status == http.StatusUnauthorized:
		return ccci.Errorf(ccci.CodeInfra, "it does not take the token: %w", r).WithHint("it was revoked, or is another forge's; make a new one")
	case r.Status == http.StatusForbidden && (strings.Contains(r.Message, "blocked") || strings.Contains(r.Message, "locked")):
		return &ccci.Error{Code: ccci.CodeRefused, Message: r.Error(), Err: errors.Join(ccci.ErrLocked, r),
			Hint: "unlock the conversation, or have the block of cc-ci's account lifted"}
	case r.Status == http.StatusForbidden && strings.Contains(r.Message, "limited to public"):
		return ccci.Errorf(ccci.CodeRefused, "the token was made for what is public alone: %w", r).
			WithHint("make another one with Repository and Organization Access: All, and put it into the token's file")
	case r.Status == http.StatusForbidden:
		return ccci.Errorf(ccci.CodeInfra, "it does not allow that: %w", r.alone()).
			WithHint("the token needs write:issue, write:repository, read:organization and read:user, and the account may need write access to the repository")
	case r.Status >= 300 && r.Status < 400:
		return ccci.Errorf(ccci.CodeInfra, "it redirects, which is not followed: %w", r).
			WithHint("a repository that was renamed must be configured by its present name; an address that begins with http:// may have to begin with https://")
	}
	return ccci.Errorf(ccci.CodeInfra, "%w", r.alone())
}

// alone adds [ccci.ErrRefused] where the forge itself refuses what was asked for, and
// not all that this account or token may ask for.
func (r *refusal) alone() error {
	switch {
	case r.Message == "", r.Status < 400, r.Status >= 500,
		r.Status == http.StatusUnauthorized, r.Status == http.StatusRequestTimeout, r.Status == http.StatusTooManyRequests,
		r.Status == http.StatusForbidden && strings.Contains(r.Message, "scope"):
		return r
	}
	return &refusedHere{r}
}

// refusedHere is a refusal that is an [ccci.ErrRefused].
type refusedHere struct{ *refusal }

func (r *refusedHere) Unwrap() []error { return []error{ccci.ErrRefused, r.refusal} }

// Busy says that the forge asked to be left alone for a while. Nothing is sent until then.
type Busy struct{ Until time.Time }

func (b *Busy) Error() string {
	return "it asked to be left alone until " + b.Until.UTC().Format(time.TimeOnly)
}

const restLimit = 15 * time.Minute

// rest keeps the next requests back as Retry-After wants it: seconds, or a date.
func (c *client) rest(after string, status int) {
	var pause time.Duration
	if seconds, err := strconv.Atoi(strings.TrimSpace(after)); err == nil {
		pause = time.Duration(min(max(seconds, 0), int(restLimit/time.Second))) * time.Second
	} else if date, err := http.ParseTime(after); err == nil {
		pause = date.Sub(c.now())
	} else if status == http.StatusTooManyRequests {
		pause = 10 * time.Second
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := c.now().Add(min(pause, restLimit)); until.After(c.until) {
		c.until = until
	}
}

func (c *client) resting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.now().Before(c.until) {
		return nil
	}
	return ccci.Errorf(ccci.CodeInfra, "%w", &Busy{c.until})
}

// pageSize is the most that a forge gives at once, as it is delivered.
const pageSize = 50

// emptyEnd is how many empty pages in a row end a list whose pages lose rows after
// they were cut (see the timeline in head.go).
const emptyEnd = 3

// skipLimit bounds how many rows of one list may be too large.
const skipLimit = 20

// pages reads a list page by page. Where the forge counts the whole list (counted),
// it ends as soon as all of it is there, else after `empty` pages without a row.
// A page that is too large is read again in smaller ones; a single row that is too
// large is left out: nothing that matters here has that size.
func pages[T any](ctx context.Context, c *client, path string, query url.Values, counted bool, empty int) (rows []T, reads int, err error) {
	for _, size := range []int{pageSize, 5, 1} {
		rows, reads, err = pagesOf[T](ctx, c, path, query, counted, empty, size)
		if !errors.Is(err, errTooLarge) {
			return rows, reads, err
		}
	}
	return rows, reads, err
}

func pagesOf[T any](ctx context.Context, c *client, path string, query url.Values, counted bool, empty, size int) (rows []T, reads int, err error) {
	q := url.Values{"limit": {strconv.Itoa(size)}}
	for k, v := range query {
		q[k] = v
	}
	left, passed, skipped := empty, 0, 0
	for page := 1; ; page++ {
		if page > 1 {
			q.Set("page", strconv.Itoa(page))
		}
		var some []T
		header, err := c.do(ctx, http.MethodGet, path, q, nil, &some, answerLimit)
		reads++
		switch {
		case errors.Is(err, errTooLarge) && size == 1 && skipped < skipLimit:
			skipped++
			passed++
			left = empty
			continue
		case err != nil:
			return nil, reads, err
		}
		rows = append(rows, some...)
		passed += len(some)
		if total, err := strconv.Atoi(header.Get("X-Total-Count")); counted && err == nil && passed >= total {
			return rows, reads, nil
		}
		if left--; len(some) > 0 {
			left = empty
		}
		if left == 0 {
			return rows, reads, nil
		}
	}
}

// ask sends a question that is answered by the status alone.
func (c *client) ask(ctx context.Context, path string) (status int, err error) {
	var none struct{}
	_, err = c.do(ctx, http.MethodGet, path, nil, nil, &none, answerLimit)
	if statusOf(err) == http.StatusNoContent {
		return http.StatusNoContent, nil
	}
	if err != nil {
		return statusOf(err), err
	}
	return http.StatusOK, nil
}
