package checks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestExecStep(t *testing.T) {
	type call struct {
		Service, User, Stdin string
		Args                 []string
	}
	gone := errors.New("there is no container")
	for name, c := range map[string]struct {
		step   ccci.ExecStep
		exit   int
		output string
		err    error
		called *call // nil: nothing may be run
		want   string
		saved  string
	}{
		"plain": {step: ccci.ExecStep{Command: []string{"true"}}, called: &call{Service: "app", Args: []string{"true"}}},
		"templates, user, stdin": {
			step:   ccci.ExecStep{Service: "db", User: "postgres", Command: []string{"psql", "-c", "select '{{.Marker}}'"}, Stdin: "{{.Recipe}}"},
			called: &call{Service: "db", User: "postgres", Args: []string{"psql", "-c", "select 'ccci-a-1'"}, Stdin: "wiki"},
		},
		"exit":         {step: ccci.ExecStep{Command: []string{"false"}}, exit: 1, called: &call{Service: "app", Args: []string{"false"}}, want: "false in app exited with 1, expected 0"},
		"another exit": {step: ccci.ExecStep{Command: []string{"x"}, Exit: 3}, exit: 3, called: &call{Service: "app", Args: []string{"x"}}},
		"contains":     {step: ccci.ExecStep{Command: []string{"x"}, Contains: []string{"{{.Marker}}"}}, output: "a ccci-a-1 b", called: &call{Service: "app", Args: []string{"x"}}},
		"contains not": {step: ccci.ExecStep{Command: []string{"x"}, Contains: []string{"{{.Marker}}"}}, output: "ccci-b-2", called: &call{Service: "app", Args: []string{"x"}}, want: `does not hold "ccci-a-1"`},
		"lacks not":    {step: ccci.ExecStep{Command: []string{"x"}, Lacks: []string{"rror"}}, output: "Error", called: &call{Service: "app", Args: []string{"x"}}, want: `holds "rror"`},
		"saved":        {step: ccci.ExecStep{Command: []string{"x"}, Save: map[string]string{"out": "stdout"}}, output: "  12\n", called: &call{Service: "app", Args: []string{"x"}}, saved: "12"},
		"saved empty":  {step: ccci.ExecStep{Command: []string{"x"}, Save: map[string]string{"out": "stdout"}}, output: " \n", called: &call{Service: "app", Args: []string{"x"}}, want: "no output to save as out"},
		"too long":     {step: ccci.ExecStep{Command: []string{"x"}}, err: fmt.Errorf("x: %w", context.DeadlineExceeded), called: &call{Service: "app", Args: []string{"x"}}, want: "did not end in time"},
		"no command":   {step: ccci.ExecStep{}, want: "invalid: has no command"},
		"no variable":  {step: ccci.ExecStep{Command: []string{`{{index .Vars "x"}}`}}, want: `invalid: "x" has no value`},
		"no secret":    {step: ccci.ExecStep{Command: []string{"x"}, Stdin: `{{index .Secrets "x"}}`}, want: `invalid: "x" has no value`},
	} {
		t.Run(name, func(t *testing.T) {
			var called *call
			r := runner(t, notes)
			r.Target.Exec = func(_ context.Context, service, user string, args []string, stdin []byte) (int, []byte, error) {
				called = &call{service, user, string(stdin), args}
				return c.exit, []byte(c.output), c.err
			}
			outcome(t, r.Run(t.Context(), ccci.Step{Exec: &c.step}), c.want)
			if diff := cmp.Diff(c.called, called); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if r.Vars.Vars["out"] != c.saved {
				t.Errorf("saved %q, want %q", r.Vars.Vars["out"], c.saved)
			}
		})
	}
	// A command that could not be run says nothing about the app.
	r := runner(t, notes)
	r.Target.Exec = func(context.Context, string, string, []string, []byte) (int, []byte, error) { return 0, nil, gone }
	var failure *Failure
	if err := r.Run(t.Context(), ccci.Step{Exec: &ccci.ExecStep{Command: []string{"x"}}}); !errors.Is(err, gone) || errors.As(err, &failure) {
		t.Errorf("%v", err)
	}
}

