package admission

import (
	"errors"
	"strings"
	"testing"
	"text/template"
)

// swarmContext has the fields that swarm gives to templates.
type swarmContext struct {
	Service struct {
		ID, Name string
		Labels   map[string]string
	}
	Node struct {
		ID, Hostname string
		Platform     struct{ OS, Architecture string }
	}
	Task struct{ ID, Name, Slot string }
}

const contextText = 100 // bytes that each function and field returns

func newContext() swarmContext {
	text := strings.Repeat("x", contextText)
	var c swarmContext
	c.Service.ID, c.Service.Name, c.Service.Labels = text, text, map[string]string{"a": strings.Repeat("x", 10_000)}
	c.Node.ID, c.Node.Hostname, c.Node.Platform.OS, c.Node.Platform.Architecture = text, text, text, text
	c.Task.ID, c.Task.Name, c.Task.Slot = text, text, text
	return c
}

var errFull = errors.New("too long")

// counted counts what is written, up to most.
type counted struct{ n, most int }

func (c *counted) Write(text []byte) (int, error) {
	if c.n += len(text); c.n > c.most {
		return 0, errFull
	}
	return len(text), nil
}

// FuzzTemplate evaluates what is admitted, as the daemon does: its output is about as
// long as was counted.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		`{{ if eq (env "A") "1" }}a{{ else }}{{ .Service.Name }}{{ end }}`, `{{ with env "Y" }}y={{ . }}{{ end }}`,
		`{{ $d := env "D" }}{{ $d }}{{ printf "%s:%q" $d (secret "x") }}`, `{{define "a"}}x{{end}}{{template "a"}}`,
		`{{ $a := env "x" }}{{ $b := join "" $a $a }}{{ $b }}`, `{{ with print (env "A") (env "A") }}{{ . }}{{ end }}`,
		`{{ env "A" | print "b" | printf "%s" }}`, `{{ range 10 }}x{{ end }}`, `{{ and (env "A") .Task.Slot }}`, `{{ printf "%1000d" 1 }}`,
		`{{ $a := and (env "a") (secret "b") }}{{ with $a }}{{ with . }}{{ . }}{{ . }}{{ end }}{{ end }}`, `{{.}}{{$}}`,
	} {
		f.Add(text)
	}
	returns := func(string) string { return strings.Repeat("x", contextText) }
	funcs := template.FuncMap{
		"env": returns, "secret": returns, "config": returns,
		"join": func(s ...string) string { return strings.Join(s[1:], s[0]) },
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return
		}
		p := &templateProver{fields: taskFields, config: true, output: func(string) int { return contextText }, size: len(text)}
		if p.prove(text) != nil {
			return
		}
		parsed, err := template.New("t").Funcs(funcs).Parse(text)
		if err != nil {
			return // the daemon refuses it as well
		}
		out := &counted{most: 8*p.size + 4<<10}
		if err := parsed.Execute(out, newContext()); errors.Is(err, errFull) {
			t.Fatalf("%q is admitted as %d bytes at most, and prints more than %d", text, p.size, out.most)
		}
	})
}

func TestN3_Templates(t *testing.T) {
	for text, want := range map[string]string{
		"no action": "", "{{.Task.Slot}}": "", "a{{ .Service.Name }}b": "", "}}": "",
		"{{": "no template", "{{.Service.Labels}}": "none of", "{{.Task.Slot | print}}": "only fields", "{{$x := .Task.Slot}}": "only fields",
		"{{if .Task.Slot}}a{{end}}": "condition", `{{define "a"}}b{{end}}`: "templates of its own", `{{"a"}}`: "does not evaluate", "{{.}}": "does not evaluate",
		`{{env "A"}}`: "only fields", strings.Repeat("{{.Task.Slot}}", maxActions+1): "501 actions", "{{" + strings.Repeat("(", 300) + "}}": "too deep",
	} {
		err := fieldTemplate(text, taskFields)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}
