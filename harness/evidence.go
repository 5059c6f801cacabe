package harness

import (
	"bytes"
	"context"
	"errors"
	"image"
	_ "image/png" // screenshots
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// screenshot takes a picture of the app. It never changes a verdict (U16).
func (l *life) screenshot(ctx context.Context, stage string) {
	if ctx.Err() != nil || l.runner == nil {
		return
	}
	if err := l.withBrowser(); err != nil {
		l.sayf("no screenshot: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(l.Settings.Timeouts.Step, 30*time.Second))
	defer cancel()
	png, _, err := l.runner.Screenshot(ctx, l.Settings.Screenshot)
	if err != nil {
		var failure *checks.Failure
		if errors.As(err, &failure) {
			l.sayf("no screenshot: %s", failure.Message)
			return
		}
		l.sayf("no screenshot: %v", err)
		return
	}
	title := map[string]string{"install": "Before the upgrade", "upgrade": "After the upgrade"}[stage]
	if l.base == nil {
		title = "After the install"
	}
	l.artifact("screenshot-"+stage+".png", title, "screenshot", png)
}

// blank reports whether a picture shows one colour only.
func blank(picture []byte) bool {
	img, _, err := image.Decode(bytes.NewReader(picture))
	if err != nil {
		return true
	}
	b := img.Bounds()
	first := img.At(b.Min.X, b.Min.Y)
	for y := b.Min.Y; y < b.Max.Y; y += 4 {
		for x := b.Min.X; x < b.Max.X; x += 4 {
			if img.At(x, y) != first {
				return false
			}
		}
	}
	return true
}

// keepLogs saves each service's log, masked.
func (l *life) keepLogs(ctx context.Context) {
	if l.current == nil {
		return
	}
	logs, err := l.Deployer.Logs(ctx, l.current, l.logLimit())
	if err != nil {
		l.sayf("reading the services' logs: %v", err)
		return
	}
	for _, s := range l.current.Config.Services {
		if text, ok := logs[s.Name]; ok {
			l.artifact("logs/"+safeName(s.Name)+".log", "Log of "+s.Name, "log", text)
		}
	}
}

// logLimit is how much of each log is kept, in bytes.
func (l *life) logLimit() int64 {
	n, err := parseSize(l.Settings.Limits.Log)
	if err != nil || n <= 0 {
		return 10 << 20
	}
	return n
}

func (l *life) envVars() checks.Vars {
	return checks.Vars{Domain: l.result.Domain, Recipe: l.Job.Recipe, Domains: l.extraHosts(), Secrets: map[string]string{}, Vars: map[string]string{}}
}

// infra is the error of a hook or test that could not be run at all.
func infra(format string, args ...any) error { return ccci.Errorf(ccci.CodeInfra, format, args...) }