func TestTCPStep(t *testing.T) {
	greet := func(conn net.Conn) {
		fmt.Fprint(conn, "220 ready\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			fmt.Fprint(conn, "you said "+line)
		}
	}
	echo := func(conn net.Conn) {
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			for _, b := range []byte("you said " + line) { // byte by byte
				conn.Write([]byte{b})
			}
		}
	}
	silent := func(conn net.Conn) { io.Copy(io.Discard, conn) }
	for name, c := range map[string]struct {
		talk func(net.Conn)
		step ccci.TCPStep
		want string
	}{
		"answer":        {echo, ccci.TCPStep{Port: 25, Send: "{{.Marker}}\n", Expect: "said {{.Marker}}"}, ""},
		"greeting":      {greet, ccci.TCPStep{Port: 25, Expect: "220 "}, ""},
		"other answer":  {echo, ccci.TCPStep{Port: 25, Send: "hello\n", Expect: "{{.Marker}}"}, `app:25 did not send "ccci-a-1": EOF`},
		"silence":       {silent, ccci.TCPStep{Service: "mail", Port: 25, Send: "hello\n", Expect: "250"}, `mail:25 did not send "250": context deadline exceeded`},
		"hangs up":      {func(net.Conn) {}, ccci.TCPStep{Port: 25, Expect: "x"}, `did not send "x"`},
		"no variable":   {echo, ccci.TCPStep{Port: 25, Send: `{{index .Vars "x"}}`}, `invalid: "x" has no value`},
		"no expectable": {echo, ccci.TCPStep{Port: 25, Expect: `{{index .Vars "x"}}`}, `invalid: "x" has no value`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Runner{Vars: Vars{Marker: "ccci-a-1"}, Limit: time.Minute, Target: Target{Dial: wire(c.talk)}}
				outcome(t, r.Run(t.Context(), ccci.Step{TCP: &c.step}), c.want)
			})
		})
	}
	r := &Runner{Target: Target{Dial: func(context.Context, string, int) (io.ReadWriteCloser, error) {
		return nil, errors.New("connection refused")
	}}}
	outcome(t, r.Run(t.Context(), ccci.Step{TCP: &ccci.TCPStep{Port: 25}}), "connecting to app:25: connection refused")
}

func TestExpandKnowsEveryNameOrRefuses(t *testing.T) {
	v := Vars{Domain: domain, Recipe: "wiki", Marker: "m", Domains: map[string]string{"sandbox": "s." + domain}, Secrets: map[string]string{"empty": ""}}
	for text, want := range map[string]string{
		"":                                "",
		"no template } {":                 "no template } {",
		"{{.Domain}}/{{.Recipe}}":         domain + "/wiki",
		`{{index .Domains "sandbox"}}`:    "s." + domain,
		`a{{index .Secrets "empty"}}b`:    "ab", // it has a value, which is empty
		`{{if .Marker}}yes{{end}}`:        "yes",
		`{{index .Secrets "gone"}}`:       "invalid: has no value",
		`{{index .Vars "gone"}}`:          "invalid: has no value",
		`{{.Nothing}}`:                    "invalid: Nothing",
		`{{.Secrets.gone}}`:               "invalid: gone",
		`{{call .Domain}}`:                "invalid: ",
		`{{template "x"}}`:                "invalid: ",
		`{{index .Domains}}`:              "invalid: ",
		strings.Repeat("{{.Marker}}", 50): strings.Repeat("m", 50),
	} {
		got, err := v.Expand(text)
		if strings.HasPrefix(want, "invalid: ") {
			outcome(t, err, want)
		} else if err != nil || got != want {
			t.Errorf("Expand(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := v.ExpandMap(map[string]string{"a": "{{.Gone}}"}); err == nil {
		t.Error("a map with a missing name is filled in")
	}
}
