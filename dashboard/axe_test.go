package dashboard_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// axeSource is the text of axe-core, which tools/axe pins. npm brings it into the user's cache
// folder, whole or not at all.
var axeSource = sync.OnceValues(func() (string, error) {
	const pin = "../tools/axe"
	lock, err := os.ReadFile(filepath.Join(pin, "package-lock.json"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "cc-ci", "axe-"+hex.EncodeToString(sum[:6]))
	const script = "node_modules/axe-core/axe.min.js"
	if text, err := os.ReadFile(filepath.Join(dir, script)); err == nil {
		return string(text), nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	half, err := os.MkdirTemp(filepath.Dir(dir), "axe-half-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	if err := os.CopyFS(half, os.DirFS(pin)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = half
	if out, err := cmd.CombinedOutput(); err != nil {
		return string(out), err
	}
	text, err := os.ReadFile(filepath.Join(half, script))
	if err == nil {
		_ = os.Rename(half, dir) // another process may have been first
	}
	return string(text), err
})

// axe returns what axe-core finds on the page that is shown, as sentences.
func (b *tab) axe() []string {
	b.t.Helper()
	source, err := axeSource()
	if err != nil {
		b.t.Fatalf("fetching axe-core with npm: %v\n%s", err, source[:min(len(source), 2000)])
	}
	ctx, cancel := context.WithTimeout(b.ctx, 60*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](source+"; true")); err != nil {
		b.t.Fatal(err)
	}
	found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.map((v) =>
		v.id + " (" + v.impact + "): " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.target.join(" ") + " " + n.html.slice(0, 120)).join("; ")))`, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// A checker that finds nothing anywhere proves nothing.
func TestAxeFindsMistakes(t *testing.T) {
	b := openBrowser(t)
	b.open("data:text/html,<img src=x><h1>a</h1><h4>b</h4>")
	if found := b.axe(); len(found) < 3 {
		t.Errorf("axe finds %q", found)
	}
}
