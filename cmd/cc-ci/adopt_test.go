package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/doctor"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
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
		{1, "guild/cloud", "cloud", ""},          // nothing is known of the other one
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

// told is a forge's answer about what it finds.
type told struct {
	refs []ccci.RepoRef
	err  error
}

func (f *told) Discover(context.Context) ([]ccci.RepoRef, error) { return f.refs, f.err }

// N3: of several repositories that are found with one name, whose runs there are decides which of them has the recipe with its
// waivers, hooks and verdicts; where there are none, no one has it until the configuration lists one. That a forge is down for
// once, also while cc-ci starts, gives the name to nobody else.
func TestN3_OfTwoFoundRepositoriesOneHasTheRecipe(t *testing.T) {
	coop, guild := ccci.RepoRef{Owner: "coop", Name: "cloud"}, ccci.RepoRef{Owner: "guild", Name: "cloud"}
	down := errors.New("502 bad gateway")
	pull := func(forge string, repo ccci.RepoRef) ccci.Run {
		return ccci.Run{Key: ccci.RunKey(forge, "1", 0), PR: ccci.PRRef{Repo: repo, Number: 1}, CloneURL: "https://one.example.org/somebody/fork.git"}
	}
	swept := func(url string) ccci.Run {
		return ccci.Run{Key: "sweep/1", CloneURL: url, Trigger: ccci.TriggerSweep, Branch: "main"}
	}
	// restart begins anew, with what the store has.
	type round struct {
		restart  bool
		one, two told
		want     []string
	}
	refs := func(all ...ccci.RepoRef) told { return told{refs: all} }
	onOne, onTwo := "coop/cloud on one", "guild/cloud on two"
	for name, c := range map[string]struct {
		listed string // under repositories: of the second forge
		runs   []ccci.Run
		rounds []round
		doctor int // warnings at the end
	}{
		"neither has runs": {rounds: []round{
			{want: []string{onOne}, one: refs(coop)},
			{one: refs(coop), two: refs(guild)},
			{one: told{err: down}, two: refs(guild)},
			{one: refs(coop), two: refs()}, // an account that lost its rights
			{one: refs(coop), two: refs(ccci.RepoRef{Owner: "guild", Name: "other"}), want: []string{onOne, "guild/other on two"}},
			{one: refs(coop), two: refs(guild)},
		}, doctor: 2},
		"in another case":       {rounds: []round{{one: refs(coop), two: refs(ccci.RepoRef{Owner: "guild", Name: "Cloud"}), want: []string{onOne}}}}, // no recipe has a name with a capital
		"on one forge":          {rounds: []round{{two: refs(coop, guild)}}, doctor: 2},
		"the same name on both": {rounds: []round{{one: refs(coop), two: refs(coop)}}, doctor: 2},
		"one is listed":         {listed: "guild/cloud", rounds: []round{{one: refs(coop), two: refs(guild), want: []string{onTwo}}}, doctor: 1},
		"one has runs": {runs: []ccci.Run{pull("one", coop)}, rounds: []round{
			{one: refs(coop), two: refs(guild), want: []string{onOne}},
			{one: told{err: down}, two: refs(guild)},
			{restart: true, one: told{err: down}, two: refs(guild)},
			{one: refs(coop), two: refs(guild), want: []string{onOne}},
			{two: refs(coop)}, // the other forge's of the same name
		}, doctor: 1},
		"one was swept": {runs: []ccci.Run{swept("https://two.example.org/guild/cloud.git")}, rounds: []round{
			{one: refs(coop), two: refs(guild), want: []string{onTwo}},
			{restart: true, one: refs(coop), two: told{err: down}},
			{restart: true, one: refs(guild), two: told{err: down}},
		}, doctor: 1},
		"swept at another address": {runs: []ccci.Run{swept("https://public.example.org/guild/cloud.git")}, rounds: []round{{one: refs(coop), two: refs(guild), want: []string{onTwo}}}, doctor: 1},
		"a run by hand":            {runs: []ccci.Run{{Key: "hand/1", CloneURL: "/home/ada/cloud"}}, rounds: []round{{one: refs(coop), want: []string{onOne}}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			listed := ""
			if c.listed != "" {
				listed = ", repositories: [{repo: " + c.listed + "}]"
			}
			cfg, err := config.Parse(filepath.Join(dir, "cc-ci.yml"), []byte(`
data: data
tests: tests
forges:
  - {kind: gitea, name: one, url: "https://one.example.org", org: coop, token_file: token, discover: org}
  - {kind: gitea, name: two, url: "https://two.example.org", org: guild, token_file: token, discover: "topic:cc-ci"`+listed+`}
`))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "tests", "cloud", "recipe.yml"), "")
			if err := os.MkdirAll(storeDir(cfg), 0o700); err != nil {
				t.Fatal(err)
			}
			store, err := sqlstore.Open(t.Context(), storePath(cfg))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			for i, run := range c.runs {
				run.ID, run.Recipe, run.Status, run.Attempt = ccci.RunID(fmt.Sprintf("260102-030405-00000%d", i)), "cloud", ccci.StatusQueued, 1
				run.Commit, run.Created = ccci.Commit(strings.Repeat("a", 40)), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
				if _, _, err := store.ClaimRun(t.Context(), run); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			s := &server{cfg: cfg, store: store, log: slog.New(slog.NewTextHandler(&log, nil))}
			seen := &found{}
			for i, round := range c.rounds {
				if round.restart {
					s = &server{cfg: cfg, store: store, log: s.log}
				}
				log.Reset()
				recorded, err := recordedOwners(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				var known []place
				for at, answer := range []*told{&round.one, &round.two} {
					refs, err := finder{answer, s, cfg.Forges[at].Name}.Discover(t.Context())
					if (err != nil) != (answer.err != nil) {
						t.Fatal(err)
					}
					if err == nil {
						seen.set(cfg.Forges[at].Name, refs, recorded)
					}
					for _, ref := range refs {
						known = append(known, place{cfg.Forges[at].Name, ref})
					}
				}
				var have []string
				for _, p := range known {
					for _, entry := range cfg.Forges {
						if entry.Name == p.forge && s.adopt(entry)(p.repo).Recipe != "" {
							have = append(have, p.String())
						}
					}
				}
				if !slices.Equal(have, round.want) {
					t.Errorf("round %d: enrolled are %q, want %q\n%s", i, have, round.want, &log)
				}
			}
			all := ofOneName(cfg, seen)
			for _, d := range all {
				if !d.Warning || !strings.Contains(d.Hint, "{repo: ") || !strings.Contains(d.Hint, "of the forge ") {
					t.Errorf("the doctor says %+v", d)
				}
			}
			if len(all)+len(leftOut(cfg, cfg.Forges[0], seen.on("one"))) != c.doctor {
				t.Errorf("the doctor says %+v", all)
			}
		})
	}
}
