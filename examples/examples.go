// Package examples holds recipes of real software, and canary recipes that
// must fail at a known stage, and makes git repositories of them.
//
// Each folder under recipes/ is one recipe, and each folder in that is the
// whole tree of one version. The highest version is the one under test: it
// becomes a branch for a pull request; the others are released, each as a
// commit on main with an annotated tag. Every file of a recipe is therefore
// readable here as it is deployed, and a repository made from it has the same
// commits on every machine.
package examples

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	ccci "github.com/recipe-maintainers/cc-ci"
)

//go:embed all:recipes
var content embed.FS

// Canary begins the name of every recipe that exists to test cc-ci itself.
const Canary = "canary-"

// Expectation is what a run of a canary must come to, as its expect.json says.
type Expectation struct {
	Status ccci.Status `json:"status"`
	// Stage is the first that is not green; "" when all five are.
	Stage ccci.StageName `json:"stage,omitempty"`
	// Check is the name of the check that fails first; "" when none does.
	Check string `json:"check,omitempty"`
	// Level is the one that must be reached; nil when it is of no concern.
	Level *int `json:"level,omitempty"`
	// Deployments is how many apps are created; 0 stands for 1.
	Deployments int `json:"deployments,omitempty"`
}

// Names lists all recipes, sorted.
func Names() []string {
	entries, err := fs.ReadDir(content, "recipes")
	if err != nil {
		panic(err) // the tree is compiled in
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// Versions lists the versions of a recipe, lowest first: all but the last are
// released, the last is the head of the pull request. A recipe that is not
// here has none.
func Versions(name string) []string {
	if !slices.Contains(Names(), name) {
		return nil
	}
	entries, err := fs.ReadDir(content, path.Join("recipes", name))
	if err != nil {
		panic(err) // the tree is compiled in
	}
	var versions []string
	for _, e := range entries {
		if e.IsDir() {
			versions = append(versions, e.Name())
		}
	}
	slices.SortFunc(versions, func(a, b string) int {
		return cmp.Or(semver.Compare("v"+a, "v"+b), strings.Compare(a, b))
	})
	return versions
}

// UpgradeBranch names the branch that holds a recipe's highest version. A
// recipe that is not here is an Error with CodeNotFound.
func UpgradeBranch(name string) (string, error) {
	versions := Versions(name)
	if len(versions) == 0 {
		return "", unknown(name)
	}
	return branchOf(versions), nil
}

func branchOf(versions []string) string { return "upgrade-" + versions[len(versions)-1] }

func unknown(name string) error {
	return ccci.Errorf(ccci.CodeNotFound, "looking for the example recipe %q: there is none of that name", name).
		WithHint("there are: %s", strings.Join(Names(), ", "))
}

// Expected reads what a run of a canary must come to. A recipe without an
// expectation is an Error with CodeNotFound.
func Expected(name string) (Expectation, error) {
	text, err := content.ReadFile(path.Join("recipes", name, "expect.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Expectation{}, ccci.Errorf(ccci.CodeNotFound, "reading what %s must come to: it has no expect.json", name)
	}
	if err != nil {
		return Expectation{}, err
	}
	var e Expectation
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Expectation{}, ccci.Errorf(ccci.CodeInvalid, "reading what %s must come to: %w", name, err)
	}
	return e, nil
}
