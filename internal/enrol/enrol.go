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
	"reflect"
	"regexp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// FileName is the settings file within an enrolment folder.
const FileName = "recipe.yml"

var recipeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Default returns the enrolment of a recipe that has no folder: every default,
// no steps, no waivers (U1).
func Default(name string) ccci.Recipe {
	var r ccci.Recipe
	settings.Defaults(&r)
	r.Name = name
	return r
}

// ValidName reports whether name can be that of an enrolment.
func ValidName(name string) bool { return recipeName.MatchString(name) }

// Read returns how the recipe called name is enrolled in testsDir; with "" no recipe is enrolled. A recipe
// without a folder has the defaults and an empty Dir; a folder without
// recipe.yml has the defaults and its Dir. Mistakes are one ccci.Error with
// CodeInvalid that lists all of them ([settings.Problems]).
func Read(testsDir, name string) (ccci.Recipe, error) {
	if !recipeName.MatchString(name) {
		return ccci.Recipe{}, ccci.Errorf(ccci.CodeInvalid, "%q is not the name of a recipe", name).
			WithHint("a name has lower-case letters, digits and ._- only, at most 63")
	}
	if testsDir == "" {
		return Default(name), nil
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
	r, doc := readText(shown, text)
	for _, list := range []struct {
		key   string
		paths []string
	}{{"overlays", r.Overlays}, {"upgrade.repair", r.Upgrade.Repair}} {
		for i, overlay := range list.paths {
			if !insideFolder(overlay) {
				continue // already a problem
			}
			key := fmt.Sprintf("%s[%d]", list.key, i)
			if msg := overlayProblem(dir, overlay); msg != "" {
				doc.Add(doc.Line(key), key, "", "%s", msg)
			}
		}
	}
	return r, doc.Err(docHint)
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
// and Dir of the result are empty, and whether overlays exist is not looked at. With an error,
// which lists every mistake, the result has what could be read.
func Parse(file string, text []byte) (ccci.Recipe, error) {
	r, doc := readText(file, text)
	return r, doc.Err(docHint)
}

// readText returns what could be read even when there are problems, so that
// later checks can add theirs.
func readText(file string, text []byte) (ccci.Recipe, *settings.Decoder) {
	d := settings.NewDecoder(file)
	r := Default("")
	if d.Decode(text, &r) {
		for i := range r.Waivers {
			r.Waivers[i].Line = d.Line(fmt.Sprintf("waivers[%d]", i))
		}
		check(&r, d)
	}
	return r, d
}

// docHint ends every list of mistakes.
const docHint = "cc-ci config doc lists every setting with its type and default"

// Doc returns the Markdown tables of every setting of recipe.yml; docs/settings.md
// holds them and a test compares the two.
func Doc() string { return settings.Doc(reflect.TypeFor[ccci.Recipe]()) }
