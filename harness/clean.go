package harness

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// What comes from an app or a recipe is bounded before it is kept or shown.
const (
	longestText  = 16 << 10 // bytes of one text: a refusal lists everything that is refused
	longestLine  = 1 << 10  // bytes of a line of a check's details
	mostDetail   = 40       // lines of a check's details
	mostElements = 1000     // of any list or table in a result
)

// bounds are those of every text and every list of a result.
type bounds struct{ text, elements int }

// tighter bounds are for a result that is too large within the usual ones: there are many lists,
// and JSON writes six bytes for a character such as "<".
var tighter = []bounds{{2 << 10, mostElements}, {512, 200}, {128, 20}}

// longestResult is the size of a result as it is written, in bytes; its readers take twice that.
const longestResult = ccci.ResultLimit / 2

// clean returns foreign text as it may be shown: masked, without what a terminal would
// obey, and bounded. A secret is masked before the text is cut, or its half would stay.
func (l *life) clean(text string) string { return l.cleanTo(text, longestText) }

func (l *life) cleanTo(text string, limit int) string {
	masked := l.Censor.MaskCut(text)
	shown := plain.Text(masked)
	if shown != masked { // what was taken out may have stood within a secret
		shown = l.Censor.MaskCut(shown)
	}
	return clip(shown, limit)
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

// cleanResult cleans every text and every number of the result, so that no reader of it, in a
// file or in memory, gets more than what may be shown. It does so before JSON is made of them: a
// secret may equal what JSON itself is made of. Times and the words of the schema are
// cc-ci's own and stay.
func (l *life) cleanResult() {
	within := bounds{longestText, mostElements}
	for i := 0; ; i++ {
		l.cleanValue(reflect.ValueOf(l.result).Elem(), within)
		if i == len(tighter) || !l.tooLong() {
			return
		}
		within = tighter[i]
		l.sayf("the result is cut: its texts to %d bytes, its lists to %d elements", within.text, within.elements)
	}
}

// tooLong reports whether readers would refuse the result for its size.
func (l *life) tooLong() bool { return written(reflect.ValueOf(l.result)) > longestResult }

// written is about how long a value is in JSON, in bytes, and not less. To write it would take
// as much memory.
func written(v reflect.Value) int {
	const around = 64 // a field's name, its indentation, a number
	sum := around
	switch v.Kind() {
	case reflect.String:
		for _, c := range []byte(v.String()) {
			switch c {
			case '<', '>', '&':
				sum += 6
			case '"', '\\', '\n', '\t':
				sum += 2
			default:
				sum++
			}
		}
	case reflect.Pointer:
		sum += written(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			sum += written(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			sum += written(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			sum += written(key) + written(v.MapIndex(key))
		}
	}
	return sum
}

func (l *life) cleanValue(v reflect.Value, within bounds) {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		if text := strconv.FormatInt(v.Int(), 10); v.CanSet() && l.Censor.MaskString(text) != text {
			v.SetInt(0)
		}
	case reflect.String:
		if text := v.String(); v.CanSet() && text != "" && v.Type() == reflect.TypeFor[string]() {
			v.SetString(l.cleanTo(text, within.text))
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Kind() == reflect.Pointer {
			l.cleanValue(v.Elem(), within)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				l.cleanValue(v.Field(i), within)
			}
		}
	case reflect.Slice:
		l.cleanSlice(v, within)
	case reflect.Map:
		l.cleanMap(v, within)
	}
}

func (l *life) cleanSlice(v reflect.Value, within bounds) {
	if lines, ok := v.Interface().([]string); ok {
		// Lines that belong together, as a check's details: looked at as one text first.
		copied := append([]string(nil), lines...)
		if masked := l.Censor.MaskLines(copied); len(masked) > 0 {
			v.Set(reflect.ValueOf(masked))
		}
	}
	if v.Len() > within.elements {
		l.sayf("a list of the result is cut: %d of %d elements are left out", v.Len()-within.elements, v.Len())
		v.Set(v.Slice(0, within.elements))
	}
	for i := range v.Len() {
		l.cleanValue(v.Index(i), within)
	}
}

func (l *life) cleanMap(v reflect.Value, within bounds) {
	if v.IsNil() || v.Type().Key().Kind() != reflect.String {
		return
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for i, key := range keys {
		if i >= within.elements {
			v.SetMapIndex(key, reflect.Value{})
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		value.Set(v.MapIndex(key))
		l.cleanValue(value, within)
		name := reflect.New(v.Type().Key()).Elem()
		name.SetString(l.cleanTo(key.String(), within.text))
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
