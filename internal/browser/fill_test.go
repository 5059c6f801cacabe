package browser

import (
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// filled shows what its fields hold, and which events they saw.
const filled = `<button id=show onclick='out.textContent = [...document.querySelectorAll("input,textarea,[contenteditable]")].map(e => "[" + (e.value ?? e.innerText) + "]").join("")'>show</button><p id=out style="white-space: pre"></p>`

// A field holds the whole value, whatever the page does to its fields meanwhile.
func TestU10_FillKeepsTheWholeValue(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	const value = "correct horse battery staple!"
	for name, c := range map[string]struct {
		html, value, want string
		second            string // put into #b after it
	}{
		"plain":                      {html: `<input id=a value=old>`, want: "[" + value + "]"},
		"selects itself on focus":    {html: `<input id=a value=old onfocus=select()>`, want: "[" + value + "]"},
		"selects itself all along":   {html: `<input id=a><script>setInterval(() => { a.focus(); a.select() }, 1)</script>`, want: "[" + value + "]"},
		"selects itself on each key": {html: `<input id=a oninput="setTimeout(() => a.select())" onkeyup="a.select()">`, want: "[" + value + "]"},
		"another field takes the focus, as in WordPress": {html: `<input id=a><input id=b type=password><script>setInterval(() => { a.focus(); a.select() }, 1)</script>`,
			second: "s3cret", want: "[" + value + "][s3cret]"},
		"clears itself until it is ready": {html: `<input id=a><script>let n = 0; const i = setInterval(() => { a.value = ""; if (n++ > 200) clearInterval(i) }, 1)</script>`, want: "[" + value + "]"},
		"sets the value back":             {html: `<input id=a><script>let n = 0; a.oninput = () => { if (n++ < 2) a.value = "" }</script>`, want: "[" + value + "]"},
		"hears what is typed":             {html: `<input id=a><input id=b hidden><script>a.oninput = e => b.value = e.isTrusted + " " + a.value</script>`, want: "[" + value + "][true " + value + "]"},
		"formats it":                      {html: `<input id=a oninput='a.value = a.value.toUpperCase().replace(/-/g, "").replace(/(..)(?=.)/g, "$1 ")'>`, value: "ab-cd", want: "[AB CD]"},
		"lines":                           {html: `<textarea id=a>old</textarea>`, value: "one\ntwo", want: "[one\ntwo]"},
		"editable":                        {html: `<div id=a contenteditable>old</div>`, want: "[" + value + "]"},
		"a date":                          {html: `<input id=a type=date>`, value: "2026-03-04", want: "[2026-03-04]"},
		"a number":                        {html: `<input id=a type=number value=7>`, value: "12.5", want: "[12.5]"},
	} {
		t.Run(name, func(t *testing.T) {
			f.serve(t, attack{html: "<body>" + c.html + filled})
			if c.value == "" {
				c.value = value
			}
			steps := []ccci.BrowserStep{{Open: "/"}, {Fill: "#a", Value: c.value}}
			if c.second != "" {
				steps = append(steps, ccci.BrowserStep{Fill: "#b", Value: c.second})
			}
			r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 20 * time.Second}
			if err := r.Run(t.Context(), ccci.Step{Browser: append(steps, ccci.BrowserStep{Click: "#show"}, ccci.BrowserStep{Text: c.want})}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("emptied", func(t *testing.T) {
		f.serve(t, attack{html: `<body><input id=a value=old>` + filled + told})
		page, err := b.Page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer page.Close()
		f.mustStay(t, t.Context(), page)
		if err := page.Fill(t.Context(), "#a", ""); err != nil {
			t.Fatal(err)
		}
		if err := page.Click(t.Context(), "#show"); err != nil {
			t.Fatal(err)
		}
		if text, err := page.Visible(t.Context()); err != nil || !strings.Contains(text, "[]") {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("never keeps it", func(t *testing.T) {
		f.serve(t, attack{html: `<body><input id=a maxlength=8>` + filled})
		r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 2 * time.Second}
		err := r.Run(t.Context(), ccci.Step{Browser: []ccci.BrowserStep{{Open: "/"}, {Fill: "#a", Value: value}}})
		mustFail(t, err, "the page does not keep it")
	})
}
