// Package checks runs the declarative steps of an enrolment against a deployed
// app: HTTP requests, conversations with a port, commands inside a container
// and actions in a real browser.
package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/template"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Target is the app under test as steps see it.
type Target struct {
	Domain  string            // the app's own host name
	Domains map[string]string // extra host names by the name that recipe.yml gives them
	// Hosts are those of the whole run; nil: Domain and Domains.
	Hosts *Hosts
	// HTTP reaches the run's hosts through the proxy and nothing else, and does
	// not follow redirects.
	HTTP *http.Client
	// Exec runs a command in the newest running container of a service.
	Exec func(ctx context.Context, service, user string, args []string, stdin []byte) (exit int, output []byte, err error)
	// Dial connects to a port of a service inside the app's own networks.
	Dial func(ctx context.Context, service string, port int) (io.ReadWriteCloser, error)
	// Behind fails if nothing of the app listens behind the proxy, where an answer with that
	// status may be the proxy's own; nil: it is not asked.
	Behind func(ctx context.Context, status int) error
	// Unrouted says why the proxy has no router for an address, and the way out; "" where it has
	// one. It is asked when the proxy answers by itself that it has none; nil: it is not asked.
	Unrouted func(host, path string) (why, hint string)
	// Browser is nil where none is to be had; browser steps then are unverified.
	Browser Browser
}

// Failure says what a step expected and what it saw instead.
type Failure struct {
	Message string
	Detail  []string // what was seen, at most 40 lines
	Of      string   // what the lines of Detail are, as "Answer, its first 40 lines"
	Hint    string   // the way out, if one is known
	Final   bool     // asking again cannot help
}

func (f *Failure) Error() string { return f.Message }

// seen is what a step saw in place of what it expected; the zero value is nothing.
type seen struct {
	what string
	text []byte
}

func bodyOf(body []byte) seen { return seen{"Answer", body} }

func failf(saw seen, format string, args ...any) *Failure {
	lines, cut := excerpt(saw.text)
	if len(lines) == 0 {
		saw.what = ""
	} else if cut {
		saw.what += fmt.Sprintf(", its first %d lines", len(lines))
	}
	return &Failure{Message: clip(fmt.Sprintf(format, args...)), Detail: lines, Of: saw.what}
}

// clip bounds a message: it may quote what an app answered or a page threw.
func clip(message string) string {
	const most = 2000
	message = strings.ToValidUTF8(message, "?")
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "…"
	}
	return message
}

// excerpt keeps the first lines of a body or of a command's output, and says whether there are more.
func excerpt(b []byte) (lines []string, cut bool) {
	const maxLines, maxWidth = 40, 400
	for line := range strings.Lines(strings.ToValidUTF8(string(b), "?")) {
		if len(lines) == maxLines {
			return lines, true
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) > maxWidth {
			line = line[:maxWidth] + "…"
		}
		lines = append(lines, line)
	}
	return lines, false
}

// ErrNoBrowser says that a browser step could not be run.
var ErrNoBrowser = errors.New("no browser is available")

// ErrNoPicture says that the steps to the page that is to be shown failed. Such a picture is of the
// page where they did.
var ErrNoPicture = errors.New("the steps of the screenshot failed")

// Vars are what templates in steps may name.
type Vars struct {
	Domain  string
	Recipe  string
	Marker  string
	Domains map[string]string
	Secrets map[string]string
	Vars    map[string]string
	Deps    map[string]string // of the dependencies, as "<recipe>.domain"
	App     string            // in a dependency's setup: the domain of the recipe under test
}

// Expand fills in a template. A name that has no value is an error: an empty
// string in its place would make a check that asks for nothing.
func (v Vars) Expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	strict := func(m map[string]string, key string) (string, error) {
		value, ok := m[key]
		if !ok {
			return "", fmt.Errorf("%q has no value", key)
		}
		return value, nil
	}
	t, err := template.New("value").Option("missingkey=error").Funcs(template.FuncMap{"index": strict}).Parse(text)
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInvalid, "reading the template %q: %w", text, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, v); err != nil {
		return "", ccci.Errorf(ccci.CodeInvalid, "filling in the template %q: %w", text, err)
	}
	return b.String(), nil
}

// ExpandMap fills in the values of a map.
func (v Vars) ExpandMap(m map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(m))
	for key, text := range m {
		value, err := v.Expand(text)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	return out, nil
}

// Runner runs steps one after the other; variables that a step saves are there
// for the next ones.
type Runner struct {
	Target Target
	Vars   Vars
	Limit  time.Duration // of one step that states none

	saved map[string]map[string]string // variables, by marker
}

// WithMarker returns a runner whose steps see another marker, and the variables that
// steps with that marker saved before: those of the data that it stands for.
func (r *Runner) WithMarker(marker string) *Runner {
	if r.saved == nil {
		r.saved = map[string]map[string]string{}
	}
	if r.saved[marker] == nil {
		r.saved[marker] = map[string]string{}
	}
	c := *r
	c.Vars.Marker, c.Vars.Vars = marker, r.saved[marker]
	return &c
}

// retryPause is how long a repeated step waits between two tries.
const retryPause = 200 * time.Millisecond

// Run runs one step. A step that did not see what it expects returns a
// [*Failure]; any other error means that it could not be asked.
func (r *Runner) Run(ctx context.Context, step ccci.Step) error {
	limit := step.Timeout
	if limit <= 0 {
		limit = r.Limit
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if !step.Retry {
		return r.once(ctx, step)
	}
	var last error
	for {
		err := r.once(ctx, step)
		if err == nil || ccci.CodeOf(err) == ccci.CodeInvalid || errors.Is(err, ErrNoBrowser) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(retryPause):
		}
	}
}

func (r *Runner) once(ctx context.Context, step ccci.Step) error {
	switch {
	case step.HTTP != nil:
		return r.http(ctx, *step.HTTP)
	case step.Exec != nil:
		return r.exec(ctx, *step.Exec)
	case step.TCP != nil:
		return r.tcp(ctx, *step.TCP)
	case step.Browser != nil:
		return r.browse(ctx, step.Browser)
	}
	return ccci.Errorf(ccci.CodeInvalid, "step %q does nothing", step.Name).WithHint("give it one of http, tcp, exec, browser")
}

func (r *Runner) host(name string) (string, error) {
	if name == "" {
		return r.Target.Domain, nil
	}
	host, ok := r.Target.Domains[name]
	if !ok {
		return "", ccci.Errorf(ccci.CodeInvalid, "there is no extra domain %q", name).WithHint("name it under domains: in recipe.yml")
	}
	return host, nil
}

// save keeps a value for later steps.
func (r *Runner) save(name, value string) {
	if r.Vars.Vars == nil {
		r.Vars.Vars = map[string]string{}
	}
	r.Vars.Vars[name] = value
}
