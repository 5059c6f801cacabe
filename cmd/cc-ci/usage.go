package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// usageError puts the parser's complaint into words for the person who typed the
// command line, and says where to read on.
func usageError(parser *kong.Kong, err error) error {
	node := parser.Model.Node
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if at := parse.Context.Selected(); at != nil {
			node = at
		} else if at := lastBranch(parse.Context); at != nil {
			node = at
		}
	}
	help := node.FullPath() + " --help"
	_, at, _ := strings.Cut(node.FullPath(), " ") // the reader knows what program this is
	if at != "" {
		at += ": "
	}
	var commands []string
	for _, child := range node.Children {
		if !child.Hidden {
			commands = append(commands, child.Name)
		}
	}
	refuse := func(hint, format string, args ...any) error {
		return ccci.Errorf(ccci.CodeInvalid, "%s%s", at, fmt.Sprintf(format, args...)).WithHint("%s; see %s", hint, help)
	}
	known := "there are " + strings.Join(commands, ", ")
	text := err.Error()
	word, surplus := strings.CutPrefix(text, "unexpected argument ")
	word, _, _ = strings.Cut(word, ", did you mean")
	missing, incomplete := strings.CutPrefix(text, "expected ")
	flag, _, valueless := strings.Cut(text, `" (<EOL>)`)
	switch {
	case surplus && len(commands) > 0:
		return refuse(settings.Suggest(word, commands, known), "there is no command %q", word)
	case surplus:
		return refuse("put a text with spaces into quotes", "there is an argument too many: %q", word)
	case incomplete && len(commands) > 0:
		return refuse(known, "which command?")
	case incomplete:
		return refuse("all of its arguments are needed", "%s is missing", strings.Trim(missing, `"`))
	case valueless:
		flag, _, _ = strings.Cut(flag, ": ")
		return refuse("write it as "+flag+"=VALUE", "%s needs a value", flag)
	}
	return ccci.Errorf(ccci.CodeInvalid, "%s%s", at, text).WithHint("see %s", help)
}

// emptyLists refuses an option for a list that is given with nothing in it. The parser takes it
// for one that was not given, which stands for everything: a script whose variable is empty would
// test or sweep all there is.
func emptyLists(ctx *kong.Context) error {
	for _, flag := range ctx.Flags() {
		if !flag.Set || !flag.IsSlice() {
			continue
		}
		given, ok := ctx.FlagValue(flag).([]string)
		if !ok || len(given) > 0 && !slices.ContainsFunc(given, blank) {
			continue
		}
		what := "the list is empty"
		if len(given) > 1 {
			what = "an item of the list is empty"
		}
		return ccci.Errorf(ccci.CodeInvalid, "--%s: %s", flag.Name, what).
			WithHint("name at least one, or leave --%s out for its default; see %s --help", flag.Name, ctx.Selected().FullPath())
	}
	return nil
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// lastBranch is the deepest command that was named on the way to the mistake.
func lastBranch(ctx *kong.Context) *kong.Node {
	var node *kong.Node
	for _, step := range ctx.Path {
		if step.Command != nil {
			node = step.Command
		}
	}
	return node
}
