package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// fail turns an error of the client into one of the port: what is not there is
// ErrNotFound, and everything else may be tried again.
func (f *Forge) fail(activity string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", activity, err)
	}
	var own *ccci.Error
	if errors.As(err, &own) {
		return fmt.Errorf("%s: %w", activity, own)
	}
	var blocked *Blocked
	if errors.As(err, &blocked) {
		return ccci.Errorf(ccci.CodeInfra, "%s: %w", activity, blocked).
			WithHint("it goes on by itself at %s; fewer repositories, or a GitHub App, raise the limit", blocked.Until.UTC().Format(time.TimeOnly))
	}
	var answer *gh.ErrorResponse
	if !errors.As(err, &answer) || answer.Response == nil {
		return ccci.Errorf(ccci.CodeInfra, "%s: %w", activity, err)
	}
	said := answer.Message
	for _, e := range answer.Errors {
		if e.Message != "" {
			said += "; " + e.Message
		}
	}
	status := answer.Response.StatusCode
	switch {
	case (status == http.StatusNotFound || status == http.StatusGone) && answer.Message != "":
		return &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("%s: GitHub says %q", activity, said),
			Hint: "if it is there, the token may not see it" + wanted(answer.Response), Err: ccci.ErrNotFound}
	case status == http.StatusUnauthorized:
		return ccci.Errorf(ccci.CodeInfra, "%s: GitHub does not take the token: %w", activity, err).
			WithHint("it has expired or was revoked; make a new one")
	case status == http.StatusForbidden && strings.Contains(answer.Message, "is locked"):
		return ccci.Errorf(ccci.CodeRefused, "%s: the conversation is locked: %w", activity, ccci.ErrLocked).WithHint("unlock it, or give cc-ci write access")
	case (status == http.StatusForbidden || status == http.StatusUnprocessableEntity) && strings.Contains(strings.ToLower(said), "blocked"):
		return ccci.Errorf(ccci.CodeRefused, "%s: GitHub says %q: %w", activity, said, ccci.ErrLocked).WithHint("have the block of cc-ci's account lifted")
	case status == http.StatusForbidden && !strings.HasPrefix(answer.Message, "Resource not accessible"):
		return ccci.Errorf(ccci.CodeInfra, "%s: the token may not do that: %w", activity, errors.Join(ccci.ErrRefused, err)).WithHint("GitHub says %q%s", said, wanted(answer.Response))
	case status == http.StatusForbidden:
		return ccci.Errorf(ccci.CodeInfra, "%s: the token may not do that: %w", activity, err).WithHint("GitHub says %q%s", said, wanted(answer.Response))
	case status >= 300 && status < 400:
		return ccci.Errorf(ccci.CodeInfra, "%s: GitHub redirects to %q, which is not followed", activity, answer.Response.Header.Get("Location"))
	}
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests && answer.Message != "" {
		err = fmt.Errorf("%w: %w", ccci.ErrRefused, err)
	}
	return ccci.Errorf(ccci.CodeInfra, "%s: %w", activity, err)
}

// wanted names the rights that GitHub says would have done.
func wanted(resp *http.Response) string {
	if rights := resp.Header.Get("X-Accepted-GitHub-Permissions"); rights != "" {
		return "; the permission it wants: " + rights
	}
	if scopes := resp.Header.Get("X-Accepted-OAuth-Scopes"); scopes != "" {
		return "; the scope it wants: " + scopes
	}
	return ""
}

// statusOf is the HTTP status in an error's chain, or 0.
func statusOf(err error) int {
	var answer *gh.ErrorResponse
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.Response.StatusCode
	}
	return 0
}
