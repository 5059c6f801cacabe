package bridge

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Repo is a repository whose comments are read.
type Repo struct {
	Ref ccci.RepoRef
	// Recipe is the name under which it is enrolled; "" when it is watched and
	// not enrolled, so that a command there is answered and starts nothing (U15).
	Recipe string
	// Org is the organisation whose members a [Members] role admits.
	Org string
}

// Who names the people that a role admits.
type Who string

const (
	Anyone  Who = "anyone"
	Members Who = "member" // of the repository's organisation
	Listed  Who = "listed" // nobody but Role.Users
)

// Role says who may use a command.
type Role struct {
	Who   Who
	Users []string // ids that are admitted as well, whatever Who says
}

// Roles holds a role per command. A command without one has the default:
// anyone for !help and !status, members for the rest.
type Roles map[Verb]Role

var defaultRoles = Roles{
	VerbTest:   {Who: Members},
	VerbRetest: {Who: Members},
	VerbCancel: {Who: Members},
	VerbStatus: {Who: Anyone},
	VerbHelp:   {Who: Anyone},
}

// Config is what a bridge is made of. The ports are required.
type Config struct {
	Forge  ccci.Forge
	Engine ccci.Engine
	Store  ccci.Store
	Bus    ccci.Bus
	Locker ccci.Locker
	Blobs  ccci.BlobReader // where harnesses put results
	// Bases tells what an upgrade to head can start from in the repository at cloneURL, so
	// that a mistake in from= is answered and no run is started. Where it fails, the run
	// finds out.
	Bases func(ctx context.Context, cloneURL string, head ccci.Commit) (ccci.Bases, error)

	Repos []Repo
	Roles Roles

	// Discoverer, when set, finds repositories besides Repos. It is asked at
	// the start and every DiscoverEvery; default 5 min.
	Discoverer    ccci.Discoverer
	DiscoverEvery time.Duration
	// Adopt says how a repository that was discovered is watched, and is asked anew each
	// time that it is found; nil: as one that is not enrolled.
	Adopt func(ccci.RepoRef) Repo

	PollInterval time.Duration // between two looks at a repository; default 15 s, at most 30 s (A4)
	HotInterval  time.Duration // the same where something happens; default a third of PollInterval
	Parallel     int           // looks at a time; default 8
	EditGap      time.Duration // least time between two edits of one comment, the last one excepted; default 5 s
	Deadline     time.Duration // of a whole run, handed to the engine; default 60 min (A16)
	Capacity     int           // the engine's, for forecasts; default 1
	// Held says why no queued run starts, for report.Held, or ""; nil: nothing does.
	Held func() string
	// FirstLook bounds how old a command may be when a repository is read for the
	// very first time; default 1 h. Later nothing is too old, however long the bridge was down.
	FirstLook time.Duration

	DashboardURL string // for links; "" for none
	Logger       *slog.Logger
	Observer     Observer         // nil: nobody
	Now          func() time.Time // default time.Now
	Rand         io.Reader        // default crypto/rand
	// Jitter returns a number from 0 up to 1; it keeps bridges that start
	// together from asking together. Safe for concurrent use. Default: random.
	Jitter func() float64
}

// Bridge is made by [New] and driven by [Bridge.Run].
type Bridge struct {
	cfg Config
	log *slog.Logger

	wakeOutbox chan struct{}
	reads      trouble // of looking at the forge
	writes     trouble // of saying something there
	shut       shut    // pull requests on which the forge refuses what is said
	siblings   []*Bridge

	mu      sync.Mutex
	early   bool   // the outbox may send what was put off
	view    Health // what patrol and outbox let see of themselves
	self    ccci.User
	runs    map[ccci.RunID]*tracked
	settled map[ccci.RepoRef]*settledComments
	merges  map[ccci.RepoRef]*mergeWatch
	spawn   func(func()) // starts a goroutine of the present tenure; nil between tenures

	sent    sentLog
	answers answers
	noes    noes
}

