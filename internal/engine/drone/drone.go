// Package drone runs jobs as builds of a Drone server: a [ccci.Engine].
//
// Each job is one build of cc-ci's own repository, event "custom", with a closed
// set of parameters (see [Parameters]): Drone makes parameters variables of the
// step's environment, where they override even PATH, so no name ever comes from
// outside. The pipeline's one step starts the installed cc-ci, which reads the
// whole job from [JobVariable].
//
// Drone owns the queue, and the build record is the only memory: a run is found
// again by its RUN_ID among the builds. What Drone does not know is the harness's
// process. Its runner kills the step's shell alone, says "killed" at once, and
// forgets the harness, which tears down for minutes. [Options.Host] therefore
// says what the machine knows: a build is done only when the harness is gone; it
// is queued for as long as the harness waits for an earlier one's teardown; and
// it is lost when Drone calls it running and there has been no harness for
// [Options.LostAfter]. Without Host, Drone's word is all there is: a cancelled
// build is then done before its teardown.
//
// What differs from the embedded engine, and cannot be helped: Drone's log ends
// when the step's shell is killed, so what the harness prints during a teardown
// after a cancellation is not in it (the run's own log has it); lines come about
// once a second; of logs of more than 5 MB only the last 5 MB remain; and two
// processes that start the same run at the same instant make two builds, of which
// the higher is cancelled.
package drone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Defaults of [Options].
const (
	DefaultPipeline  = "recipe-ci"
	DefaultTimeout   = 60 * time.Minute // A16
	DefaultPoll      = time.Second
	DefaultSettle    = 2 * time.Second
	DefaultLostAfter = time.Minute
	DefaultGrace     = 5 * time.Minute
)

// Presence is what a machine knows about a run's harness process.
type Presence int

const (
	Absent  Presence = iota // no such process
	Waiting                 // it waits for a slot, which another harness holds
	Working                 // it has a slot: the run lives, or is torn down
)

// Options of [New].
type Options struct {
	URL      string // of the Drone server
	Token    ccci.Secret
	Repo     ccci.RepoRef // cc-ci's own repository, activated on the server
	Branch   string       // whose .drone.yml is used; empty: the default branch
	Commit   ccci.Commit  // whose .drone.yml is used, whatever the branch has now; empty: the branch's head
	Pipeline string       // its name in .drone.yml; empty: DefaultPipeline

	// Host says whether a run's harness lives on the runners' machines. Nil: Drone's
	// word is taken for it; see the package comment.
	Host func(ctx context.Context, run ccci.RunID) (Presence, error)

	// End asks a run's harness on the machine to end, or kills it; legal where there
	// is none. It asks where Drone's cancellation did not come through, and kills what
	// has not torn down when Grace is over. Nil: nobody does.
	End func(ctx context.Context, run ccci.RunID, kill bool) error

	Timeout   time.Duration // of the repository on the server, whole minutes; 0: DefaultTimeout
	Poll      time.Duration // how often unfinished builds are looked at; 0: DefaultPoll
	Settle    time.Duration // for this long after a kill a harness may yet appear; 0: DefaultSettle
	LostAfter time.Duration // see the package comment; 0: DefaultLostAfter
	Grace     time.Duration // for the teardown of a cancelled run; 0: DefaultGrace

	Transport http.RoundTripper // nil: http.DefaultTransport
	Logger    *slog.Logger      // nil: nothing is logged
	Now       func() time.Time  // nil: time.Now
}

// Engine implements [ccci.Engine]. [Engine.Run] enforces deadlines and finds lost
// builds; all else works without it.
type Engine struct {
	opts Options
	now  func() time.Time
	log  *slog.Logger

	mu       sync.Mutex
	starting map[ccci.RunID]chan struct{} // closed when that Start has ended
	tracks   map[int64]*track
	limited  bool // the server's time-out is set
	pageSize int
}

// track is what this process has seen of a build, beyond Drone's record. A
// process that knows nothing judges by the record alone.
type track struct {
	run     ccci.RunID
	seen    bool        // its harness was working
	absent  time.Time   // since when a running build has no harness
	asked   ccci.Ending // why this process cancelled it
	told    bool        // the machine was told to end its harness
	killed  bool        // and to kill it
	settled bool        // it is done, and stays so
}

var _ ccci.Engine = (*Engine)(nil)

