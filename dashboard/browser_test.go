package dashboard_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/host"
)

// tab is a page in a real Chromium that remembers what went wrong in it.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string
	requests []string
	changed  bool // the network of this machine changed, which ends all that Chromium loads
}

// openBrowser starts a Chromium with one page.
func openBrowser(t *testing.T) *tab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts Chromium")
	}
	path := host.Chromium()
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no Chromium on this machine; the pages go unseen")
		}
		t.Skip("there is no Chromium on this machine")
	}
	dir, err := os.MkdirTemp("", "cc-ci-test-") // t.TempDir is too long for its socket, which it leaves behind
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Env("TMPDIR="+dir), chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("hide-scrollbars", true))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); cancel(); cancelAlloc() })
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	if err := chromedp.Listen(ctx, b.watch); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *tab) watch(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, networkChanged) {
			b.changed = true
		} else if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.troubles = append(b.troubles, fmt.Sprintf("console: %s %s", e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		b.troubles = append(b.troubles, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.troubles = append(b.troubles, "console call of type "+string(e.Type))
		}
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

// taken returns and forgets the troubles and requests so far.
func (b *tab) taken() (troubles, requests []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	troubles, requests, b.troubles, b.requests = b.troubles, b.requests, nil, nil
	return troubles, requests
}

// networkChanged is Chromium's error for what it was loading when an interface came or went: tests that
// run beside this one start containers.
const networkChanged = "net::ERR_NETWORK_CHANGED"

// open loads a page, and once more when the network of the machine changed meanwhile.
func (b *tab) open(url string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	for {
		b.mu.Lock()
		b.changed = false
		b.mu.Unlock()
		err := chromedp.Do(ctx, chromedp.Navigate(url))
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if err == nil && !changed {
			return
		}
		if err != nil && !strings.Contains(err.Error(), networkChanged) {
			b.t.Fatal(err)
		}
	}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script[:min(60, len(script))], err)
	}
	return v
}

