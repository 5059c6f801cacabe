package recipe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/docker/cli/cli/compose/template"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	composeName = "compose.yml"
	sampleName  = ".env.sample"
	abraName    = "abra.sh"
)

// Bounds of single files, in bytes. Swarm's own for configs and secrets.
const (
	maxComposeFile = 1 << 20
	maxConfigFile  = 1000 * 1024
	maxSecretFile  = 500 * 1024
	maxOtherFile   = 1 << 20
)

// MaxComposeFiles bounds how many compose files make a stack.
const MaxComposeFiles = 60

// Tree is a checkout of a recipe. Its files are read anew by each method, and
// must not change while one runs.
type Tree struct {
	Dir    string // root, absolute
	Commit ccci.Commit
	// Recipe is the name that .env.sample states as TYPE, else the folder's.
	Recipe string
}

// Open checks that dir holds a recipe. commit may be empty for a folder that is
// under no version control. A missing compose.yml or .env.sample is an
// Error with CodeInvalid, one that is a symbolic link with CodeRefused.
func Open(dir string, commit ccci.Commit) (*Tree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the recipe in %s: %w", dir, err)
	}
	info, err := os.Stat(abs)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, ccci.Errorf(ccci.CodeNotFound, "there is no recipe folder %s", dir).
			WithHint("name the checkout of a recipe: a folder with compose.yml and .env.sample")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the recipe in %s: %w", dir, err)
	}
	if commit != "" && !commit.Valid() {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%q is not a full commit name", string(commit)).
			WithHint("git rev-parse prints all 40 digits")
	}
	t := &Tree{Dir: abs, Commit: commit, Recipe: path.Base(filepath.ToSlash(abs))}
	if _, err := t.readCompose(composeName); err != nil {
		return nil, notRecipe(err, "a recipe has its stack in compose.yml at the root")
	}
	sample, err := t.sample()
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"TYPE", "RECIPE"} {
		name, _, _ := strings.Cut(sample.Get(key), ":")
		if recipeName.MatchString(name) {
			t.Recipe = name
			break
		}
	}
	return t, nil
}

// notRecipe tells somebody whose folder lacks a mandatory file what a recipe is.
func notRecipe(err error, hint string) error {
	var e *ccci.Error
	if errors.As(err, &e) && e.Code == ccci.CodeInvalid {
		return e.WithHint("%s", hint)
	}
	return err
}

// ReadFile reads a regular file of the tree, named relative to its root with
// slashes. It never leaves the tree and never follows a symbolic link: those are
// an Error with CodeRefused, an absent file or one beyond limit bytes one with CodeInvalid.
func (t *Tree) ReadFile(name string, limit int64) ([]byte, error) {
	return readInside(t.Dir, name, limit)
}

func readInside(dir, name string, limit int64) ([]byte, error) {
	clean := path.Clean(filepath.ToSlash(name))
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return nil, ccci.Errorf(ccci.CodeRefused, "%q lies outside the recipe", name).
			WithHint("name files relative to the recipe's root")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	defer root.Close()

	parts := strings.Split(clean, "/")
	for i := range parts {
		sub := path.Join(parts[:i+1]...)
		info, err := root.Lstat(sub)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG):
			return nil, ccci.Errorf(ccci.CodeInvalid, "%s does not exist in the recipe", clean).
				WithHint("add the file, or mend its name")
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", clean, err)
		case info.Mode()&fs.ModeSymlink != 0:
			return nil, ccci.Errorf(ccci.CodeRefused, "%s is a symbolic link", sub).
				WithHint("put the file itself into the recipe")
		case i == len(parts)-1 && !info.Mode().IsRegular():
			return nil, ccci.Errorf(ccci.CodeRefused, "%s is not a regular file", clean).
				WithHint("only regular files are read")
		case info.IsDir() && parts[i] == ".git":
			return nil, ccci.Errorf(ccci.CodeRefused, "%s lies within git's own files", clean).
				WithHint("name a file that the recipe holds")
		}
	}
	f, err := root.OpenFile(clean, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", clean, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", clean, err)
	}
	if int64(len(text)) > limit {
		return nil, &ccci.Error{Code: ccci.CodeInvalid, Message: fmt.Sprintf("%s is larger than %d KiB", clean, limit>>10),
			Hint: "make it smaller; swarm takes configs up to 1000 KiB and secrets up to 500 KiB", Err: errTooLarge}
	}
	return text, nil
}

var errTooLarge = errors.New("larger than its limit")

// readCompose reads a compose file of the tree. One that is too large is refused by
// the rule yaml-size, as admission refuses those that are smaller and too large still.
func (t *Tree) readCompose(name string) ([]byte, error) {
	text, err := t.ReadFile(name, maxComposeFile)
	if errors.Is(err, errTooLarge) {
		return nil, ccci.Errorf(ccci.CodeRefused, "%w (rule yaml-size)", err).
			WithHint("move payload into files under configs")
	}
	return text, err
}

