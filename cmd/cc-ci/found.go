package main

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// place is a repository on one of the forges.
type place struct {
	forge string // name of its entry
	repo  ccci.RepoRef
}

func (p place) String() string { return p.repo.String() + " on " + p.forge }

// entry is what enrols the repository in the configuration.
func (p place) entry() string {
	return fmt.Sprintf("{repo: %s}, under repositories: of the forge %s", p.repo, p.forge)
}

// found are the repositories that were found, and which of them have the recipes of their names. Settings,
// waivers, hooks, badge and canonical are a recipe's, so that it has one repository:
//   - the one that the configuration lists (see nameTaken);
//   - else the one whose runs the store has. It keeps the name when it is not found for once, since its forge is
//     down, and whatever is found then;
//   - else the one that is found. Of several none has it, until the configuration lists one.
type found struct {
	mu     sync.Mutex
	names  []string
	odds   map[place]bool
	all    map[string][]ccci.RepoRef // by forge, as they were last told
	owners map[string]place          // by name in lower case; of recipes that have runs
}

// set notes what a forge has found, and whose runs the store has. An empty list
// changes nothing, as in the bridge: an account that lost its rights sees one.
func (f *found) set(forge string, refs []ccci.RepoRef, owners map[string]place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string][]ccci.RepoRef{}
	}
	if len(refs) > 0 {
		f.all[forge] = slices.Clone(refs)
	}
	f.owners = owners
}

// alone reports whether no other repository has, or could have as well, the name of one
// that is enrolled by being found; else it says which.
func (f *found) alone(cfg config.Config, p place) (rivals string, alone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var others []string
	for _, entry := range cfg.AllForges() {
		listed := func(ref ccci.RepoRef) bool {
			return slices.ContainsFunc(entry.Repos, func(r config.Repo) bool { return r.Repo == ref.String() })
		}
		if entry.Name == p.forge && listed(p.repo) {
			return "", true
		}
		for _, ref := range f.all[entry.Name] {
			if at := (place{entry.Name, ref}); at != p && strings.EqualFold(ref.Name, p.repo.Name) && !listed(ref) && byFinding(cfg, entry, ref) {
				others = append(others, at.String())
			}
		}
	}
	if owner, known := f.owners[strings.ToLower(p.repo.Name)]; known {
		if owner.repo == p.repo && (owner.forge == "" || owner.forge == p.forge) {
			return "", true
		}
		return "the runs of the recipe " + p.repo.Name + " are of " + strings.TrimSuffix(owner.String(), " on "), false
	}
	return "of that name there is " + strings.Join(others, ", ") + " too, and none is listed in the configuration", len(others) == 0
}

// on returns what was found on a forge.
func (f *found) on(forge string) []ccci.RepoRef {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all[forge])
}

// odd notes a repository that cannot be enrolled, and reports whether that is new.
func (f *found) odd(p place) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.odds == nil {
		f.odds = map[place]bool{}
	}
	known := f.odds[p]
	f.odds[p] = true
	return !known
}

// add notes a repository that is enrolled.
func (f *found) add(p place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.odds, p)
	if !slices.Contains(f.names, p.repo.Name) {
		f.names = append(f.names, p.repo.Name)
	}
}

func (f *found) recipes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.names)
}

// finder keeps what a forge finds, before anything of it is enrolled.
type finder struct {
	ccci.Discoverer
	s     *server
	forge string
}

func (f finder) Discover(ctx context.Context) ([]ccci.RepoRef, error) {
	refs, err := f.Discoverer.Discover(ctx)
	if err != nil {
		return nil, err
	}
	owners, err := owners(ctx, f.s.cfg, f.s.store)
	if err != nil {
		return nil, err
	}
	f.s.found.set(f.forge, refs, owners)
	return refs, nil
}

// owners says of which repository the runs of each recipe are, by its name in lower case: the run that speaks for
// the recipe decides, else the newest one. Runs by hand are of none.
func owners(ctx context.Context, cfg config.Config, store interface {
	LatestPerRecipe(context.Context) ([]ccci.Run, error)
}) (map[string]place, error) {
	runs, err := store.LatestPerRecipe(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading whose runs there are: %w", err)
	}
	all := map[string]place{}
	for _, run := range runs { // of each recipe the newest comes first
		name := strings.ToLower(run.Recipe)
		p, ok := placeOf(cfg, run)
		_, known := all[name]
		if _, speaks := run.SpeaksFor()[ccci.SubjectRecipe]; ok && (speaks || !known) {
			all[name] = p
		}
	}
	return all, nil
}

// placeOf returns the repository that a run is of. A run of the sweep has no pull request and names no forge: its
// address tells, and the forge is "" where it is no configured one's.
func placeOf(cfg config.Config, run ccci.Run) (place, bool) {
	if !run.PR.Repo.IsZero() {
		forge, _, ok := strings.Cut(run.Key, "/")
		return place{forge, run.PR.Repo}, ok
	}
	u, err := url.Parse(run.CloneURL)
	if err != nil || u.Host == "" {
		return place{}, false
	}
	owner, name := path.Split(strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), ".git"))
	p := place{repo: ccci.RepoRef{Owner: path.Base(owner), Name: name}}
	for _, entry := range cfg.AllForges() {
		if at, err := url.Parse(entry.URL); err == nil && at.Host == u.Host {
			p.forge = entry.Name
		}
	}
	return p, run.Trigger == ccci.TriggerSweep
}
