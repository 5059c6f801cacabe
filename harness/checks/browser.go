package checks

import (
	"context"
	"errors"
	"fmt"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Browser is a real browser that reaches the run's host names and nothing else.
type Browser interface {
	// Page opens an empty page with cookies of its own. A browser that ended because of
	// an earlier page returns a [*Failure].
	Page(ctx context.Context) (Page, error)
	// Refused lists addresses outside of the run that pages asked for and did not get, as
	// "host:port", at most 20.
	Refused() []string
}

// ErrSecretShown says that there is no picture, because the page writes a secret as often
// as it is taken out.
var ErrSecretShown = errors.New("the page keeps showing a secret")

// Page is one page. Selectors are CSS. Each method waits until the page allows
// the action or ctx is done. A page that leaves the run's hosts, ends its renderer or
// opens dialogs without end can no longer be judged: every method then returns a
// [*Failure] that says so. Windows that it opens are closed, dialogs are dismissed.
// Close is legal twice.
type Page interface {
	Open(ctx context.Context, url string) error
	Fill(ctx context.Context, selector, value string) error
	Select(ctx context.Context, selector, value string) error
	Click(ctx context.Context, selector string) error
	See(ctx context.Context, selector string) error
	Text(ctx context.Context, text string) error
	AtURL(ctx context.Context, part string) error
	Press(ctx context.Context, key string) error
	// Visible returns the text that a person can read on the page.
	Visible(ctx context.Context) (string, error)
	// Status returns the HTTP status with which the document that is shown was answered, 0 if
	// that is not known.
	Status(ctx context.Context) (int, error)
	// Screenshot waits until the page is quiet, for a while, takes the texts to hide out of
	// the page, and returns a PNG of 1280×800, or ErrSecretShown. What is drawn without text,
	// such as an image, is not read.
	Screenshot(ctx context.Context, hide []string) ([]byte, error)
	Close()
}

func (r *Runner) browse(ctx context.Context, steps []ccci.BrowserStep) error {
	if r.Target.Browser == nil {
		return ErrNoBrowser
	}
	page, err := r.Target.Browser.Page(ctx)
	if err != nil {
		return fmt.Errorf("opening a browser page: %w", err)
	}
	defer page.Close()
	return r.walk(ctx, page, steps)
}

// walk does the steps on a page; what stops it is told with what the page shows.
func (r *Runner) walk(ctx context.Context, page Page, steps []ccci.BrowserStep) error {
	for i, step := range steps {
		what, err := r.act(ctx, page, step)
		if err == nil {
			continue
		}
		if ccci.CodeOf(err) == ccci.CodeInvalid {
			return err
		}
		text, _ := page.Visible(context.WithoutCancel(ctx))
		return failf(seen{"Text of the page", []byte(text)}, "browser step %d, %s: %v", i+1, what, inTime(err))
	}
	return nil
}

// inTime says of a page that let its time pass that it did.
func inTime(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("it did not come to that in time")
	}
	return err
}

func (r *Runner) act(ctx context.Context, page Page, step ccci.BrowserStep) (what string, err error) {
	value, err := r.Vars.Expand(step.Value)
	if err != nil {
		return "", err
	}
	switch {
	case step.Open != "":
		host, err := r.host(step.Domain)
		if err != nil {
			return "", err
		}
		path, err := r.Vars.Expand(step.Open)
		if err != nil {
			return "", err
		}
		return "open " + path, page.Open(ctx, "https://"+host+path)
	case step.Fill != "":
		return "fill " + step.Fill, page.Fill(ctx, step.Fill, value)
	case step.Select != "":
		return "select " + step.Select, page.Select(ctx, step.Select, value)
	case step.Click != "":
		return "click " + step.Click, page.Click(ctx, step.Click)
	case step.See != "":
		return "see " + step.See, page.See(ctx, step.See)
	case step.Press != "":
		return "press " + step.Press, page.Press(ctx, step.Press)
	case step.Text != "":
		text, err := r.Vars.Expand(step.Text)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("text %q", text), page.Text(ctx, text)
	case step.URL != "":
		part, err := r.Vars.Expand(step.URL)
		if err != nil {
			return "", err
		}
		return "url " + part, page.AtURL(ctx, part)
	}
	return "", ccci.Errorf(ccci.CodeInvalid, "a browser step does nothing").WithHint("give it one of open, fill, select, click, see, text, url, press")
}

// Shot is what a page showed.
type Shot struct {
	PNG    []byte // nil if the page keeps showing what is to be hidden
	Text   string // what a person can read there
	Status int    // with which the document was answered
}

// Screenshot shows the page that shot names and returns a picture of it, without the texts
// to hide, and what else is to be seen there. What goes wrong once there is a page is a [*Failure]. Where the
// steps failed, the page at which they did is returned with [ErrNoPicture].
func (r *Runner) Screenshot(ctx context.Context, shot ccci.Screenshot, hide []string) (Shot, error) {
	if r.Target.Browser == nil {
		return Shot{}, ErrNoBrowser
	}
	page, err := r.Target.Browser.Page(ctx)
	if err != nil {
		return Shot{}, fmt.Errorf("%w: opening a page: %w", ErrNoBrowser, err)
	}
	defer page.Close()
	if err := page.Open(ctx, "https://"+r.Target.Domain+or(shot.Path, "/")); err != nil {
		return Shot{}, failf(seen{}, "opening %s in the browser: %v", or(shot.Path, "/"), inTime(err))
	}
	walked := r.walk(ctx, page, shot.Steps)
	if walked != nil {
		if ccci.CodeOf(walked) == ccci.CodeInvalid {
			return Shot{}, walked
		}
		walked = fmt.Errorf("%w: %w", ErrNoPicture, walked)
	}
	png, err := page.Screenshot(ctx, hide)
	if err != nil && !errors.Is(err, ErrSecretShown) {
		return Shot{}, failf(seen{}, "taking a screenshot: %v", inTime(err))
	}
	text, err := page.Visible(ctx)
	if err != nil {
		return Shot{}, failf(seen{}, "reading the page in the browser: %v", inTime(err))
	}
	status, err := page.Status(ctx)
	if err != nil {
		return Shot{}, failf(seen{}, "reading the page in the browser: %v", inTime(err))
	}
	return Shot{png, text, status}, walked
}
