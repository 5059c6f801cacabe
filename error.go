package ccci

import (
	"errors"
	"fmt"
)

// Code classifies an [Error]. It decides exit codes, colours and who is blamed.
type Code string

const (
	CodeInvalid  Code = "invalid"  // the input is wrong: usage, configuration, a recipe that does not parse
	CodeRefused  Code = "refused"  // understood, and not allowed: admission, authorisation
	CodeNotFound Code = "notfound" // names something that is not there
	CodeConflict Code = "conflict" // collides with the present state
	CodeRecipe   Code = "recipe"   // the recipe under test is at fault
	CodeInfra    Code = "infra"    // our side is at fault: daemon, disk, network
)

// Error speaks to two audiences: Message and Hint to the person who asked, Err
// to the operator. Message is one sentence without a final full stop, naming
// the activity, the file, line and key where there is one; Hint is the way out.
type Error struct {
	Code    Code
	Message string
	Hint    string // may be empty
	Err     error  // may be nil
}

// Errorf makes an Error whose Message is formatted; a %w verb also sets Err.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint returns a copy of e that carries a way out.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first [Error] in err's chain, and CodeInfra
// for any other error: what nobody classified is never blamed on a recipe.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInfra
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