// New checks the configuration. It asks no port for anything: a bridge starts
// without its forge and waits for it.
func New(cfg Config) (*Bridge, error) {
	for name, missing := range map[string]bool{
		"Forge": cfg.Forge == nil, "Engine": cfg.Engine == nil, "Store": cfg.Store == nil,
		"Bus": cfg.Bus == nil, "Locker": cfg.Locker == nil, "Blobs": cfg.Blobs == nil, "Bases": cfg.Bases == nil,
	} {
		if missing {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: %s is missing", name)
		}
	}
	cfg.PollInterval = cmp.Or(cfg.PollInterval, 15*time.Second)
	cfg.EditGap = cmp.Or(cfg.EditGap, 5*time.Second)
	cfg.Deadline = cmp.Or(cfg.Deadline, 60*time.Minute)
	cfg.Capacity = cmp.Or(cfg.Capacity, 1)
	cfg.FirstLook = cmp.Or(cfg.FirstLook, time.Hour)
	cfg.HotInterval = cmp.Or(cfg.HotInterval, cfg.PollInterval/3)
	cfg.Parallel = cmp.Or(cfg.Parallel, 8)
	cfg.DiscoverEvery = cmp.Or(cfg.DiscoverEvery, 5*time.Minute)
	if cfg.PollInterval < 0 || cfg.PollInterval > 30*time.Second {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: a poll interval of %s", cfg.PollInterval).
			WithHint("choose more than 0 and at most 30s")
	}
	if min(cfg.EditGap, cfg.Deadline, cfg.FirstLook, cfg.HotInterval, cfg.DiscoverEvery) < 0 || min(cfg.Capacity, cfg.Parallel) < 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: a negative gap, deadline, first look, interval, capacity or number of looks")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Jitter == nil {
		cfg.Jitter = mathrand.Float64
	}
	if cfg.Adopt == nil {
		cfg.Adopt = notEnrolled
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	roles := Roles{}
	for verb, role := range defaultRoles {
		roles[verb] = role
	}
	for verb, role := range cfg.Roles {
		if _, known := defaultRoles[verb]; !known {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: a role for %q, which is no command", verb)
		}
		if !slices.Contains([]Who{Anyone, Members, Listed}, role.Who) {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: the role of %s admits %q", verb, role.Who).
				WithHint("write %s, %s or %s", Anyone, Members, Listed)
		}
		roles[verb] = role
	}
	cfg.Roles = roles
	seen := map[ccci.RepoRef]bool{}
	for _, repo := range cfg.Repos {
		if seen[repo.Ref] || repo.Ref.IsZero() {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: repository %q is empty or named twice", repo.Ref)
		}
		seen[repo.Ref] = true
		for verb, role := range roles {
			if role.Who == Members && repo.Recipe != "" && repo.Org == "" {
				return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: %s admits members, and repository %s names no organisation", verb, repo.Ref).
					WithHint("name the organisation, or list the users that may")
			}
		}
	}
	return &Bridge{
		cfg: cfg, log: cfg.Logger.With("part", "bridge", "forge", cfg.Forge.Name()),
		wakeOutbox: make(chan struct{}, 1),
		reads:      trouble{jitter: cfg.Jitter}, writes: trouble{jitter: cfg.Jitter}, shut: shut{},
		runs: map[ccci.RunID]*tracked{},
	}, nil
}

const leaseTTL = 15 * time.Second

// Run works until ctx is done, and then returns nil after a last delivery of
// what is waiting to be said. Runs go on in the engine meanwhile. Of all
// bridges of one forge only the one that holds the lease works; the others wait
// in Run for their turn.
func (b *Bridge) Run(ctx context.Context) error {
	key := "bridge/" + b.cfg.Forge.Name()
	for try := 0; ctx.Err() == nil; try++ {
		lease, err := b.cfg.Locker.Acquire(ctx, key, leaseTTL)
		if err != nil {
			if ctx.Err() == nil {
				b.log.Warn("waiting for the lease", "key", key, "error", err)
				pause(ctx, backoff(try))
			}
			continue
		}
		try = 0
		b.log.Info("working", "repositories", len(b.cfg.Repos), "fence", lease.Fence())
		b.work(ctx, lease)
		if err := lease.Release(); err != nil {
			b.log.Warn("giving the lease back", "error", err)
		}
	}
	return nil
}

