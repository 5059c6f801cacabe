package browser_test

import (
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/browser"
)

// BenchmarkStart measures what a run waits for its browser: a process and an empty page.
func BenchmarkStart(b *testing.B) {
	if _, err := browser.Find(); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		chromium, err := browser.Start(b.Context(), browser.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := chromium.Page(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		chromium.Close()
		b.StartTimer()
	}
}
