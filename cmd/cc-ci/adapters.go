package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/engine/drone"
	"github.com/recipe-maintainers/cc-ci/internal/engine/localengine"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/forge/gitea"
	"github.com/recipe-maintainers/cc-ci/internal/forge/github"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
)

// adapter is one forge of the configuration, opened. What it can besides
// ([ccci.RepositoryReader], [ccci.Diagnoser]) its forge says itself.
type adapter struct {
	entry config.ForgeEntry
	forge ccci.Forge
	local *localforge.Forge // nil for others
	find  ccci.Discoverer   // nil when nothing is to be found
	// signatures and parse are what webhooks need; empty where there are none.
	signatures []string
	parse      func(header http.Header, body []byte, keys []ccci.Secret) (ccci.RepoRef, string, bool, error)
	close      func() error
}

// openAdapter opens one forge. It asks the forge for nothing: cc-ci starts while it is away.
func openAdapter(ctx context.Context, cfg config.Config, entry config.ForgeEntry, log *slog.Logger, changed func(ccci.RepoRef)) (adapter, error) {
	switch entry.Kind {
	case config.KindLocal:
		local, err := openForge(ctx, cfg, changed)
		if err != nil {
			return adapter{}, err
		}
		if changed == nil {
			changed = func(ccci.RepoRef) {}
		}
		return adapter{entry: entry, forge: announcing{local, changed}, local: local, close: local.Close}, nil
	case config.KindGitHub:
		return openGitHub(cfg, entry, log)
	case config.KindGitea:
		return openGitea(cfg, entry, log)
	}
	return adapter{}, ccci.Errorf(ccci.CodeInvalid, "there is no forge of kind %q", entry.Kind).WithHint("write gitea, github or local")
}

func openGitea(cfg config.Config, entry config.ForgeEntry, log *slog.Logger) (adapter, error) {
	token, err := cfg.ReadSecret(entry.TokenFile)
	if err != nil {
		return adapter{}, err
	}
	forge, err := gitea.New(gitea.Options{URL: entry.URL, Name: entry.Name, Token: token, Org: entry.Org, Logger: log})
	if err != nil {
		return adapter{}, err
	}
	how, name, err := config.ParseDiscover(entry.Discover)
	if err != nil {
		return adapter{}, err
	}
	opened := adapter{entry: entry, forge: forge, signatures: gitea.Signatures, parse: gitea.ParseWebhook, close: nothing}
	find := gitea.Find{Org: entry.Org}
	switch how {
	case config.DiscoverTopic:
		find.Topic = name
	case config.DiscoverTeam:
		find.Team = name
	case config.DiscoverNone:
		return opened, nil
	}
	opened.find = forge.Discoverer(find)
	return opened, nil
}

func nothing() error { return nil }

func openGitHub(cfg config.Config, entry config.ForgeEntry, log *slog.Logger) (adapter, error) {
	how, name, err := config.ParseDiscover(entry.Discover)
	if err != nil {
		return adapter{}, err
	}
	options := github.Options{Name: entry.Name, Logger: log, Find: github.Find{Org: entry.Org}}
	switch how {
	case config.DiscoverTopic:
		options.Find.Topic = name
	case config.DiscoverTeam:
		options.Find.Team = name
	}
	if entry.URL != "https://github.com" { // an Enterprise Server
		options.APIURL = entry.URL + "/api/v3/"
	}
	if entry.App.ID != "" {
		options.App = &github.App{ID: entry.App.ID, Installation: int64(entry.App.Installation), KeyFile: entry.App.KeyFile, ReadKey: cfg.ReadKey}
	} else {
		token, err := cfg.ReadSecret(entry.TokenFile)
		if err != nil {
			return adapter{}, err
		}
		options.Token = token
	}
	forge, err := github.New(options)
	if err != nil {
		return adapter{}, err
	}
	opened := adapter{entry: entry, forge: forge, signatures: []string{"X-Hub-Signature-256"}, parse: github.ParseWebhook, close: nothing}
	if how != config.DiscoverNone {
		opened.find = forge
	}
	return opened, nil
}

