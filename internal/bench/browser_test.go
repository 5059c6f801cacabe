package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/recipe-maintainers/cc-ci/internal/browser"
)

const (
	browserStarts = 9
	// browserBar is how much longer a confined browser may take to start than one without walls.
	browserBar = 500 * time.Millisecond
)

// BenchmarkBrowserStart measures what a run waits for its browser: a confined Chromium with an
// empty page. The reference is a Chromium of the same version that reaches everything.
func BenchmarkBrowserStart(b *testing.B) {
	path, err := browser.Find()
	if err != nil {
		b.Fatal(err)
	}
	confined := func() time.Duration {
		began := time.Now()
		chromium, err := browser.Start(b.Context(), browser.Options{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		defer chromium.Close()
		if _, err := chromium.Page(b.Context()); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	open := func() time.Duration {
		began := time.Now()
		opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(b.TempDir()), chromedp.NoSandbox)
		alloc, end := chromedp.NewExecAllocator(b.Context(), opts...)
		defer end()
		ctx, cancel := chromedp.NewContext(alloc)
		defer func() { _ = chromedp.Cancel(ctx); cancel() }()
		if err := chromedp.Do(context.WithoutCancel(ctx)); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	for b.Loop() {
		var ours, theirs []time.Duration
		for range browserStarts {
			ours = append(ours, confined())
			theirs = append(theirs, open())
		}
		more := median(ours) - median(theirs)
		b.ReportMetric(more.Seconds(), "s/more")
		verdict(b, more <= browserBar, row{
			figure: fmt.Sprintf("start of a confined browser, median of %d", browserStarts), ours: seconds(median(ours)),
			reference: "Chromium alone " + seconds(median(theirs)), ratio: fmt.Sprintf("%.2f", median(ours).Seconds()/median(theirs).Seconds()), bar: "at most " + seconds(browserBar) + " more",
		})
	}
}