// show sets the size of the window and the colour scheme.
func (b *tab) show(width int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, 800))
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// shoot saves a picture of the whole page, for people to look at, in the
// folder that CC_CI_TEST_SHOTS names.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("CC_CI_TEST_SHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// audit returns what is wrong with the page that is shown, as sentences.
const audit = `(() => {
  const wrong = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("main *, header *, footer *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".sr, .lines, pre, .skip, table.prose"));
    wrong.push("it is " + root.scrollWidth + " px wide in a window of " + innerWidth + ": " + wide.slice(0, 3).map(e => e.tagName + "." + e.className).join(", "));
  }
  for (const [name, selector] of [["banner", "body > header"], ["navigation", "nav[aria-label=Main]"], ["main", "main"], ["footer", "body > footer"], ["skip link", "a.skip"], ["language", "html[lang]"]])
    if (document.querySelectorAll(selector).length !== 1) wrong.push("it has no single " + name);
  if (document.querySelectorAll("h1").length !== 1) wrong.push("it has " + document.querySelectorAll("h1").length + " headings of the first rank");
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  for (const id of new Set(ids.filter((x, i) => ids.indexOf(x) !== i))) wrong.push("the id " + id + " is there twice");
  for (const img of document.querySelectorAll("img")) { if (!img.hasAttribute("alt")) wrong.push("a picture has no alternative text"); }
  for (const t of document.querySelectorAll("table")) if (!t.closest(".prose") && !t.caption) wrong.push("a table has no caption");
  for (const f of document.querySelectorAll("textarea, input:not([type=hidden]):not([type=checkbox])")) if (!f.labels || !f.labels.length) wrong.push("the field " + f.name + " has no label");
  for (const a of document.querySelectorAll("a[href], button")) if (!(a.innerText + a.textContent + (a.getAttribute("aria-label") || "")).trim() && !a.querySelector("img[alt]:not([alt=''])") && a.getAttribute("aria-hidden") !== "true") wrong.push("a link has no name: " + a.outerHTML.slice(0, 100));
  for (const r of document.querySelectorAll("[aria-labelledby]")) for (const id of r.getAttribute("aria-labelledby").split(" ")) if (!document.getElementById(id)) wrong.push("the label " + id + " is not there");

  const parse = c => {
    let m = c.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
    if (m) return [+m[1], +m[2], +m[3], m[4] === undefined ? 1 : +m[4]];
    m = c.match(/^color\(srgb ([\d.]+) ([\d.]+) ([\d.]+)(?: \/ ([\d.]+))?\)$/);
    if (m) return [m[1] * 255, m[2] * 255, m[3] * 255, m[4] === undefined ? 1 : +m[4]];
    throw new Error("unknown colour " + c);
  };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = e => {
    const stack = [];
    for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); stack.push(c); if (c[3] === 1) break; }
    let g = [255, 255, 255, 1];
    while (stack.length) g = over(stack.pop(), g);
    return g;
  };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, e = node.parentElement;
    if (!node.data.trim() || e.closest(".sr, .skip, script, noscript, title, svg, option") || !e.checkVisibility({ visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true })) continue;
    const style = getComputedStyle(e), g = ground(e), f = over(parse(style.color), g);
    const [a, b] = [light(f), light(g)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    const key = style.color + g.join();
    if (ratio < 4.5 && !seen.has(key)) { seen.add(key); wrong.push("contrast " + ratio.toFixed(2) + " of " + JSON.stringify(node.data.trim().slice(0, 30)) + " in " + e.tagName + "." + e.className); }
    if (parseFloat(style.fontSize) < 12.5) wrong.push("text of " + style.fontSize + ": " + node.data.trim().slice(0, 30));
  }
  if (innerWidth < 500) for (const e of document.querySelectorAll("nav a, .button, .chip[href], summary")) {
    const box = e.getBoundingClientRect();
    if (box.width && box.height < 24) wrong.push("a target is " + box.height.toFixed(0) + " px high: " + e.textContent.trim().slice(0, 30));
  }

  // Texts of two elements share no place. A line's box is higher than its letters, so that a little of it may.
  const clip = (box, e) => {
    let [left, top, right, bottom] = [box.left, box.top, box.right, box.bottom];
    for (; e && e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.overflowX === "visible" && style.overflowY === "visible") continue;
      const b = e.getBoundingClientRect();
      [left, top, right, bottom] = [Math.max(left, b.left), Math.max(top, b.top), Math.min(right, b.right), Math.min(bottom, b.bottom)];
    }
    return { left, top, right, bottom };
  };
  const texts = [], range = document.createRange(), all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (all.nextNode()) {
    const node = all.currentNode, e = node.parentElement;
    if (!node.data.trim() || e.closest(".sr, .skip, script, style, template, noscript, title, svg, option") || !e.checkVisibility({ visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true })) continue;
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      const b = clip(box, e);
      if (b.right - b.left > 1 && b.bottom - b.top > 1) texts.push({ ...b, node, words: node.data.trim().slice(0, 30) });
    }
  }
  texts.sort((a, b) => a.top - b.top);
  let collisions = 0;
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length && texts[j].top < texts[i].bottom; j++) {
    const [a, b] = [texts[i], texts[j]];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - b.top;
    if (a.node !== b.node && wide > 2 && high > .4 * Math.min(a.bottom - a.top, b.bottom - b.top) && ++collisions <= 3)
      wrong.push(JSON.stringify(a.words) + " and " + JSON.stringify(b.words) + " overlap by " + wide.toFixed(0) + " x " + high.toFixed(0) + " px");
  }
  // Buttons keep apart from each other.
  const buttons = [...document.querySelectorAll(".button, .chip, .pill, input, textarea")].map((e) => ({ e, box: e.getBoundingClientRect() })).filter(({ e, box }) => box.width && e.checkVisibility({ visibilityProperty: true }));
  for (let i = 0; i < buttons.length; i++) for (let j = i + 1; j < buttons.length; j++) {
    const [a, b] = [buttons[i].box, buttons[j].box];
    const apart = Math.max(a.left - b.right, b.left - a.right, a.top - b.bottom, b.top - a.bottom);
    if (apart < 2 && !buttons[i].e.contains(buttons[j].e)) wrong.push(JSON.stringify(buttons[i].e.innerText) + " and " + JSON.stringify(buttons[j].e.innerText) + " are " + apart.toFixed(1) + " px apart");
  }
  for (const { e, box } of buttons) { // that of a command stands beside it
    const of = e.dataset.copy && e.previousElementSibling?.getBoundingClientRect();
    if (of && (box.top > of.bottom || box.bottom < of.top)) wrong.push("the button of " + e.dataset.copy + " is on another line");
  }
  // Nothing but lines of logs and code is scrolled sideways.
  for (const e of document.querySelectorAll("body *")) {
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth && ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && !e.closest("pre, .lines, table.prose, textarea"))
      wrong.push(e.tagName + "." + e.className + " scrolls sideways: " + e.scrollWidth + " px in " + e.clientWidth);
  }
  return wrong;
})()`

