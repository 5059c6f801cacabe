package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/doctor"
)

// N3: who may make a repository in the organisation, or give one the topic, does not take the name of a recipe with which
// another one is enrolled: its waivers, hooks and verdicts are not for the newcomer.
func TestN3_AFoundRepositoryTakesNoEnrolledName(t *testing.T) {
	dir := t.TempDir()
	cfg, err := config.Parse(filepath.Join(dir, "cc-ci.yml"), []byte(`
data: data
tests: tests
forges:
  - {kind: gitea, name: one, url: "https://one.example.org", org: coop, token_file: token, discover: org,
     repositories: [{repo: coop/wiki-recipe, recipe: wiki}, {repo: coop/blog}]}
  - {kind: gitea, name: two, url: "https://two.example.org", org: guild, token_file: token, discover: "topic:cc-ci"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wiki", "blog", "cloud"} {
		write(t, filepath.Join(dir, "tests", name, "recipe.yml"), "")
	}
	var log bytes.Buffer
	s := &server{cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, c := range []struct {
		forge      int
		repo, want string // recipe
		owner      string // who has its name
	}{
		{0, "coop/wiki", "", "coop/wiki-recipe"},
		{0, "coop/Wiki", "", "coop/wiki-recipe"},
		{0, "coop/blog", "blog", ""},
		{0, "coop/cloud", "cloud", ""},
		{0, "coop/wiki-recipe", "", ""}, // no folder of that name
		{1, "guild/wiki", "", "coop/wiki-recipe on one"},
		{1, "coop/blog", "", "coop/blog on one"}, // of the same name elsewhere
		{1, "guild/cloud", "cloud", ""},
	} {
		log.Reset()
		entry := cfg.Forges[c.forge]
		ref, err := ccci.ParseRepoRef(c.repo)
		if err != nil {
			t.Fatal(err)
		}
		adopt := s.adopt(entry)
		for range 2 { // each round anew
			if got := adopt(ref).Recipe; got != c.want {
				t.Errorf("%s on %s is enrolled with %q, want %q", c.repo, entry.Name, got, c.want)
			}
		}
		said := strings.Count(log.String(), "left out")
		var text bytes.Buffer
		if err := doctor.WriteText(&text, leftOut(cfg, entry, []ccci.RepoRef{ref})); err != nil {
			t.Fatal(err)
		}
		looked := watched(cfg, entry, []ccci.RepoRef{ref}, nil)
		if c.owner == "" {
			if said != 0 || text.Len() > 0 {
				t.Errorf("%s on %s: %s%s", c.repo, entry.Name, &log, &text)
			}
			continue
		}
		if said != 1 || !strings.Contains(log.String(), c.owner) || len(looked) != 0 {
			t.Errorf("%s on %s: the log says %s, the doctor looks at %v", c.repo, entry.Name, &log, looked)
		}
		if want := "warning  " + entry.Name + ": " + c.repo + ": it is found and left out, since " + c.owner + " is enrolled with the recipe "; !strings.HasPrefix(text.String(), want) {
			t.Errorf("the doctor says %s, want %s", &text, want)
		}
	}
}
