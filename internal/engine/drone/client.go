package drone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	callTimeout = 30 * time.Second
	answerLimit = 64 << 20 // bytes; a page of builds is far less, a log at most 5 MB before it is JSON
)

// call runs one request of drone-go, which knows neither contexts nor what a
// proxy in between may answer: ctx ends it, no redirect is followed (to a page for
// signing in), and an answer that is not JSON is an error with the server's words.
func (e *Engine) call(ctx context.Context, doing string, do func(drone.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	t := &transport{ctx: ctx, engine: e}
	err := do(drone.NewClient(e.opts.URL, &http.Client{Transport: t, CheckRedirect: noRedirect}))
	if err == nil {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case t.code == http.StatusNotFound && t.isJSON:
		return &ccci.Error{Code: ccci.CodeNotFound, Message: doing + ": Drone knows nothing of it", Err: ccci.ErrNotFound}
	case t.code == http.StatusUnauthorized || t.code == http.StatusForbidden:
		return ccci.Errorf(ccci.CodeInvalid, "%s: Drone refuses the token: %w", doing, err).
			WithHint("give cc-ci the token of a user who is an administrator of Drone and of %s", e.opts.Repo)
	}
	return ccci.Errorf(ccci.CodeInfra, "%s: %w", doing, shortened(err))
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// shortened keeps a page of HTML out of messages.
func shortened(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) <= 200 {
		return err
	}
	return errors.New(text[:200] + "…")
}

// transport serves one call.
type transport struct {
	ctx    context.Context
	engine *Engine
	code   int // of the last answer
	isJSON bool
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(t.ctx)
	r.Header.Set("Authorization", "Bearer "+t.engine.opts.Token.Reveal())
	resp, err := t.engine.opts.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.code = resp.StatusCode
	t.isJSON = strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	if resp.StatusCode < 300 && resp.StatusCode != http.StatusNoContent && !t.isJSON {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return nil, fmt.Errorf("the answer is not Drone's but %s: %q", resp.Header.Get("Content-Type"), text)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, answerLimit), resp.Body}
	return resp, nil
}