// A check that finds nothing anywhere proves nothing.
func TestTheAuditFindsCollisions(t *testing.T) {
	b := openBrowser(t)
	b.show(390, "light")
	page := func(body string) string {
		return "data:text/html," + url.PathEscape(`<html lang="en"><body style="margin:0;font:16px/1.5 sans-serif"><main>`+body+`</main></body></html>`)
	}
	for body, want := range map[string]string{
		`<div style="height:10px">first line</div><div>second line</div>`:                                                  "overlap",
		`<button class="button">a</button><br><button class="button">b</button>`:                                           "px apart",
		`<div style="width:300px;overflow-x:auto"><p style="width:900px">wide</p></div>`:                                   "scrolls sideways",
		`<div style="display:flex;width:80px;white-space:nowrap"><b style="width:20px">a long name</b><i>passed</i></div>`: "overlap",
	} {
		b.open(page(body))
		if wrong := strings.Join(eval[[]string](b, audit), "\n"); !strings.Contains(wrong, want) {
			t.Errorf("%s: the audit says %q", body, wrong)
		}
	}
	b.open(page(`<p>first line <b>and more</b></p><p style="line-height:1">second<br>third</p><div style="height:20px;overflow:hidden">a<br>b<br>c</div><p>last</p>`))
	if wrong := strings.Join(eval[[]string](b, audit), "\n"); strings.Contains(wrong, "overlap") || strings.Contains(wrong, "sideways") {
		t.Errorf("of a page without collisions the audit says %q", wrong)
	}
}

// A27: the page of every kind of end, on a phone and on a desk, in both colour schemes.
func TestA27_EndsInABrowser(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t)
	pages := map[string]ccci.RunID{}
	for _, name := range []string{"refused", "refused-but-waivable", "deadline", "flaky", "broken-base", "both-differ", "from-broken", "abra-refuses", "no-backup"} {
		pages[name] = w.recorded(name).ID
	}
	for name, by := range supersessions {
		pages[name] = w.superseded(by).ID
	}
	pages["refused-long"] = w.refusedOfMuch().ID
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1280} {
			b.show(width, scheme)
			for page, id := range pages {
				name := fmt.Sprintf("end-%s-%s-%d", page, scheme, width)
				b.open(w.server.URL + "/runs/" + string(id))
				b.shoot(name)
				for _, wrong := range append(eval[[]string](b, audit), b.axe()...) {
					t.Errorf("%s: %s", name, wrong)
				}
			}
		}
	}
	merged := w.recorded("refused")
	merged.Merge = ccci.Merge{Branch: "main", Default: true, Commit: merged.Commit, Same: true, At: noon}
	w.update(merged)
	b.open(w.server.URL + "/recipes/canary-good") // the recipe's own checks were refused
	b.shoot("end-recipe")
	for _, wrong := range append(eval[[]string](b, audit), b.axe()...) {
		t.Errorf("the recipe: %s", wrong)
	}
	if troubles, _ := b.taken(); len(troubles) > 0 {
		t.Errorf("troubles: %q", troubles)
	}
}