// openForges opens every forge of the configuration.
func (s *server) openForges(ctx context.Context) error {
	for _, entry := range s.cfg.AllForges() {
		a, err := openAdapter(ctx, s.cfg, entry, s.log, s.announce)
		if err != nil {
			return fmt.Errorf("opening forge %s: %w", entry.Name, err)
		}
		if a.find != nil {
			a.find = finder{a.find, s, entry.Name}
		}
		s.forges = append(s.forges, a)
		if a.local != nil {
			s.forge = a.local
		}
	}
	return nil
}

// openForge opens the local forge, whose own account is cc-ci's and whose
// person at the keyboard is a member.
func openForge(ctx context.Context, cfg config.Config, changed func(ccci.RepoRef)) (*localforge.Forge, error) {
	forge, err := localforge.Open(ctx, localforge.Options{Dir: filepath.Join(cfg.Data, "forge"), OnComment: changed})
	if err != nil {
		return nil, err
	}
	if err := forge.AddMember(ctx, cfg.Forge.Org, cfg.Forge.User); err != nil {
		forge.Close()
		return nil, err
	}
	return forge, nil
}

// pullPages is the local forge as the dashboard's pages use it.
type pullPages struct{ *localforge.Forge }

func (p pullPages) AddComment(ctx context.Context, pr ccci.PRRef, author ccci.User, body string) (ccci.CommentID, error) {
	return p.Forge.AddComment(ctx, pr, author.Name, body)
}

// engine is what the server needs of one besides the port.
type engine interface {
	ccci.Engine
	Run(context.Context) error
	// Prune forgets builds that were finished before a moment, where they are kept here.
	Prune(before time.Time) (int, error)
	Close() error
}

