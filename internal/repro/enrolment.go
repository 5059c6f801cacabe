package repro

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/leak"
)

// Enrolment is the folder tests/<recipe>/ as it was when it was read, secrets aside.
type Enrolment struct {
	files    []file
	without  []LeftOut // files, by their path within the folder
	replaced []string  // keys of recipe.yml whose values are dummies now
	err      error     // why it is not kept at all
}

type file struct {
	path    string // within the folder, with slashes
	program bool
	content []byte
}

func (f file) mode() int64 {
	if f.program {
		return 0o755
	}
	return 0o644
}

func (e Enrolment) size() (sum int) {
	for _, f := range e.files {
		sum += len(f.content)
	}
	return sum
}

// leftOut are the files that are not kept, by their path within the archive.
func (e Enrolment) leftOut(part string) []LeftOut {
	var all []LeftOut
	for _, l := range e.without {
		all = append(all, LeftOut{part + "/" + l.Part, l.Why})
	}
	return all
}

// ReadEnrolment reads an enrolment folder, which is the operator's own. Each of the secrets, which
// have the keys of recipe.yml, is replaced by one dummy in all files, so that steps and hooks that
// name it go on to fit. One of less than [censor.MinLength] bytes cannot be told from
// ordinary words and stays. A folder that cannot be kept is no error: the archive will say why.
func ReadEnrolment(dir string, secrets map[string]string) Enrolment {
	var e Enrolment
	if e.err = e.read(dir); e.err == nil {
		e.replace(secrets)
	}
	return e
}

// replace takes the secrets out. A file that has one in another form is not kept.
func (e *Enrolment) replace(secrets map[string]string) {
	var known censor.Censor
	var pairs []string
	// The longest first: one may be a part of another.
	keys := slices.SortedFunc(maps.Keys(secrets), func(a, b string) int {
		return cmp.Or(len(secrets[b])-len(secrets[a]), strings.Compare(a, b))
	})
	dummies := map[string]string{} // by secret: two keys may have one value
	for _, key := range keys {
		value := secrets[key]
		if len(value) < censor.MinLength {
			continue
		}
		if dummies[value] == "" {
			dummies[value] = dummy(len(dummies), len(value))
			known.Add(key, ccci.NewSecret(value))
			pairs = append(pairs, value, dummies[value])
		}
		e.replaced = append(e.replaced, key)
	}
	replacer := strings.NewReplacer(pairs...)
	var kept []file
	for _, f := range e.files {
		f.content = []byte(replacer.Replace(string(f.content)))
		if found := known.Find(f.content); len(found) > 0 {
			e.without = append(e.without, LeftOut{f.path, "it holds the value of " + found[0] + " in another form"})
			continue
		}
		kept = append(kept, f)
	}
	e.files = kept
}

// dummy is a word of a length, another one for each n. It is text to YAML.
func dummy(n, length int) string {
	word := "dummy" + string(rune('a'+n%26))
	return (word + strings.Repeat("x", length))[:max(length, len(word))]
}

func (e *Enrolment) read(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == ".":
			return nil
		case len(e.files)+len(e.without) >= maxFiles:
			return fmt.Errorf("it has more than %d files", maxFiles)
		case strings.HasPrefix(d.Name(), "."): // .git, .env
			e.without = append(e.without, LeftOut{path, "its name begins with a point"})
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		return e.add(root, path)
	})
	if err != nil {
		return err
	}
	return e.addModule(dir)
}

// add reads one file; a link is followed within the folder.
func (e *Enrolment) add(root *os.Root, path string) error {
	leave := func(why string) error {
		e.without = append(e.without, LeftOut{path, why})
		return nil
	}
	info, err := root.Stat(path)
	if err != nil {
		return leave(err.Error())
	}
	if !info.Mode().IsRegular() {
		return leave("it is not a file")
	}
	if !goodPath(testsDir + "/r/" + path) {
		return leave("its name has unusual characters")
	}
	f, err := root.Open(path)
	if err != nil {
		return leave(err.Error())
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxEnrolment+1))
	if err != nil {
		return leave(err.Error())
	}
	if len(content)+e.size() > maxEnrolment {
		return fmt.Errorf("it has more than %d MiB", maxEnrolment>>20)
	}
	var scan leak.Scan
	scan.Text(path, string(content))
	if found := scan.Report().Findings; len(found) > 0 {
		return leave("it holds a secret: " + found[0].What)
	}
	e.files = append(e.files, file{path, info.Mode()&0o111 != 0, content})
	return nil
}

// addModule keeps go.mod and go.sum of the module that Go tests are in, if it begins above.
func (e *Enrolment) addModule(dir string) error {
	has := func(match func(file) bool) bool { return slices.ContainsFunc(e.files, match) }
	if !has(func(f file) bool { return !strings.Contains(f.path, "/") && strings.HasSuffix(f.path, "_test.go") }) ||
		has(func(f file) bool { return f.path == "go.mod" }) {
		return nil
	}
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return nil // the Go tests themselves say that there is no module
		}
		e.files = append(e.files, file{"go.mod", false, mod})
		if sum, err := os.ReadFile(filepath.Join(at, "go.sum")); err == nil {
			e.files = append(e.files, file{"go.sum", false, bytes.Clone(sum)})
		}
		return nil
	}
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