func (t *Tree) sample() (*EnvFile, error) {
	text, err := t.ReadFile(sampleName, maxEnvText)
	if err != nil {
		return nil, notRecipe(err, "a recipe has a template of its env file in .env.sample at the root")
	}
	return ParseEnv(sampleName, text)
}

// abra reads the exports of abra.sh; a recipe without one has none.
func (t *Tree) abra() (Env, map[string]int, []Warning, error) {
	if _, err := os.Lstat(filepath.Join(t.Dir, abraName)); errors.Is(err, fs.ErrNotExist) {
		return Env{}, nil, nil, nil
	}
	text, err := t.ReadFile(abraName, maxAbra)
	if err != nil {
		return Env{}, nil, nil, err
	}
	env, lines, warnings := ParseAbra(abraName, text)
	return env, lines, warnings, nil
}

// ComposeFiles returns the files that env's COMPOSE_FILE names, in its order,
// relative to the root: compose.yml alone when it names none. Every one exists,
// is regular and lies within the tree.
func (t *Tree) ComposeFiles(env Env) ([]string, error) {
	var files []string
	for name := range strings.SplitSeq(env.Get("COMPOSE_FILE"), ":") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		clean := path.Clean(name)
		if slices.Contains(files, clean) {
			continue
		}
		if len(files) == MaxComposeFiles {
			return nil, ccci.Errorf(ccci.CodeRefused, "COMPOSE_FILE names more than %d files (rule stack-size)", MaxComposeFiles)
		}
		if _, err := t.readCompose(clean); err != nil {
			code := ccci.CodeOf(err)
			return nil, ccci.Errorf(code, "COMPOSE_FILE names %q: %w", name, err).
				WithHint("COMPOSE_FILE in %s is a list of compose files divided by colons, relative to the recipe's root", sampleName)
		}
		files = append(files, clean)
	}
	if len(files) == 0 {
		files = []string{composeName}
	}
	return files, nil
}

var versionLabel = regexp.MustCompile(`^coop-cloud\.(?:\$\{?STACK_NAME\}?)\.(app\.)?version$`)

// Version returns what the label coop-cloud.${STACK_NAME}.version in compose.yml
// states, with variables filled in from .env.sample and abra.sh; "" when there is no
// such label or the file does not parse.
func (t *Tree) Version() string {
	f, err := t.composeFile(composeName)
	if err != nil {
		return ""
	}
	services := f.section("services")
	names := sortedKeys(services)
	slices.SortStableFunc(names, func(a, b string) int { // app speaks first
		return boolInt(b == "app") - boolInt(a == "app")
	})
	for _, name := range names {
		service, _ := services[name].(map[string]any)
		deploy, _ := service["deploy"].(map[string]any)
		for key, value := range rawMapping(deploy["labels"]) {
			if versionLabel.MatchString(key) && value != "" {
				return t.fillIn(value)
			}
		}
	}
	return ""
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t *Tree) fillIn(text string) string {
	env, err := t.defaults()
	if err != nil {
		return ""
	}
	out, err := fill(text, env.Lookup)
	if err != nil {
		return ""
	}
	return out
}

// maxFilled bounds a single text with its variables filled in, in bytes.
const maxFilled = 64 << 10

var (
	anyVariable = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)
	errFilled   = errors.New("the text is too long with its variables filled in")
)

// fill replaces the variables of one text as docker does. A value that is repeated often
// would make gigabytes of it.
func fill(text string, lookup func(string) (string, bool)) (string, error) {
	if len(text) > maxFilled {
		return "", errFilled
	}
	sum := len(text)
	for _, m := range anyVariable.FindAllStringSubmatch(text, -1) {
		value, _ := lookup(m[1])
		if sum += len(value); sum > maxFilled {
			return "", errFilled
		}
	}
	return template.Substitute(text, lookup)
}

// defaults is .env.sample with the exports of abra.sh.
func (t *Tree) defaults() (Env, error) {
	sample, err := t.sample()
	if err != nil {
		return Env{}, err
	}
	abra, _, _, err := t.abra()
	if err != nil {
		return Env{}, err
	}
	env := sample.Env.Clone()
	for _, key := range abra.keys {
		env.Set(key, abra.Get(key))
	}
	return env, nil
}

// rawMapping reads what compose allows as a mapping or as a list of key=value.
func rawMapping(raw any) map[string]string {
	out := map[string]string{}
	switch raw := raw.(type) {
	case map[string]any:
		for key, value := range raw {
			if value == nil {
				out[key] = ""
				continue
			}
			out[key] = fmt.Sprint(value)
		}
	case []any:
		for _, item := range raw {
			key, value, _ := strings.Cut(fmt.Sprint(item), "=")
			out[key] = value
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
