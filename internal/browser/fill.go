package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/chromedp/chromedp"
)

// fillScript puts a value into a field in one task of the page, so that no timer of the page comes
// between: one that moves the focus or selects the field again takes no character and gets none.
// An editing command fires the events that typing fires and keeps to the limits that typing has. Fields
// that are no text, as dates and colours, know no such command: their value is set.
const fillScript = `(selector, value) => {
	const e = document.querySelector(selector)
	if (!e) return false
	e.focus()
	if (["color", "date", "datetime-local", "month", "range", "time", "week"].includes(e.type)) {
		e.value = value
		e.dispatchEvent(new InputEvent("input", {bubbles: true}))
		e.dispatchEvent(new Event("change", {bubbles: true}))
		return true
	}
	if (e.select) e.select()
	else document.getSelection().selectAllChildren(e)
	return value ? document.execCommand("insertText", false, value) : document.execCommand("delete")
}`

// heldScript reads what a field holds.
const heldScript = `selector => {
	const e = document.querySelector(selector)
	return !e ? "" : "value" in e ? String(e.value) : e.innerText
}`

// Fill replaces what a field holds, reads it back after a moment, in which a page that is starting may
// undo it, and tries again until it is kept.
func (p *page) Fill(ctx context.Context, selector, value string) error {
	if err := p.act(ctx, chromedp.WaitVisible(chromedp.CSS(selector))); err != nil {
		return err
	}
	held, filled := "", false
	err := p.until(ctx, func() (bool, error) {
		if filled { // 100 ms ago
			var err error
			held, err = run(ctx, p, called[string](heldScript, selector))
			if err != nil || sameText(held, value) {
				return err == nil, err
			}
		}
		if err := p.settled(ctx); err != nil {
			return false, err
		}
		if _, err := run(ctx, p, called[bool](fillScript, selector, value)); err != nil {
			return false, err
		}
		filled = true
		return false, nil
	})
	if filled && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the page does not keep it: the field holds %d characters in place of %d", len([]rune(held)), len([]rune(value)))
	}
	return err
}

// called calls a function in the page, see [isolated].
func called[T any](function string, args ...any) chromedp.Action[T] {
	quoted, err := json.Marshal(args)
	if err != nil { // arguments are strings
		panic(err)
	}
	return isolated[T]("("+function+")(..."+string(quoted)+")", "")
}

// sameText compares what a field holds with what it was given. A page may format that: spaces,
// punctuation and case are its own affair, a letter or a digit is not.
func sameText(held, value string) bool {
	plain := func(text string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return unicode.ToLower(r)
			}
			return -1
		}, text)
	}
	return plain(held) == plain(value) && (held == "") == (value == "")
}