// openEngine makes the engine that the configuration names.
func (s *server) openEngine(o serverOptions) (engine, error) {
	if s.cfg.Engine.Kind == config.KindDrone {
		return s.openDrone()
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return localengine.New(localengine.Options{
		Dir: filepath.Join(s.cfg.Data, cmp.Or(o.Builds, "builds")), Capacity: s.cfg.Engine.Capacity, Deadline: s.cfg.Engine.Deadline, Grace: s.cfg.Engine.Grace, Logger: s.log,
		Hold: s.needs().Short,
		Command: func(_ ccci.Job, dir string) (string, []string, []string) {
			args := []string{"run", "--job", filepath.Join(dir, "job.json"), "--parent", fmt.Sprint(os.Getpid())}
			if o.ConfigPath != "" {
				args = append([]string{"--config", o.ConfigPath}, args...)
			}
			return program, args, []string{"DOCKER_HOST=" + s.platform.docker.DaemonHost()}
		},
	})
}

// openDrone runs jobs as builds of a Drone server whose runners are on this machine.
func (s *server) openDrone() (engine, error) {
	settings := s.cfg.Engine.Drone
	token, err := s.cfg.ReadSecret(settings.TokenFile)
	if err != nil {
		return nil, err
	}
	repo, err := ccci.ParseRepoRef(settings.Repo)
	if err != nil {
		return nil, err
	}
	e, err := drone.New(drone.Options{
		URL: settings.URL, Token: token, Repo: repo, Branch: settings.Branch, Commit: ccci.Commit(settings.Commit), Timeout: s.cfg.Engine.Deadline, Logger: s.log,
		Host: func(_ context.Context, run ccci.RunID) (drone.Presence, error) {
			found, err := harness.LookForRun(s.platform.slotDir(), run)
			return map[harness.Presence]drone.Presence{harness.Absent: drone.Absent, harness.Waiting: drone.Waiting, harness.Working: drone.Working}[found], err
		},
		End: func(_ context.Context, run ccci.RunID, kill bool) error {
			return s.platform.endRun(run, kill)
		},
		Grace: s.cfg.Engine.Grace,
	})
	if err != nil {
		return nil, err
	}
	return remoteEngine{e}, nil
}

// remoteEngine is one that needs no closing, and that keeps its builds elsewhere.
type remoteEngine struct{ *drone.Engine }

func (remoteEngine) Prune(time.Time) (int, error) { return 0, nil }

func (remoteEngine) Close() error { return nil }

// bridgeConfigs are the bridge's configurations, one for each forge.
func (s *server) bridgeConfigs() ([]bridge.Config, error) {
	var all []bridge.Config
	for _, f := range s.forges {
		c := bridge.Config{
			Forge: f.forge, Engine: s.engine, Store: s.store, Bus: s.bus, Locker: s.bus.locker, Blobs: s.blobs,
			Deadline: s.cfg.Engine.Deadline, Capacity: s.cfg.Engine.Capacity, DashboardURL: s.cfg.URL, Logger: s.log, Held: s.needs().Short,
			Bases: s.bases, Roles: roles(s.cfg.Roles, f.entry.Name), PollInterval: f.entry.Poll, Observer: s.metrics,
		}
		for _, r := range f.entry.Repos {
			ref, err := ccci.ParseRepoRef(r.Repo)
			if err != nil {
				return nil, err
			}
			c.Repos = append(c.Repos, bridge.Repo{Ref: ref, Recipe: r.Recipe, Org: f.entry.Org})
		}
		if f.local != nil {
			c.EditGap = time.Second // a forge of our own need not be spared
		}
		if f.find != nil {
			c.Discoverer, c.Adopt = f.find, s.adopt(f.entry)
		}
		s.metrics.Expect(f.entry.Name)
		all = append(all, c)
	}
	return all, nil
}

// bases fetches a commit with all version tags and reads what an upgrade to it can start from.
// The bridge is a small service whose temporary files are in memory: one repository is read at
// a time, and one that is too large for this is left to the run, which has the whole limits.
func (s *server) bases(ctx context.Context, cloneURL string, head ccci.Commit) (ccci.Bases, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	limits := gitLimits(s.cfg.Git)
	limits.Bytes, limits.Memory, limits.Time = min(limits.Bytes, 64<<20), min(limits.Memory, 256<<20), min(limits.Time, time.Minute)
	files, err := scratch.Make("bases")
	if err != nil {
		return ccci.Bases{}, err
	}
	defer files.Remove()
	if _, err := gitcmd.Run(ctx, files.Path, "init", "--quiet", "--bare", "--template="); err != nil {
		return ccci.Bases{}, err
	}
	if err := gitcmd.Fetch(ctx, files.Path, cloneURL, gitcmd.FetchOptions{Refs: []string{string(head)}, Tags: true, Limits: limits}); err != nil {
		return ccci.Bases{}, err
	}
	return recipe.Bases(ctx, files.Path, head)
}

// adopt says how a repository that was found is watched. Who gives it the topic
// or puts it into the team enrols it; of a whole organisation those are
// enrolled that have a folder of tests. A name that an enrolled repository has is no other's, nor is one
// that another repository has by its runs, or that several were found with.
func (s *server) adopt(entry config.ForgeEntry) func(ccci.RepoRef) bridge.Repo {
	return func(ref ccci.RepoRef) bridge.Repo {
		repo, at := bridge.Repo{Ref: ref, Org: entry.Org}, place{entry.Name, ref}
		_, err := enrol.Read(s.cfg.Tests, ref.Name)
		owner, taken := nameTaken(s.cfg, entry, ref)
		rivals, alone := s.found.alone(s.cfg, at)
		leftOut := func(why string, more ...any) {
			if s.found.odd(at) {
				s.log.Warn("a repository was found and "+why, append([]any{"repository", ref, "forge", entry.Name}, more...)...)
			}
		}
		switch {
		case taken:
			leftOut("is left out: another one is enrolled with the recipe of its name", "enrolled", owner)
		case err != nil:
			leftOut("cannot be enrolled", "error", err)
		case !byFinding(s.cfg, entry, ref):
		case !alone:
			leftOut("is left out: "+rivals, "entry", at.entry())
		default:
			repo.Recipe = ref.Name
			s.found.add(at)
		}
		return repo
	}
}

// byFinding reports whether a repository is enrolled by being found, if its name is free.
func byFinding(cfg config.Config, entry config.ForgeEntry, ref ccci.RepoRef) bool {
	settings, err := enrol.Read(cfg.Tests, ref.Name)
	return err == nil && (entry.Discover != config.DiscoverOrg || settings.Dir != "")
}

// nameTaken reports whether a repository that was found on a forge has the name of a recipe with which another one is enrolled
// in the configuration, on whichever forge, and returns that one as "owner/name" or, on another forge, "owner/name on FORGE". The
// recipe's settings, waivers and verdicts are of that one. Names that differ in case alone would be one for Docker.
func nameTaken(cfg config.Config, entry config.ForgeEntry, ref ccci.RepoRef) (owner string, taken bool) {
	for _, other := range cfg.AllForges() {
		for _, r := range other.Repos {
			here := other.Name == entry.Name
			if !strings.EqualFold(r.Recipe, ref.Name) || here && r.Repo == ref.String() {
				continue
			}
			if here {
				return r.Repo, true
			}
			return r.Repo + " on " + other.Name, true
		}
	}
	return "", false
}

// hookSources are the forges whose webhooks are taken.
func (s *server) hookSources() []hook.Source {
	var all []hook.Source
	for _, f := range s.forges {
		if f.parse == nil {
			continue
		}
		source := hook.Source{Name: f.entry.Name, Signatures: f.signatures}
		if paths := f.entry.HookSecrets; len(paths) > 0 {
			source.Verify = func(header http.Header, body []byte) (ccci.RepoRef, string, bool, error) {
				keys, err := s.readSecrets(paths)
				if err != nil {
					return ccci.RepoRef{}, "", false, err
				}
				return f.parse(header, body, keys)
			}
		}
		all = append(all, source)
	}
	return all
}

// readSecrets reads the secrets that hold now. During a change one of two may be missing.
func (s *server) readSecrets(paths []string) ([]ccci.Secret, error) {
	var keys []ccci.Secret
	var errs []error
	for _, path := range paths {
		key, err := s.cfg.ReadSecret(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

// announcing is the local forge as the bridge uses it: what the bridge says is
// made known, so that open pages show it at once.
type announcing struct {
	*localforge.Forge
	said func(ccci.RepoRef)
}

func (a announcing) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	id, err := a.Forge.PostComment(ctx, pr, key, body)
	a.said(pr.Repo)
	return id, err
}

func (a announcing) EditComment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string) error {
	err := a.Forge.EditComment(ctx, pr, id, body)
	a.said(pr.Repo)
	return err
}

func (a announcing) SetStatus(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit, status ccci.CommitStatus) error {
	err := a.Forge.SetStatus(ctx, repo, commit, status)
	a.said(repo)
	return err
}

// roles turns the configuration's words into the bridge's.
func roles(r config.Roles, forge string) bridge.Roles {
	role := func(text string) bridge.Role {
		parsed, _ := config.ParseRole(text) // Read has checked it
		who := map[string]bridge.Who{config.Anyone: bridge.Anyone, config.Member: bridge.Members, config.Listed: bridge.Listed}[parsed.Who]
		return bridge.Role{Who: who, Users: parsed.On(forge)}
	}
	return bridge.Roles{
		bridge.VerbTest: role(r.Testme), bridge.VerbRetest: role(r.Testme), bridge.VerbCancel: role(r.Cancel),
		bridge.VerbHelp: role(r.Ask), bridge.VerbStatus: role(r.Ask),
	}
}
