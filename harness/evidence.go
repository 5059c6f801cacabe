package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
)

// screenshot takes a picture of the app. It never changes a verdict (U16).
func (l *life) screenshot(ctx context.Context, stage string) {
	if ctx.Err() != nil || l.runner == nil || !l.web {
		return
	}
	if err := l.withBrowser(); err != nil {
		l.sayf("no screenshot: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(l.settings.Timeouts.Step, 30*time.Second))
	defer cancel()
	shot, err := l.runner.Screenshot(ctx, l.settings.Screenshot, l.hidden())
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
	l.picture("screenshot-"+stage+".png", title, shot.PNG)
	if stage == "upgrade" {
		l.comparePictures(shot.PNG)
	} else {
		l.pictured = shot.PNG
	}
}

// comparePictures saves what differs between the pictures before and after the upgrade (P18). It never
// changes a verdict.
func (l *life) comparePictures(after []byte) {
	if l.pictured == nil || after == nil {
		return
	}
	picture, share, err := difference(l.pictured, after)
	l.pictured = nil
	switch {
	case err != nil:
		l.sayf("the pictures before and after the upgrade are not compared: %v", err)
	case share == 0:
		l.sayf("the pictures before and after the upgrade are the same")
	default:
		l.artifact("difference-upgrade.png", fmt.Sprintf("What differs after the upgrade: %.1f %% of the picture", 100*share), "difference", picture)
	}
}

// picture saves a screenshot, if there is one.
func (l *life) picture(path, title string, png []byte) {
	if png == nil {
		l.warn(path + " was not taken: " + checks.ErrSecretShown.Error())
		return
	}
	l.artifact(path, title, "screenshot", png)
}

// hidden lists what no picture may show: the secrets of every app of the run.
func (l *life) hidden() []string {
	var values []string
	add := func(secrets map[string]ccci.Secret) {
		for _, secret := range secrets {
			if value := secret.Reveal(); len(value) >= censor.MinLength {
				values = append(values, value)
			}
		}
	}
	add(l.secrets)
	for _, d := range l.dependencies {
		add(d.secrets)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// noteRefused says what pages asked for outside of the run. It was not loaded, which may be
// why a page looks different than elsewhere.
func (l *life) noteRefused() {
	browser, err := l.startedBrowser()
	if err != nil {
		return
	}
	if refused := browser.Refused(); len(refused) > 0 {
		l.warn("pages asked for addresses outside of the run, which the browser does not load: " + strings.Join(refused, ", "))
	}
}

// blank reports whether a picture shows one colour only. One that is too large to be read counts as blank.
func blank(picture []byte) bool {
	img, err := decodePicture(picture)
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

// keepLogs saves each service's log, masked, unless the look for secrets did it.
func (l *life) keepLogs(ctx context.Context) {
	if !l.logsKept {
		l.keepLogsOf(ctx, l.instance, "logs/", "Log of ")
	}
	for _, d := range l.dependencies {
		l.keepLogsOf(ctx, d.instance, "logs/"+safeName(d.recipe)+"/", "Log of dependency "+d.recipe+", ")
	}
}

func (l *life) keepLogsOf(ctx context.Context, in *instance, folder, title string) {
	if in.current == nil {
		return
	}
	if _, err := l.readLogs(ctx, in, folder, title); err != nil {
		l.sayf("reading the logs of %s: %v", in.recipe, err)
	}
}

// logLimit is how much of each log is kept, in bytes.
func (l *life) logLimit() int64 {
	n, err := parseSize(l.settings.Limits.Log)
	if err != nil || n <= 0 {
		return 10 << 20
	}
	return n
}

// infra is the error of a hook or test that could not be run at all.
func infra(format string, args ...any) error { return ccci.Errorf(ccci.CodeInfra, format, args...) }
