package dashboard

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                 "plain",
		"\x1b[31mred\x1b[0m":                    "red",
		"\x1b]0;title\x07text":                  "text",
		"\x1b]8;;https://evil\x1b\\link":        "link",
		"10 %\r50 %\r100 %":                     "100 %",
		"windows\r":                             "windows",
		"a\tb":                                  "a\tb",
		"bell\x07":                              "bell\uFFFD",
		"turned \u202etxt.exe":                  "turned \uFFFDtxt.exe",
		"bad \xff byte":                         "bad \uFFFD byte",
		"\x1b[38;5;196mmany\x1b[K\x1b[1Acol":    "manycol",
		strings.Repeat("ä", lineLimit):          strings.Repeat("ä", lineLimit/2) + " …",
		strings.Repeat("x", 20*lineLimit) + "!": strings.Repeat("x", lineLimit) + " …",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%.40q) = %.60q, want %.60q", in, got, want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "\x1b", "\x1b[", "\x1b]x", "a\rb", "\xf0\x9f", "\u2066x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := plain(s)
		if !utf8.ValidString(got) || len(got) > lineLimit+len(" …") {
			t.Fatalf("plain(%q) = %q", s, got)
		}
		for _, r := range got {
			if r < ' ' && r != '\t' || r == 0x7f || r >= 0x202a && r <= 0x202e {
				t.Fatalf("plain(%q) holds %U", s, r)
			}
		}
	})
}

func TestLooksBad(t *testing.T) {
	for text, want := range map[string]bool{
		"ERROR: no such table": true, "task: non-zero exit (1): failed": true, "connection refused": true, "panic: runtime": true,
		"0 errors": false, "errors: 0": false, "installed error-pages": false, "errorlevel": false, "all good": false, "no failures": false,
	} {
		if looksBad(text) != want {
			t.Errorf("looksBad(%q) = %v", text, !want)
		}
	}
}

func TestCutLog(t *testing.T) {
	lines := func(n int, text string) string { return strings.Repeat(text+"\n", n) }
	log := cutLog([]byte("hello\n##[stage install begin]\n"+lines(2000, "busy")+"an error\n"+lines(1000, "more")+
		"##[stage install end fail 2.5s it broke]\nbye\nhalf a li"), false, logView{})
	if len(log.Sections) != 3 {
		t.Fatalf("%d sections", len(log.Sections))
	}
	install := log.Sections[1]
	if install.Total != 3001 || len(install.Lines) > sectionLimit+70 || install.Status != ccci.Fail || install.Took != "2.5 s" || install.Reason != "it broke" || !install.Open {
		t.Errorf("install: total %d, kept %d, %+v", install.Total, len(install.Lines), install.Status)
	}
	omitted, first := 0, 0
	for _, l := range install.Lines {
		omitted += l.Omitted
		if l.First {
			first++
			if l.Text != "an error" || l.Number != 2002 {
				t.Errorf("the first error is %+v", l)
			}
		}
	}
	if omitted+len(install.Lines) != install.Total || first != 1 || !log.HasError {
		t.Errorf("%d omitted, %d kept, %d first errors", omitted, len(install.Lines), first)
	}
	if log.Sections[0].Title != "Preparation" || log.Sections[2].Title != ending || len(log.Sections[2].Lines) != 1 {
		t.Errorf("around it: %+v %+v", log.Sections[0], log.Sections[2])
	}
	// An end without a begin, and one marker twice, make folds and no harm.
	odd := cutLog([]byte("##[stage backup end pass 1.000s]\n##[stage backup begin]\n##[stage backup begin]\nx"), true, logView{})
	if len(odd.Sections) != 3 || odd.Lines != 1 {
		t.Errorf("odd markers: %d sections, %d lines", len(odd.Sections), odd.Lines)
	}
}

func FuzzCutLog(f *testing.F) {
	f.Add("a\n##[stage install begin]\nb\n##[stage install end fail 1.000s x]\nc")
	f.Add("##[stage install end pass 1.000s]\n\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		part := cutLog([]byte(s), false, logView{})
		if part.Offset < 0 || part.Offset > int64(len(s)) || part.Offset > 0 && s[part.Offset-1] != '\n' {
			t.Fatalf("offset %d of %d", part.Offset, len(s))
		}
		if whole := cutLog([]byte(s), true, logView{}); whole.Offset != int64(len(s)) {
			t.Fatalf("whole offset %d of %d", whole.Offset, len(s))
		}
	})
}