// refusedOfMuch is a run that is refused for settings with long names, in a recipe with a long name.
func (w *world) refusedOfMuch() ccci.Run {
	name := strings.Repeat("recipe-with-a-long-name-", 3)[:60]
	run := w.add(name, time.Hour, ccci.StatusRefused, func(r *ccci.Run) {
		r.Cause = "install/admitted: the recipe asks for 3 settings that cc-ci does not allow"
	})
	res := w.baseResult(run)
	res.Status = run.Status
	res.Cause = &ccci.Cause{Check: "install/admitted", Code: ccci.CodeRefused, Message: "the recipe asks for 3 settings that cc-ci does not allow"}
	for i := range 3 {
		value := strings.Repeat("/srv/a-folder-of-the-host", 4)
		res.Cause.Findings = append(res.Cause.Findings, ccci.Finding{Rule: "bind-mount", Severity: "error", File: "compose." + name + ".yml", Line: i + 100,
			Message: "service " + name + " mounts " + value + " of the host", Hint: "ship files as configs and keep data in named volumes",
			Waiver: `- {rule: bind-mount, service: ` + name + `, value: "` + value + `:/x", reason: "", owner: "", expires: ""}`})
	}
	admitted := ccci.Check{Name: "install/admitted", Status: ccci.Fail, Code: ccci.CodeRefused, Message: res.Cause.Message}
	res.Stages = []ccci.Stage{{Name: ccci.StageInstall, Status: ccci.Fail, Reason: res.Cause.Message, Checks: []ccci.Check{admitted}}}
	w.saveResult(res)
	return run
}

// Every page, in both colour schemes, on a phone and on a desk.
func TestA27_PagesInABrowser(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t)
	runs := w.populate()
	pages := []struct{ name, path string }{
		{"overview", "/"}, {"overview-none", "/?q=nothing"}, {"recipe", "/recipes/pocketbase"}, {"recipe-new", "/recipes/gitea"}, {"recipe-skips", "/recipes/matrix-synapse"}, {"run-skips", "/runs/" + string(runs["skips"].ID)},
		{"runs", "/runs"}, {"queue", "/queue"},
		{"run-passed", "/runs/" + string(runs["passed"].ID)}, {"run-failed", "/runs/" + string(runs["failed"].ID)}, {"run-running", "/runs/" + string(runs["running"].ID)},
		{"run-queued", "/runs/" + string(runs["queued2"].ID)}, {"run-errored", "/runs/" + string(runs["errored"].ID)}, {"run-cancelled", "/runs/" + string(runs["cancelled"].ID)},
		{"pulls", "/pulls"}, {"pull", "/pulls/recipes/pocketbase/1"}, {"missing", "/nothing"},
	}
	origin, err := url.Parse(w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{360, 1280} {
			b.show(width, scheme)
			for _, p := range pages {
				name := fmt.Sprintf("%s-%s-%d", p.name, scheme, width)
				b.open(w.server.URL + p.path)
				for _, wrong := range append(eval[[]string](b, audit), b.axe()...) {
					t.Errorf("%s: %s", name, wrong)
				}
				b.shoot(name)
				troubles, requests := b.taken()
				for _, trouble := range troubles {
					if p.name != "missing" || !strings.Contains(trouble, "404") {
						t.Errorf("%s: %s", name, trouble)
					}
				}
				for _, r := range requests {
					if u, err := url.Parse(r); err != nil || u.Host != origin.Host && u.Scheme != "data" {
						t.Errorf("%s: it asks for %s", name, r)
					}
				}
			}
		}
	}
}

