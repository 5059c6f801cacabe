// Package enrol reads how a recipe is enrolled: tests/<recipe>/recipe.yml,
// strictly, into a [ccci.Recipe].
//
// The struct tags of ccci.Recipe are the one registry of settings (U8). The
// reader, the documentation ([Doc]) and the list of effective settings
// ([Effective]) are all derived from them, so that they cannot disagree. A file
// with mistakes is refused with every mistake at once, each with its line.
package enrol

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// FileName is the settings file within an enrolment folder.
const FileName = "recipe.yml"

// maxSize bounds recipe.yml, in bytes. The largest real one is a few kilobytes.
const maxSize = 256 << 10

var recipeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Problem is one mistake in a settings file.
type Problem struct {
	File    string
	Line    int    // from 1; 0 when the mistake has no place in the text
	Key     string // dotted, with list positions: "seed[0].http.path"
	Message string // a sentence without a final full stop
	Hint    string // may be empty
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Problems is every mistake of one file, in the order of its lines. The errors
// of [Read] and [Parse] hold one, for errors.As.
type Problems []Problem

// Error prints one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err returns nil for no problems, else one ccci.Error that lists them all.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return a.Line - b.Line })
	e := &ccci.Error{Code: ccci.CodeInvalid, Message: ps.Error(), Err: ps}
	if len(ps) > 1 {
		e.Message = fmt.Sprintf("%s has %d mistakes:\n%s", ps[0].File, len(ps), ps.Error())
	}
	return e.WithHint("cc-ci config doc lists every setting with its type and default")
}

// Default returns the enrolment of a recipe that has no folder: every default,
// no steps, no waivers (U1).
func Default(name string) ccci.Recipe {
	var r ccci.Recipe
	setDefaults(&r)
	r.Name = name
	return r
}

// Read returns how the recipe called name is enrolled in testsDir. A recipe
// without a folder has the defaults and an empty Dir; a folder without
// recipe.yml has the defaults and its Dir. Mistakes are one ccci.Error with
// CodeInvalid that lists all of them ([Problems]).
func Read(testsDir, name string) (ccci.Recipe, error) {
	if !recipeName.MatchString(name) {
		return ccci.Recipe{}, ccci.Errorf(ccci.CodeInvalid, "%q is not the name of a recipe", name).
			WithHint("a name has lower-case letters, digits and ._- only, at most 63")
	}
	dir, err := filepath.Abs(filepath.Join(testsDir, name))
	if err != nil {
		return ccci.Recipe{}, fmt.Errorf("reading the enrolment of %s: %w", name, err)
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(name), nil
	}
	if err != nil {
		return ccci.Recipe{}, fmt.Errorf("reading the enrolment of %s: %w", name, err)
	}
	if !info.IsDir() {
		return ccci.Recipe{}, ccci.Errorf(ccci.CodeInvalid, "%s is not a folder", filepath.Join(testsDir, name)).
			WithHint("an enrolment is a folder tests/<recipe>/, with recipe.yml in it")
	}
	r, err := readDir(dir, filepath.Join(testsDir, name, FileName))
	if err != nil {
		return ccci.Recipe{}, err
	}
	r.Name, r.Dir = name, dir
	return r, nil
}

// readDir reads dir/recipe.yml; shown is the path that messages name.
func readDir(dir, shown string) (ccci.Recipe, error) {
	text, err := os.ReadFile(filepath.Join(dir, FileName))
	if errors.Is(err, fs.ErrNotExist) {
		// A misnamed file would silently mean "no settings at all".
		for _, other := range []string{"recipe.yaml", "recipe.json", "Recipe.yml"} {
			if _, err := os.Stat(filepath.Join(dir, other)); err == nil {
				return ccci.Recipe{}, ccci.Errorf(ccci.CodeInvalid, "%s is not read", filepath.Join(filepath.Dir(shown), other)).
					WithHint("rename it to %s", FileName)
			}
		}
		return Default(""), nil
	}
	if err != nil {
		return ccci.Recipe{}, fmt.Errorf("reading %s: %w", shown, err)
	}
	r, doc, problems := readText(shown, text)
	for i, overlay := range r.Overlays {
		if !insideFolder(overlay) {
			continue // already a problem
		}
		key := fmt.Sprintf("overlays[%d]", i)
		if msg := overlayProblem(dir, overlay); msg != "" {
			problems = append(problems, Problem{File: shown, Line: doc.line(key), Key: key, Message: msg})
		}
	}
	return r, problems.err()
}

// overlayProblem says what is wrong with an overlay's file, or "".
func overlayProblem(dir, overlay string) string {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Sprintf("the folder cannot be opened: %v", err)
	}
	defer root.Close()
	info, err := root.Stat(overlay) // follows links, never out of dir
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%q does not exist in the enrolment folder", overlay)
	case err != nil:
		return fmt.Sprintf("%q cannot be read from the enrolment folder: %v", overlay, err)
	case !info.Mode().IsRegular():
		return fmt.Sprintf("%q is not a file", overlay)
	}
	return ""
}

// Parse reads the text of one recipe.yml. file is only used in messages. Name
// and Dir of the result are empty, and whether overlays exist is not looked at.
func Parse(file string, text []byte) (ccci.Recipe, error) {
	r, _, problems := readText(file, text)
	if err := problems.err(); err != nil {
		return ccci.Recipe{}, err
	}
	return r, nil
}

// readText returns what could be read even when there are problems, so that
// later checks can add theirs.
func readText(file string, text []byte) (ccci.Recipe, *decoder, Problems) {
	d := &decoder{file: file, lines: map[string]int{}}
	r := Default("")
	root, ok := d.document(text)
	if ok && root != nil {
		d.decode(root, settable(&r), "")
	}
	if ok {
		check(&r, d)
	}
	return r, d, d.problems
}
