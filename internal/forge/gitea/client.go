package gitea

import (
	"bytes"
	"cmp"
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
	limit   int64 // of an answer; 0: answerLimit
	now     func() time.Time

	mu    sync.Mutex
	until time.Time // the forge asked to be left alone until then
}

const (
	// answerLimit bounds what is read of one answer. It is not kept, see clip.go.
	answerLimit = 128 << 20
	// keptString is how much is kept of the beginning of each string in an answer.
	keptString = 256 << 10
	// refusalLimit bounds what is read of a refusal.
	refusalLimit = 64 << 10
)

// errTooLarge says that an answer was longer than the limit.
var errTooLarge = errors.New("the answer is too large")

// wanted is what a request is to bring.
type wanted struct {
	out   any   // the answer is decoded into it; a [decoder] does that itself
	keep  int   // of each string's beginning; 0: keptString
	limit int64 // of the answer; 0: answerLimit
	times int   // how many times the usual timeout it may take; 0: once
}

type decoder interface{ decode(*json.Decoder) error }

// each decodes a list row by row, so that one row at a time is in memory.
type each[T any] func(T)

func (f each[T]) decode(d *json.Decoder) error {
	switch begin, err := d.Token(); {
	case err != nil || begin == nil:
		return err
	case begin != json.Delim('['):
		return errors.New("it is no list")
	}
	for d.More() {
		var row T
		if err := d.Decode(&row); err != nil {
			return err
		}
		f(row)
	}
	_, err := d.Token()
	return err
}

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
	_, err := c.do(ctx, http.MethodGet, path, query, nil, wanted{out: out})
	return err
}

func (c *client) send(ctx context.Context, method, path string, in, out any) error {
	_, err := c.do(ctx, method, path, nil, in, wanted{out: out})
	return err
}

// do sends a request and decodes the answer. Its
// errors: [ccci.ErrNotFound] when the forge itself says so; everything else may be
// tried again, after [Busy.Until] where one is given.
func (c *client) do(ctx context.Context, method, path string, query url.Values, in any, want wanted) (http.Header, error) {
	if rest := c.resting(); rest != nil {
		return nil, explain(rest)
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, c.timeout*time.Duration(cmp.Or(want.times, 1)))
	defer cancel()
	header, err := c.roundTrip(ctx, method, path, query, in, want)
	if err != nil && whole.Err() != nil {
		return nil, fmt.Errorf("asking %s: %w", c.base.Host, whole.Err())
	}
	return header, explain(err)
}

func (c *client) roundTrip(ctx context.Context, method, path string, query url.Values, in any, want wanted) (http.Header, error) {
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
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		c.rest(resp.Header.Get("Retry-After"), resp.StatusCode)
	}
	if resp.StatusCode >= 300 {
		text, err := io.ReadAll(io.LimitReader(resp.Body, refusalLimit))
		if err != nil {
			return nil, fmt.Errorf("reading the answer of %s: %w", c.base.Host, err)
		}
		return resp.Header, &refusal{resp.StatusCode, message(resp, text)}
	}
	if resp.StatusCode == http.StatusNoContent {
		return resp.Header, &refusal{Status: resp.StatusCode}
	}
	if !isJSON(resp) {
		return nil, fmt.Errorf("%s does not answer in JSON but in %q: something stands in between", c.base.Host, resp.Header.Get("Content-Type"))
	}
	text := json.NewDecoder(newClipped(&bounded{resp.Body, cmp.Or(want.limit, c.limit, answerLimit)}, cmp.Or(want.keep, keptString)))
	if d, ok := want.out.(decoder); ok {
		err = d.decode(text)
	} else {
		err = text.Decode(want.out)
	}
	if err == nil {
		if _, err = text.Token(); errors.Is(err, io.EOF) {
			return resp.Header, nil
		}
		err = cmp.Or(err, errors.New("something stands after its end"))
	}
	return resp.Header, fmt.Errorf("reading the answer of %s: %w", c.base.Host, err)
}

// bounded is an answer that may not be longer than left.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
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

// ask sends a question that is answered by the status alone.
func (c *client) ask(ctx context.Context, path string) (status int, err error) {
	var none struct{}
	_, err = c.do(ctx, http.MethodGet, path, nil, nil, wanted{out: &none})
	if statusOf(err) == http.StatusNoContent {
		return http.StatusNoContent, nil
	}
	if err != nil {
		return statusOf(err), err
	}
	return http.StatusOK, nil
}