// work is one tenure: everything that happens under one lease.
func (b *Bridge) work(parent context.Context, lease ccci.Lease) {
	ctx, cancel := context.WithCancel(lease.Context())
	defer cancel()
	defer context.AfterFunc(parent, cancel)()

	var tasks sync.WaitGroup
	b.mu.Lock()
	b.runs = map[ccci.RunID]*tracked{}
	b.settled = map[ccci.RepoRef]*settledComments{}
	b.merges = map[ccci.RepoRef]*mergeWatch{}
	b.spawn = tasks.Go
	b.view.Turned = b.cfg.Now()
	b.mu.Unlock()
	b.sent.forget()

	b.reads.early() // whoever begins may try
	b.writes.early()
	tasks.Go(func() { b.deliver(ctx) })
	tasks.Go(func() {
		// Old runs first: they are started in their order, before any new one.
		if !b.resume(ctx) {
			return
		}
		b.patrol(ctx)
	})
	<-ctx.Done()
	tasks.Wait()
	b.mu.Lock()
	b.spawn = nil
	b.mu.Unlock()

	if errors.Is(context.Cause(lease.Context()), ccci.ErrLeaseLost) {
		b.log.Warn("the lease was lost, another bridge goes on")
		return
	}
	b.log.Info("draining: sending what is waiting to be said")
	last, done := context.WithTimeout(context.WithoutCancel(parent), 5*time.Second)
	defer done()
	b.flush(last, true)
}

// resume takes up every unfinished run of this forge, oldest first. It tries
// until it succeeds and reports false only when ctx ended before that.
func (b *Bridge) resume(ctx context.Context) bool {
	for try := 0; ; try++ {
		runs, err := b.allRuns(ctx, ccci.RunFilter{Unfinished: true})
		if err == nil {
			slices.SortFunc(runs, ccci.QueueOrder)
			for _, run := range runs {
				if b.ours(run) && !run.PR.Repo.IsZero() {
					b.log.Info("resuming", "run", run.ID, "pr", run.PR, "status", run.Status)
					b.take(ctx, run, "")
				}
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		b.log.Error("looking for unfinished runs", "error", err)
		if !pause(ctx, backoff(try)) {
			return false
		}
	}
}

func (b *Bridge) name() string { return b.cfg.Forge.Name() }

// ours reports whether a run was asked for on this bridge's forge: another one may
// have a repository of the same name.
func (b *Bridge) ours(run ccci.Run) bool { return strings.HasPrefix(run.Key, b.name()+"/") }

// runsOf returns the runs of a pull request, newest first.
func (b *Bridge) runsOf(ctx context.Context, pr ccci.PRRef) ([]ccci.Run, error) {
	runs, err := b.allRuns(ctx, ccci.RunFilter{PR: pr})
	return slices.DeleteFunc(runs, func(r ccci.Run) bool { return !b.ours(r) }), err
}

// hasOpenRun reports whether a run of the repository is followed.
func (b *Bridge) hasOpenRun(ref ccci.RepoRef) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.runs {
		if t.repo == ref {
			return true
		}
	}
	return false
}

// allRuns pages through everything that filter selects, newest first.
func (b *Bridge) allRuns(ctx context.Context, filter ccci.RunFilter) ([]ccci.Run, error) {
	filter.Limit = 500
	var all []ccci.Run
	for {
		page, err := b.cfg.Store.FindRuns(ctx, filter)
		if err != nil {
			return nil, fmt.Errorf("reading runs: %w", err)
		}
		all = append(all, page...)
		if len(page) < filter.Limit {
			return all, nil
		}
		filter.Before = page[len(page)-1].ID
	}
}

func (b *Bridge) publish(ctx context.Context, id ccci.RunID) {
	if err := b.cfg.Bus.Publish(ctx, ccci.TopicRuns, string(id)); err != nil && ctx.Err() == nil {
		b.log.Debug("publishing a run's change", "run", id, "error", err) // a hint; the store has it
	}
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// backoff grows from 1 s to 1 min.
func backoff(try int) time.Duration { return backoffTo(try, time.Minute) }

// backoffTo grows from 1 s to most, which is at most an hour.
func backoffTo(try int, most time.Duration) time.Duration {
	return min(time.Second<<min(max(try, 0), 12), most)
}
