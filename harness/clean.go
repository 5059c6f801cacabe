package harness

import (
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// What comes from an app or a recipe is bounded before it is kept or shown.
const (
	longestText  = 16 << 10 // bytes of one text: a refusal lists everything that is refused
	longestLine  = 1 << 10  // bytes of a line of a check's details
	mostDetail   = 40       // lines of a check's details
	mostElements = 1000     // of any list in a result
)

// clean returns foreign text as it may be shown: masked, without what a terminal would
// obey, and bounded. A secret is masked before the text is cut, or its half would stay.
func (l *life) clean(text string) string {
	return clip(plain.Text(l.Censor.MaskCut(text)), longestText)
}

// cleanLines is clean for the lines of one text: a secret may run over their ends.
func (l *life) cleanLines(lines []string) []string {
	lines = l.Censor.MaskLines(lines)
	var out []string
	for _, line := range lines[:min(len(lines), mostDetail)] {
		out = append(out, clip(plain.Line(line), longestLine))
	}
	return out
}

// cleanResult cleans every text of the result, so that no reader of it, in a file or in
// memory, gets more than what may be shown.
func (l *life) cleanResult() { l.cleanValue(reflect.ValueOf(l.result).Elem()) }

func (l *life) cleanValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if text := v.String(); v.CanSet() && text != "" {
			v.SetString(l.clean(text))
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Kind() == reflect.Pointer {
			l.cleanValue(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				l.cleanValue(v.Field(i))
			}
		}
	case reflect.Slice:
		l.cleanSlice(v)
	case reflect.Map:
		l.cleanMap(v)
	}
}

func (l *life) cleanSlice(v reflect.Value) {
	if lines, ok := v.Interface().([]string); ok {
		// Lines that belong together, as a check's details: looked at as one text first.
		copied := append([]string(nil), lines...)
		if masked := l.Censor.MaskLines(copied); len(masked) > 0 {
			v.Set(reflect.ValueOf(masked))
		}
	}
	if v.Len() > mostElements {
		l.sayf("a list of the result is cut: %d of %d elements are left out", v.Len()-mostElements, v.Len())
		v.Set(v.Slice(0, mostElements))
	}
	for i := range v.Len() {
		l.cleanValue(v.Index(i))
	}
}

func (l *life) cleanMap(v reflect.Value) {
	if v.IsNil() || v.Type().Key().Kind() != reflect.String {
		return
	}
	for _, key := range v.MapKeys() {
		value := reflect.New(v.Type().Elem()).Elem()
		value.Set(v.MapIndex(key))
		l.cleanValue(value)
		name := reflect.New(v.Type().Key()).Elem()
		name.SetString(l.clean(key.String()))
		v.SetMapIndex(key, reflect.Value{})
		v.SetMapIndex(name, value)
	}
}

// clip cuts a text to at most limit bytes, at a character, and says so.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.TrimRight(text[:cut], " \n") + fmt.Sprintf(" … (%d bytes more)", len(text)-cut)
}
