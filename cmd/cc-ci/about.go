package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	mangokong "github.com/alecthomas/mango-kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/muesli/roff"
)

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	fmt.Fprintln(a.stdout, about())
	return nil
}

// version is the module's version, else the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, _, modified := built(info)
	if len(revision) > 12 {
		return "devel-" + revision[:12] + modified
	}
	return strings.TrimSuffix("devel-"+revision, "-")
}

// built returns the commit of the build and its date, "" where they are not recorded, and
// "+dirty" when files were changed since the commit.
func built(info *debug.BuildInfo) (revision, date, modified string) {
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.time":
			date = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+dirty"
			}
		}
	}
	return revision, date, modified
}

// about is the version with the rest that a bug report needs.
func about() string {
	var words []string
	if info, ok := debug.ReadBuildInfo(); ok {
		if revision, date, modified := built(info); revision != "" {
			words = append(words, "commit "+revision+modified, date)
		}
	}
	words = append(words, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	return version() + " (" + strings.Join(words, ", ") + ")"
}

type helpCmd struct {
	Command []string `arg:"" optional:"" help:"Command, as in: cc-ci help forge pr. Default: all commands."`
}

func (c *helpCmd) Run(a *app) error {
	shown := false
	parser := newParser(&cli{}, a.stdout, a.stderr, func(int) { shown = true })
	if _, err := parser.Parse(append(c.Command, "--help")); err != nil && !shown {
		return usageError(parser, err)
	}
	return nil
}

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish. In the start file of a shell: source <(cc-ci completion bash); of fish: cc-ci completion fish | source."`
}

func (c *completionCmd) Run(ctx *kong.Context) error {
	return (&kongcompletion.Completion{Shell: c.Shell, Code: true}).Run(ctx)
}

type manCmd struct{}

func (manCmd) Run(a *app, parser *kong.Kong) error {
	// mango-kong prints hidden flags too.
	err := kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		switch n := node.(type) {
		case *kong.Application:
			n.Flags = slices.DeleteFunc(n.Flags, func(f *kong.Flag) bool { return f.Hidden })
		case *kong.Node:
			n.Flags = slices.DeleteFunc(n.Flags, func(f *kong.Flag) bool { return f.Hidden })
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.stdout, mangokong.NewManPage(1, parser.Model).Build(roff.NewDocument()))
	return err
}