// New returns an engine. The server need not be reachable yet.
func New(opts Options) (*Engine, error) {
	u, err := url.Parse(opts.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%q is not the address of a Drone server", opts.URL).WithHint("write it as https://drone.ci.example.org")
	}
	if opts.Repo.Owner == "" || opts.Repo.Name == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "Drone needs the repository that holds .drone.yml").WithHint("write owner/name of cc-ci's own repository")
	}
	opts.URL = strings.TrimRight(opts.URL, "/")
	if opts.Pipeline == "" {
		opts.Pipeline = DefaultPipeline
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{{&opts.Timeout, DefaultTimeout}, {&opts.Poll, DefaultPoll}, {&opts.Settle, DefaultSettle}, {&opts.LostAfter, DefaultLostAfter}, {&opts.Grace, DefaultGrace}} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if opts.Transport == nil {
		opts.Transport = http.DefaultTransport
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Engine{
		opts: opts, now: opts.Now, log: opts.Logger,
		starting: map[ccci.RunID]chan struct{}{}, tracks: map[int64]*track{}, pageSize: maxPage,
	}, nil
}

// Start implements [ccci.Engine].
func (e *Engine) Start(ctx context.Context, job ccci.Job) (ccci.BuildRef, error) {
	params, err := Parameters(job)
	if err != nil {
		return "", err
	}
	release, err := e.reserve(ctx, job.RunID)
	if err != nil {
		return "", fmt.Errorf("starting a build of %s: %w", job.RunID, err)
	}
	defer release()
	number, err := e.find(ctx, job)
	if err != nil || number != 0 {
		return refOf(number), err
	}
	e.limit(ctx)
	var built *drone.Build
	err = e.call(ctx, fmt.Sprintf("starting a build of %s", job.RunID), func(c drone.Client) (err error) {
		built, err = c.BuildCreate(e.opts.Repo.Owner, e.opts.Repo.Name, string(e.opts.Commit), e.opts.Branch, params)
		return err
	})
	if err != nil {
		return "", err // perhaps it was created all the same: the next Start finds it
	}
	if built.Number == 0 || built.Status == drone.StatusError { // null, or a build that holds the mistake
		return "", ccci.Errorf(ccci.CodeInvalid, "starting a build of %s: no pipeline of %s takes it: %s", job.RunID, e.opts.Repo, built.Error).
			WithHint("its .drone.yml needs a pipeline %s with the event custom; the repository's page in Drone tells more", e.opts.Pipeline)
	}
	if built.Params[runParam] != string(job.RunID) {
		return "", ccci.Errorf(ccci.CodeInfra, "starting a build of %s: the server's answer is about another build", job.RunID)
	}
	// An earlier request whose answer was lost may have arrived only now.
	if first, err := e.find(ctx, job); err == nil && first != 0 && first != built.Number {
		e.log.Warn("a run has two builds; the later one is cancelled", "run", job.RunID, "first", first, "later", built.Number)
		e.kill(ctx, built.Number)
		return refOf(first), nil
	}
	e.mu.Lock()
	e.trackOf(built.Number, job.RunID)
	e.mu.Unlock()
	return refOf(built.Number), nil
}

// reserve makes sure that one run is started once at a time.
func (e *Engine) reserve(ctx context.Context, run ccci.RunID) (release func(), err error) {
	for {
		e.mu.Lock()
		busy, ok := e.starting[run]
		if !ok {
			mine := make(chan struct{})
			e.starting[run] = mine
			e.mu.Unlock()
			return func() {
				e.mu.Lock()
				delete(e.starting, run)
				e.mu.Unlock()
				close(mine)
			}, nil
		}
		e.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// limit sets the server's own time-out, the last resort behind the harness's
// and the engine's (A16). Best effort: it needs an administrator's token.
func (e *Engine) limit(ctx context.Context) {
	e.mu.Lock()
	limited := e.limited
	e.mu.Unlock()
	if limited {
		return
	}
	want := int64((e.opts.Timeout + time.Minute - 1) / time.Minute)
	err := e.call(ctx, "setting the time-out of builds", func(c drone.Client) error {
		repo, err := c.Repo(e.opts.Repo.Owner, e.opts.Repo.Name)
		if err != nil || repo.Timeout == want {
			return err
		}
		_, err = c.RepoUpdate(e.opts.Repo.Owner, e.opts.Repo.Name, &drone.RepoPatch{Timeout: &want})
		return err
	})
	if err != nil {
		e.log.Warn("Drone's own time-out cannot be set", "err", err, "minutes", want)
		return
	}
	e.mu.Lock()
	e.limited = true
	e.mu.Unlock()
}

// Status implements [ccci.Engine].
func (e *Engine) Status(ctx context.Context, ref ccci.BuildRef) (ccci.Build, error) {
	b, err := e.build(ctx, ref)
	if err != nil {
		return ccci.Build{}, err
	}
	return e.judge(ctx, b)
}

// build reads one build with its stage and step. A build of another pipeline,
// and a reference that is no number, are unknown.
func (e *Engine) build(ctx context.Context, ref ccci.BuildRef) (*drone.Build, error) {
	number, ok := numberOf(ref)
	if !ok {
		return nil, unknown(ref)
	}
	var b *drone.Build
	err := e.call(ctx, fmt.Sprintf("asking for build %s", ref), func(c drone.Client) (err error) {
		b, err = c.Build(e.opts.Repo.Owner, e.opts.Repo.Name, int(number))
		return err
	})
	if errors.Is(err, ccci.ErrNotFound) {
		// A repository that is not there must not make every build unknown.
		if again := e.Check(ctx); again != nil {
			return nil, again
		}
		return nil, unknown(ref)
	}
	if err != nil {
		return nil, err
	}
	if b.Number != number {
		return nil, ccci.Errorf(ccci.CodeInfra, "asking for build %s: the server's answer is about build %d", ref, b.Number)
	}
	if b.Params[runParam] == "" {
		return nil, unknown(ref)
	}
	return b, nil
}

// Check proves that the server answers, knows the token and has the repository
// activated.
func (e *Engine) Check(ctx context.Context) error {
	var repo *drone.Repo
	err := e.call(ctx, "asking for the repository "+e.opts.Repo.String(), func(c drone.Client) (err error) {
		repo, err = c.Repo(e.opts.Repo.Owner, e.opts.Repo.Name)
		return err
	})
	switch {
	case errors.Is(err, ccci.ErrNotFound):
		return ccci.Errorf(ccci.CodeInvalid, "Drone at %s has no repository %s, or does not show it to cc-ci", e.opts.URL, e.opts.Repo).
			WithHint("activate it in Drone, and make cc-ci's user an administrator of Drone and of the repository")
	case err != nil:
		return err
	case !repo.Active:
		return ccci.Errorf(ccci.CodeInvalid, "the repository %s is not activated in Drone", e.opts.Repo).WithHint("activate it at %s/%s/settings", e.opts.URL, e.opts.Repo)
	}
	return nil
}

// Cancel implements [ccci.Engine].
func (e *Engine) Cancel(ctx context.Context, ref ccci.BuildRef) error {
	b, err := e.build(ctx, ref)
	if errors.Is(err, ccci.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if over(b.Status) {
		return nil
	}
	e.mu.Lock()
	t := e.trackOf(b.Number, ccci.RunID(b.Params[runParam]))
	was := t.asked
	if was == "" {
		t.asked = ccci.EndCancelled
	}
	e.mu.Unlock()
	if err := e.kill(ctx, b.Number); err != nil {
		e.mu.Lock()
		t.asked = was
		e.mu.Unlock()
		return err
	}
	return nil
}

func (e *Engine) kill(ctx context.Context, number int64) error {
	return e.call(ctx, fmt.Sprintf("cancelling build %d", number), func(c drone.Client) error {
		return c.BuildCancel(e.opts.Repo.Owner, e.opts.Repo.Name, int(number))
	})
}

// trackOf returns the track of a build; e.mu is held.
func (e *Engine) trackOf(number int64, run ccci.RunID) *track {
	t := e.tracks[number]
	if t == nil {
		t = &track{run: run}
		e.tracks[number] = t
	}
	return t
}

func refOf(number int64) ccci.BuildRef {
	if number == 0 {
		return ""
	}
	return ccci.BuildRef(strconv.FormatInt(number, 10))
}

func numberOf(ref ccci.BuildRef) (int64, bool) {
	n, err := strconv.ParseInt(string(ref), 10, 32)
	return n, err == nil && n > 0 && refOf(n) == ref
}

func unknown(ref ccci.BuildRef) error {
	return &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("there is no build %s", ref), Err: ccci.ErrNotFound}
}