func TestAgoAndDurations(t *testing.T) {
	for past, want := range map[time.Duration]string{
		0: "just now", 40 * time.Second: "40 s ago", 61 * time.Second: "1 min ago", 3 * time.Hour: "3 hours ago", 25 * time.Hour: "1 day ago",
		65 * 24 * time.Hour: "2 months ago", -90 * time.Second: "in 1 min", 800 * 24 * time.Hour: "2 years ago",
	} {
		if got := report.Ago(noon.Add(-past), noon); got != want {
			t.Errorf("%v: %q, want %q", past, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "", time.Microsecond: "1 ms", 480 * time.Millisecond: "480 ms", 3200 * time.Millisecond: "3.2 s", 42 * time.Second: "42 s",
		64 * time.Second: "1 min 04 s", 59*time.Minute + 59800*time.Millisecond: "60 min 00 s", 65 * time.Minute: "1 h 05 min",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 231 << 20: "231 MiB", 5 << 40: "5.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestU7_BadgeFaces(t *testing.T) {
	run := func(status ccci.Status, level int) ccci.Run {
		return ccci.Run{ID: "x", Trigger: ccci.TriggerSweep, Status: status, Level: level, Finished: noon.Add(-time.Hour)}
	}
	partial := run(ccci.StatusPassed, 5)
	partial.Options.Stages = []ccci.StageName{ccci.StageInstall}
	old := run(ccci.StatusFailed, 2)
	old.Finished = noon.Add(-99 * time.Hour)
	for name, c := range map[string]struct {
		runs  []ccci.Run
		text  string
		green bool
	}{
		"never":                     {nil, "not tested", false},
		"passed":                    {[]ccci.Run{run(ccci.StatusPassed, 5)}, "level 5", true},
		"failed at the first":       {[]ccci.Run{run(ccci.StatusFailed, 0)}, "failed", false},
		"failed later":              {[]ccci.Run{run(ccci.StatusFailed, 2)}, "failed, level 2", false},
		"failed long ago":           {[]ccci.Run{old}, "stale", false},
		"our fault":                 {[]ccci.Run{run(ccci.StatusErrored, 0)}, "infrastructure errored", false},
		"refused":                   {[]ccci.Run{run(ccci.StatusRefused, 0)}, "refused", false},
		"the time was up":           {[]ccci.Run{run(ccci.StatusInconclusive, 0)}, "inconclusive", false},
		"running after a pass":      {[]ccci.Run{run(ccci.StatusRunning, 0), run(ccci.StatusPassed, 5)}, "level 5", true},
		"our fault after a pass":    {[]ccci.Run{run(ccci.StatusErrored, 0), run(ccci.StatusPassed, 5)}, "level 5", true},
		"our fault after a fail":    {[]ccci.Run{run(ccci.StatusErrored, 0), run(ccci.StatusFailed, 2)}, "failed, level 2", false},
		"time was up after a pass":  {[]ccci.Run{run(ccci.StatusInconclusive, 0), run(ccci.StatusPassed, 5)}, "level 5", true},
		"flaky after a pass":        {[]ccci.Run{run(ccci.StatusFlaky, 3), run(ccci.StatusPassed, 5)}, "flaky, level 3", false},
		"refused after a pass":      {[]ccci.Run{run(ccci.StatusRefused, 0), run(ccci.StatusPassed, 5)}, "refused", false},
		"cancelled after a pass":    {[]ccci.Run{run(ccci.StatusCancelled, 0), run(ccci.StatusPassed, 5)}, "level 5", true},
		"a part says nothing":       {[]ccci.Run{partial}, "not tested", false},
		"a part after a fail":       {[]ccci.Run{partial, run(ccci.StatusFailed, 0)}, "failed", false},
		"queued for the first time": {[]ccci.Run{run(ccci.StatusQueued, 0)}, "not tested", false},
	} {
		f := stand("r", ccci.SubjectRecipe, c.runs, noon, 48*time.Hour).face()
		if f.text != c.text || f.full != c.text || (f.colour == levelColours[5]) != c.green {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A28: which run a page or a badge speaks of, and what it says that the verdict is about.
func TestA28_WhichRunSpeaks(t *testing.T) {
	commit := ccci.Commit(strings.Repeat("6f2c1c0d", 5))
	head := ccci.Commit(strings.Repeat("1a2b3c4d", 5))
	run := func(id ccci.RunID, age time.Duration, change func(*ccci.Run)) ccci.Run {
		r := ccci.Run{ID: id, Commit: commit, Status: ccci.StatusPassed, Level: 5, Created: noon.Add(-age), Finished: noon.Add(-age)}
		change(&r)
		return r
	}
	swept := func(r *ccci.Run) { r.Trigger, r.Branch = ccci.TriggerSweep, "main" }
	release := func(r *ccci.Run) { r.Trigger, r.Release = ccci.TriggerSweep, "1.2.0+3.4" }
	pull := func(r *ccci.Run) { r.PR.Number, r.Branch, r.Status, r.Level = 7, "update", ccci.StatusFailed, 1 }
	merged := func(as ccci.Commit, into string, ago time.Duration, same bool) func(*ccci.Run) {
		return func(r *ccci.Run) {
			pull(r)
			r.Merge = ccci.Merge{Branch: into, Default: into == "main", Commit: as, Same: same, At: noon.Add(-ago)}
		}
	}
	for name, c := range map[string]struct {
		about  ccci.Subject
		runs   []ccci.Run // newest first
		speaks ccci.RunID
		words  string
	}{
		"never":                       {ccci.SubjectRecipe, nil, "", ""},
		"a pull request alone":        {ccci.SubjectRecipe, []ccci.Run{run("a", 1, pull)}, "", ""},
		"a red one after the sweep":   {ccci.SubjectRecipe, []ccci.Run{run("b", 1, pull), run("a", 2, swept)}, "a", "main at 6f2c1c0d"},
		"a release":                   {ccci.SubjectRecipe, []ccci.Run{run("a", 1, release)}, "a", "release 1.2.0+3.4 at 6f2c1c0d"},
		"a sweep of an older version": {ccci.SubjectRecipe, []ccci.Run{run("a", 1, func(r *ccci.Run) { r.Trigger = ccci.TriggerSweep })}, "a", "commit 6f2c1c0d, tested by the sweep"},
		"merged by fast forward":      {ccci.SubjectRecipe, []ccci.Run{run("a", 2, merged(commit, "main", 1, true))}, "a", "main at 6f2c1c0d, tested as pull request #7"},
		"merged":                      {ccci.SubjectRecipe, []ccci.Run{run("a", 2, merged(head, "main", 1, true))}, "a", "main at 1a2b3c4d, tested as pull request #7 at 6f2c1c0d, with the same files"},
		"merged after a newer sweep":  {ccci.SubjectRecipe, []ccci.Run{run("b", 2, swept), run("a", 3, merged(head, "main", 1, true))}, "a", "main at 1a2b3c4d, tested as pull request #7 at 6f2c1c0d, with the same files"},
		"merged before a newer sweep": {ccci.SubjectRecipe, []ccci.Run{run("b", 1, swept), run("a", 3, merged(head, "main", 2, true))}, "b", "main at 6f2c1c0d"},
		"merged with other files":     {ccci.SubjectRecipe, []ccci.Run{run("a", 2, merged(head, "main", 1, false))}, "", ""},
		"merged elsewhere":            {ccci.SubjectRecipe, []ccci.Run{run("a", 2, merged(head, "stable", 1, true))}, "", ""},
		"the pull request":            {ccci.SubjectPull(7), []ccci.Run{run("b", 1, swept), run("a", 2, merged(head, "main", 1, true))}, "a", "pull request #7 at 6f2c1c0d"},
		"its branch":                  {ccci.SubjectBranch("update"), []ccci.Run{run("a", 2, merged(head, "main", 1, true))}, "a", "pull request #7 at 6f2c1c0d"},
		"another pull request":        {ccci.SubjectPull(8), []ccci.Run{run("a", 2, pull)}, "", ""},
		"the branch merged into":      {ccci.SubjectBranch("stable"), []ccci.Run{run("a", 2, merged(head, "stable", 1, true))}, "a", "stable at 1a2b3c4d, tested as pull request #7 at 6f2c1c0d, with the same files"},
		"the default branch by name":  {ccci.SubjectBranch("main"), []ccci.Run{run("a", 2, swept)}, "a", "main at 6f2c1c0d"},
	} {
		s := stand("r", c.about, c.runs, noon, 48*time.Hour)
		var speaks ccci.RunID
		if s.Speaks != nil {
			speaks = s.Speaks.ID
		}
		if speaks != c.speaks || s.About() != c.words {
			t.Errorf("%s: %q speaks, about %q; want %q, %q", name, speaks, s.About(), c.speaks, c.words)
		}
	}
}

// What is asked of a badge is bounded, and what cannot be asks the store nothing.
func TestA28_WhatABadgeIsAskedAbout(t *testing.T) {
	for query, want := range map[string][2]string{
		"": {"recipe"}, "x=1": {"recipe"}, "pr=7": {"pr/7"}, "branch=main": {"branch/main"}, "branch=fix%2Fa+b": {"branch/fix/a b"}, "branch=%C3%BC": {"branch/ü"},
		"branch=" + strings.Repeat("a", 255): {"branch/" + strings.Repeat("a", 255)}, "branch='+OR+1=1": {"branch/' OR 1=1"},
		"pr=": {"", "pull request"}, "pr=0": {"", "pull request"}, "pr=-1": {"", "pull request"}, "pr=%2B7": {"", "pull request"}, "pr=07": {"", "pull request"}, "pr=7x": {"", "pull request"},
		"pr=99999999999999999999": {"", "pull request"}, "pr=4294967303": {"", "pull request"}, "branch=": {"", "branch"}, "branch=" + strings.Repeat("a", 256): {"", "branch"}, "branch=a%0Ab": {"", "branch"}, "branch=%FF": {"", "branch"},
		"pr=7&branch=main": {"", "branch"}, "pr=1&pr=2": {"", "branch"}, "branch=a&branch=b": {"", "branch"},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if about, unknown := subjectOf(q); string(about) != want[0] || unknown != want[1] {
			t.Errorf("?%s: %q, %q; want %q", query, about, unknown, want)
		}
	}
}

// U7, N7: a badge says how much was skipped and its title what, whatever the level; its boxes are as
// wide as the text.
func TestN7_BadgesNameSkips(t *testing.T) {
	skipped := []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Pass}, {Name: ccci.StageUpgrade, Status: ccci.Skip}, {Name: ccci.StageBackup, Status: ccci.Skip},
		{Name: ccci.StageRestore, Status: ccci.Skip}, {Name: ccci.StageChecks, Status: ccci.Pass}}
	for name, c := range map[string]struct {
		status     ccci.Status
		level      int
		age        time.Duration
		text, full string
	}{
		"passed": {ccci.StatusPassed, 5, time.Hour, "level 5, 3 skipped", "level 5 (skipped: upgrade, backup, restore)"},
		"failed": {ccci.StatusFailed, 1, time.Hour, "failed, level 1, 3 skipped", "failed, level 1 (skipped: upgrade, backup, restore)"},
		"stale":  {ccci.StatusPassed, 5, 99 * time.Hour, "level 5, 3 skipped, stale", "level 5 (skipped: upgrade, backup, restore), stale"},
	} {
		run := ccci.Run{ID: "x", Trigger: ccci.TriggerSweep, Status: c.status, Level: c.level, Finished: noon.Add(-c.age), Stages: skipped}
		f := stand("r", ccci.SubjectRecipe, []ccci.Run{run}, noon, 48*time.Hour).face()
		if f.text != c.text || f.full != c.full {
			t.Errorf("%s: %+v", name, f)
		}
		svg := string(drawSVG("cc-ci", f))
		for _, want := range []string{`aria-label="cc-ci: ` + c.full + `"`, "<title>cc-ci: " + c.full + "</title>", ">" + c.text + "</text>", fmt.Sprintf(`textLength="%d"`, textWidth(c.text))} {
			if !strings.Contains(svg, want) {
				t.Errorf("%s: %q is not in %s", name, want, svg)
			}
		}
	}
}

// N7: the bars of a level leave open what was skipped below it.
func TestN7_RungsLeaveSkipsOpen(t *testing.T) {
	rows := []ccci.StageRow{{Name: ccci.StageUpgrade, Status: ccci.Skip}, {Name: ccci.StageBackup, Status: ccci.Pass}, {Name: ccci.StageRestore, Status: ccci.Skip}}
	if got := rungs(ccci.Run{Level: 4, Stages: rows}); !slices.Equal(got, []string{"on", "skip", "on", "on", ""}) {
		t.Errorf("%q", got)
	}
}

// White text on every badge can be read.
func TestBadgeContrast(t *testing.T) {
	light := func(hex string) float64 {
		var c [3]int
		fmt.Sscanf(hex, "#%02x%02x%02x", &c[0], &c[1], &c[2])
		sum := 0.0
		for i, weight := range []float64{.2126, .7152, .0722} {
			v := float64(c[i]) / 255
			if v <= .03928 {
				v /= 12.92
			} else {
				v = pow24((v + .055) / 1.055)
			}
			sum += weight * v
		}
		return sum
	}
	for _, colour := range append(slices.Clone(levelColours[:]), badgeGrey, badgeRed, badgeViolet, "#33383f") {
		if ratio := 1.05 / (light(colour) + .05); ratio < 4.5 {
			t.Errorf("white on %s has a contrast of %.2f", colour, ratio)
		}
	}
}

// pow24 is x to the power of 2.4, by way of fifth roots.
func pow24(x float64) float64 {
	root := x
	for range 60 {
		root -= (root*root*root*root*root - x) / (5 * root * root * root * root)
	}
	return x * x * root * root
}

func TestDrawSVGEscapes(t *testing.T) {
	svg := string(drawSVG("cc-ci", faceOf(`<"&'>`, badgeGrey)))
	if strings.Contains(svg, `<"&`) || !regexp.MustCompile(`<title>cc-ci: &lt;&#34;&amp;&#39;&gt;</title>`).MatchString(svg) {
		t.Error(svg)
	}
}

func TestBadgeCacheDrawsOnceForMany(t *testing.T) {
	var drawn atomic.Int32
	release := make(chan struct{})
	c := newBadgeCache(func(context.Context, badgeKey) (drawnBadge, error) {
		drawn.Add(1)
		<-release
		return drawnBadge{etag: "x"}, nil
	}, func() time.Time { return noon })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if b, err := c.get(t.Context(), badgeKey{recipe: "r"}); err != nil || b.etag != "x" {
				t.Errorf("%+v %v", b, err)
			}
		})
	}
	close(release)
	wg.Wait()
	if n := drawn.Load(); n != 1 {
		t.Errorf("drawn %d times", n)
	}
	if _, err := c.get(t.Context(), badgeKey{"r", ccci.SubjectPull(7)}); err != nil || drawn.Load() != 2 {
		t.Errorf("the badge of a pull request: drawn %d times, %v", drawn.Load(), err)
	}
	c.forget("r")
	if len(c.entries) != 0 {
		t.Errorf("after forget %d badges are kept", len(c.entries))
	}
	if _, err := c.get(t.Context(), badgeKey{recipe: "r"}); err != nil || drawn.Load() != 3 {
		t.Errorf("after forget drawn %d times, %v", drawn.Load(), err)
	}
	for i := range 3 * badgeLimit {
		_, _ = c.get(t.Context(), badgeKey{recipe: fmt.Sprint(i)})
		_, _ = c.get(t.Context(), badgeKey{"r", ccci.SubjectPull(i)})
	}
	if len(c.entries) > badgeLimit {
		t.Errorf("%d entries: whoever asks fills the memory", len(c.entries))
	}
}

func TestBadgeCacheForgetsFailures(t *testing.T) {
	fail := true
	c := newBadgeCache(func(context.Context, badgeKey) (drawnBadge, error) {
		if fail {
			return drawnBadge{}, fmt.Errorf("the store is away")
		}
		return drawnBadge{}, nil
	}, func() time.Time { return noon })
	if _, err := c.get(t.Context(), badgeKey{recipe: "r"}); err == nil {
		t.Fatal("no error")
	}
	fail = false
	if _, err := c.get(t.Context(), badgeKey{recipe: "r"}); err != nil {
		t.Errorf("the failure was kept: %v", err)
	}
}

func TestMarkdown(t *testing.T) {
	d := &Dashboard{}
	for in, want := range map[string]string{
		"!testme":                    "<p>!testme</p>\n",
		"a <!-- b > c --> d":         "<p>a  d</p>\n",
		"<kbd>x</kbd>":               "<p><kbd>x</kbd></p>\n",
		"<kbd onclick=x>x</kbd>":     "<p>x</kbd></p>\n",
		"</details>":                 "",
		"<details>":                  "<details></details>",
		"- [x] done":                 "<ul>\n<li><input checked=\"\" disabled=\"\" type=\"checkbox\"> done</li>\n</ul>\n",
		"![a](/x.png)":               "<p><img src=\"/x.png\" alt=\"a\"></p>\n",
		"![a](//evil/x.png)":         "<p><a href=\"\" rel=\"nofollow noopener noreferrer\">a</a></p>\n",
		"https://other.example/":     "<p><a href=\"https://other.example/\" rel=\"nofollow noopener noreferrer\">https://other.example/</a></p>\n",
		"<svg onload=alert(1)>x":     "<p>x</p>\n",
		"<details\nonclick=x>\ny\n":  "\ny\n",
		"a ✅ b&c ⚠️":                 "<p>a " + string(symbol('✅')) + " b&amp;c " + string(symbol('⚠')) + "</p>\n",
		"`✅` ![❌](/x.png)":           "<p><code>✅</code> <img src=\"/x.png\" alt=\"❌\"></p>\n",
		"<details><summary>🔄 & <b>x": "<details><summary>" + string(symbol('🔄')) + " &amp; x</summary></details>",
	} {
		if got, err := d.markdown(in); err != nil || string(got) != want {
			t.Errorf("markdown(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

// Whatever the bot says is drawn, so that no font is needed for it.
func TestA10_NoEmojiOfTheBotIsLeft(t *testing.T) {
	files, err := filepath.Glob("../internal/report/testdata/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no comments to look at: %v", err)
	}
	d := &Dashboard{}
	seen := map[rune]bool{}
	for _, file := range files {
		if filepath.Base(file) == "hostile.md" {
			continue // repeats what others wrote
		}
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range string(body) {
			seen[r] = true
		}
		got, err := d.markdown(string(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range string(got) {
			if unicode.Is(unicode.So, r) || r == '➖' || r == '\ufe0f' {
				t.Errorf("%s: %q (%U) is not drawn", file, r, r)
			}
		}
	}
	for emoji, s := range symbols {
		if !seen[emoji] {
			t.Errorf("no comment has %q, but it is drawn", emoji)
		}
		if icons[s.icon] == "" || s.name == "" {
			t.Errorf("%q: no icon %q, or no name", emoji, s.icon)
		}
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"<details>", "</details>", "<script>x", "![a](b)", "[a](javascript:x)", "<a href=x onclick=y>", "<img src=x>", "<details/open ontoggle=x>", "<<details>details>", "✅<script>", "**⚠️** `❌`", "<summary>🔄<b>"} {
		f.Add(s)
	}
	hot := regexp.MustCompile(`(?i)<(script|iframe|object|style|form|svg|math|link|meta|base|[a-z]+[^>"]*\son[a-z]+\s*=)|(href|src)="\s*(javascript|vbscript|data):`)
	d := &Dashboard{}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := d.markdown(s)
		if err != nil {
			t.Fatal(err)
		}
		plain := string(got)
		for emoji := range symbols {
			plain = strings.ReplaceAll(plain, string(symbol(emoji)), "")
		}
		if hot.MatchString(plain) {
			t.Fatalf("%q becomes %q", s, got)
		}
		if strings.Count(string(got), "<details>") != strings.Count(string(got), "</details>") {
			t.Fatalf("%q leaves a fold open: %q", s, got)
		}
	})
}
