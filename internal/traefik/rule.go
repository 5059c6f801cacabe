package traefik

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"strconv"
	"strings"
)

// MaxRule bounds a router rule, in bytes.
const MaxRule = 4096

// maxNesting bounds parentheses and negations within each other.
const maxNesting = 50

// Op says what a [Rule] is.
type Op int

// Kinds of rules.
const (
	Matcher Op = iota // Name with Args
	Not               // of X
	And               // of X and Y
	Or                // of X and Y
)

// Rule is a router rule.
type Rule struct {
	Op   Op
	X, Y *Rule
	Name string   // of the matcher, as it is written; Traefik ignores its case
	Args []string // of the matcher
}

// ParseRule reads a router rule, of version 2 or 3:
//
//	Host(`a.example`, `b.example`) && (PathPrefix(`/api`) || !Method(`GET`))
//
// It goes by go/parser, as Traefik does, and refuses what a reader of another kind may take for
// something else: comments, and escapes in double quotes. Which matchers there are is not its affair.
func ParseRule(rule string) (*Rule, error) {
	if len(rule) > MaxRule {
		return nil, fmt.Errorf("it has more than %d characters", MaxRule)
	}
	if err := plain(rule); err != nil {
		return nil, err
	}
	expr, err := parser.ParseExpr(rule)
	if err != nil {
		return nil, errors.New("it does not parse")
	}
	return read(expr, 0)
}

// plain refuses comments, which go/parser drops, and escapes.
func plain(rule string) error {
	var s scanner.Scanner
	broken := false
	files := token.NewFileSet()
	s.Init(files.AddFile("", files.Base(), len(rule)), []byte(rule), func(token.Position, string) { broken = true }, scanner.ScanComments)
	for {
		switch _, tok, text := s.Scan(); {
		case tok == token.EOF:
			if broken {
				return errors.New("it does not parse")
			}
			return nil
		case tok == token.COMMENT:
			return errors.New("it holds a comment")
		case tok == token.STRING && text[0] == '"' && strings.Contains(text, `\`):
			return errors.New("it has a backslash within double quotes; write that text in backticks")
		}
	}
}

var errNoMatcher = errors.New("it holds something that is no matcher")

func read(e ast.Expr, nesting int) (*Rule, error) {
	if nesting > maxNesting {
		return nil, errors.New("it is nested too deep")
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return read(e.X, nesting+1)
	case *ast.UnaryExpr:
		if e.Op != token.NOT {
			return nil, errNoMatcher
		}
		x, err := read(e.X, nesting+1)
		if err != nil {
			return nil, err
		}
		return &Rule{Op: Not, X: x}, nil
	case *ast.BinaryExpr:
		op := And
		switch e.Op {
		case token.LAND:
		case token.LOR:
			op = Or
		default:
			return nil, errNoMatcher
		}
		x, err := read(e.X, nesting)
		if err != nil {
			return nil, err
		}
		y, err := read(e.Y, nesting)
		if err != nil {
			return nil, err
		}
		return &Rule{Op: op, X: x, Y: y}, nil
	case *ast.CallExpr:
		return matcher(e)
	}
	return nil, errNoMatcher
}

func matcher(call *ast.CallExpr) (*Rule, error) {
	name, ok := call.Fun.(*ast.Ident)
	if !ok || call.Ellipsis.IsValid() {
		return nil, errNoMatcher
	}
	r := &Rule{Op: Matcher, Name: name.Name}
	for _, arg := range call.Args {
		lit, ok := arg.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return nil, fmt.Errorf("an argument of %s is not a plain text", name.Name)
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			return nil, fmt.Errorf("an argument of %s is not a plain text", name.Name)
		}
		r.Args = append(r.Args, text)
	}
	return r, nil
}
