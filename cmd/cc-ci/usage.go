package main

import (
	"errors"
	"fmt"
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