// The whole thread can be written to without a mouse.
func TestCommentByKeyboard(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t)
	w.populate()
	b.show(1280, "light")
	b.open(w.server.URL + "/pulls/recipes/pocketbase/1")
	b.do(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](b, `document.activeElement.className`); got != "skip" {
		t.Errorf("the first stop of the keyboard is %q, want the skip link", got)
	}
	stops := 1
	for eval[string](b, `document.activeElement.id`) != "body" {
		b.do(chromedp.KeyEvent(kb.Tab))
		if eval[bool](b, `document.activeElement !== document.body && getComputedStyle(document.activeElement).outlineStyle === "none"`) {
			t.Errorf("stop %d of the keyboard cannot be seen: %s", stops, eval[string](b, `document.activeElement.outerHTML.slice(0, 120)`))
		}
		if stops++; stops > 60 {
			t.Fatal("the keyboard does not reach the comment box in 60 stops")
		}
	}
	b.do(chromedp.KeyEvent("!testme"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	eventually(t, func() bool { w.forge.mu.Lock(); defer w.forge.mu.Unlock(); return len(w.forge.thread) == 6 })
	eventually(t, func() bool { return eval[bool](b, `document.querySelectorAll(".comment").length === 6`) })
}

// A run is watched from its queue to its end without a reload: stages, log, the
// jump to the first error; and what a person typed or opened stays.
func TestRunIsWatchedLive(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t)
	run := w.add("miniflux", 0, ccci.StatusQueued, nil)
	w.fillForge(map[string]ccci.Run{"passed": run, "failed": run})
	b.show(1280, "light")
	b.open(w.server.URL + "/runs/" + string(run.ID))
	eval[bool](b, `window.stays = true`)
	sees := func(what, script string) {
		t.Helper()
		deadline := time.Now().Add(15 * time.Second)
		for !eval[bool](b, script) {
			if time.Now().After(deadline) {
				b.shoot("live-trouble")
				t.Fatalf("%s is not seen\n%s", what, eval[string](b, `document.querySelector("main").innerText`))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	sees("its place in the queue", `document.querySelector("#run-head").innerText.includes("Position 1")`)

	run.Status, run.Build, run.Started = ccci.StatusRunning, "b", noon
	run.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Running: true}}
	log := w.engine.log("b")
	w.update(run)
	log.write("fetching\n##[stage install begin]\ncreating <b>2</b> services\n", false)
	sees("the start", `document.querySelector(".pill").innerText.includes("running")`)
	sees("the stage at work", `document.querySelector("#stages").innerText.includes("running")`)
	sees("the log", `document.querySelector('.fold[data-stage=install] .lines')?.innerText.includes("creating <b>2</b> services") === true`)

	text := logText("miniflux", true)
	log.write(text[strings.Index(text, "app.1 | starting worker 1"):], true)
	sees("the mark of the fold", `document.querySelector('.fold[data-stage=upgrade] summary .state.c-fail svg') !== null`)
	sees("the word for screen readers", `document.querySelector("#stage-news").textContent.includes("Upgrade: fail")`)
	sees("the way to the first error", `!document.querySelector("#jump-error").hidden`)
	run.Status, run.Finished = ccci.StatusFailed, noon
	run.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Pass}, {Name: ccci.StageUpgrade, Status: ccci.Fail, Reason: "rolled back"}}
	w.saveFailed(run)
	w.update(run)
	sees("the cause", `document.querySelector(".cause")?.innerText.includes("rolled app back") === true`)
	eval[bool](b, `document.querySelector("#jump-error").click() || true`)
	sees("the first error", `document.activeElement.id === "first-error" && document.activeElement.innerText.includes("[FATAL]")`)
	if !eval[bool](b, `window.stays === true`) {
		t.Error("the page was loaded anew")
	}
	b.shoot("run-live-end")
	if troubles, _ := b.taken(); len(troubles) > 0 {
		t.Errorf("troubles: %q", troubles)
	}
}

func TestTypedTextSurvivesALiveRefresh(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t)
	runs := w.populate()
	b.show(1280, "dark")
	b.open(w.server.URL + "/pulls/recipes/pocketbase/1")
	b.do(chromedp.SendKeys("#body", "half a thought"))
	_, _ = w.forge.AddComment(t.Context(), runs["passed"].PR, ccci.User{ID: "2", Name: "grace"}, "a word in between")
	_ = w.bus.Publish(t.Context(), ccci.TopicForge, "recipes/pocketbase")
	eventually(t, func() bool {
		return eval[bool](b, `document.querySelector("#thread").innerText.includes("a word in between")`)
	})
	if got := eval[string](b, `document.querySelector("#body").value + "|" + document.activeElement.id`); got != "half a thought|body" {
		t.Errorf("the box holds %q", got)
	}
}
