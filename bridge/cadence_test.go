package bridge

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/race"
)

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestA4_NextLook(t *testing.T) {
	c := cadence{start: t0, normal: 30 * time.Second, hot: 10 * time.Second}
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	ref := func(name string) Repo { return Repo{Ref: ccci.RepoRef{Owner: "o", Name: name}} }
	for name, tc := range map[string]struct {
		now  time.Time
		all  []*watched
		want string
		wait time.Duration
	}{
		"nobody":                          {now: at(0), want: "", wait: 30 * time.Second},
		"before its slot":                 {now: at(20), all: []*watched{{repo: ref("a"), slot: at(25)}}, want: "", wait: 5 * time.Second},
		"in its slot":                     {now: at(25), all: []*watched{{repo: ref("a"), slot: at(25)}}, want: "a"},
		"the latest first":                {now: at(40), all: []*watched{{repo: ref("a"), slot: at(39)}, {repo: ref("b"), slot: at(38)}}, want: "b"},
		"under way":                       {now: at(40), all: []*watched{{repo: ref("a"), slot: at(1), busy: true}, {repo: ref("b"), slot: at(39)}}, want: "b"},
		"a hint comes first":              {now: at(40), all: []*watched{{repo: ref("a"), slot: at(1)}, {repo: ref("b"), slot: at(60), hinted: true, ended: at(39)}}, want: "b"},
		"hot, too early":                  {now: at(9), all: []*watched{{repo: ref("a"), slot: at(30), ended: at(1), open: true}}, want: "", wait: 2 * time.Second},
		"hot through a run":               {now: at(11), all: []*watched{{repo: ref("a"), slot: at(30), ended: at(1), open: true}}, want: "a"},
		"hot through a comment":           {now: at(11), all: []*watched{{repo: ref("a"), slot: at(30), ended: at(1), hotUntil: at(60)}}, want: "a"},
		"hot no more":                     {now: at(11), all: []*watched{{repo: ref("a"), slot: at(30), ended: at(1), hotUntil: at(10)}}, want: "", wait: 19 * time.Second},
		"heat waits for slots":            {now: at(31), all: []*watched{{repo: ref("a"), slot: at(60), ended: at(1), open: true}, {repo: ref("b"), slot: at(30)}}, want: "b"},
		"trouble is not hot":              {now: at(11), all: []*watched{{repo: ref("a"), slot: at(30), ended: at(1), open: true, failures: 1}}, want: "", wait: 19 * time.Second},
		"what is not there is not hot":    {now: at(11), all: []*watched{{repo: ref("a"), slot: at(30), ended: at(1), open: true, missing: true}}, want: "", wait: 19 * time.Second},
		"the slot counts when it is near": {now: at(11), all: []*watched{{repo: ref("a"), slot: at(11), ended: at(10), open: true}}, want: "a"},
	} {
		w, wait := c.next(tc.now, tc.all)
		got := ""
		if w != nil {
			got = w.repo.Ref.Name
		}
		if got != tc.want || wait != tc.wait {
			t.Errorf("%s: %q after %s, want %q after %s", name, got, wait, tc.want, tc.wait)
		}
	}
}

func TestA4_SlotsAreSpreadEvenly(t *testing.T) {
	c := cadence{start: t0, normal: 30 * time.Second}
	for _, n := range []int{2, 3, 10, 300, 2000} {
		for _, shift := range []float64{0, 0.3, 0.99} {
			var phases []time.Duration
			for i := range n {
				phases = append(phases, c.phase(i, shift))
			}
			slices.Sort(phases)
			widest := phases[0] + c.normal - phases[n-1]
			for i := 1; i < n; i++ {
				widest = max(widest, phases[i]-phases[i-1])
			}
			if fair := c.normal / time.Duration(n); phases[0] < 0 || phases[n-1] >= c.normal || widest > 3*fair {
				t.Errorf("%d repositories: a hole of %s where %s is fair", n, widest, fair)
			}
		}
	}
	for _, tc := range []struct{ phase, after, want time.Duration }{
		{0, 0, 30 * time.Second}, {0, 29 * time.Second, 30 * time.Second}, {0, 30 * time.Second, 60 * time.Second},
		{7 * time.Second, 0, 7 * time.Second}, {7 * time.Second, 7 * time.Second, 37 * time.Second}, {7 * time.Second, time.Hour, time.Hour + 7*time.Second},
	} {
		if got := c.slotAfter(tc.phase, t0.Add(tc.after)).Sub(t0); got != tc.want {
			t.Errorf("phase %s after %s: %s, want %s", tc.phase, tc.after, got, tc.want)
		}
	}
}

func TestHeatEndsWhateverTheClocks(t *testing.T) {
	w := &watched{}
	w.saw(t0.Add(time.Hour), t0) // the forge's clock is ahead
	if w.hotUntil != t0.Add(hotFor) {
		t.Errorf("hot until %s", w.hotUntil)
	}
	w.saw(t0.Add(time.Hour), t0.Add(5*time.Minute)) // told once more
	if w.hotUntil != t0.Add(hotFor) {
		t.Errorf("a comment that is told again makes it hot until %s", w.hotUntil)
	}
}

// manyForge answers after a while and remembers when each repository was asked for.
type manyForge struct {
	ccci.Forge
	took    time.Duration
	looks   chan lookedAt
	running chan struct{} // one per look that is allowed at a time
	hot     func(ccci.RepoRef) bool
}

type lookedAt struct {
	repo ccci.RepoRef
	at   time.Time
}

func (f *manyForge) Name() string                            { return "many" }
func (f *manyForge) Self(context.Context) (ccci.User, error) { return ccci.User{ID: "1"}, nil }
func (f *manyForge) Comments(ctx context.Context, repo ccci.RepoRef, c ccci.Cursor) ([]ccci.Comment, ccci.Cursor, error) {
	select {
	case f.running <- struct{}{}:
		defer func() { <-f.running }()
	default:
		return nil, "", fmt.Errorf("more looks at a time than are allowed")
	}
	f.looks <- lookedAt{repo, time.Now()}
	time.Sleep(f.took)
	if f.hot != nil && f.hot(repo) {
		return []ccci.Comment{{ID: "5", Author: ccci.User{ID: "2"}, Body: "hello", Created: time.Now()}}, c, nil
	}
	return nil, c, nil
}

type noStore struct{ ccci.Store }

func (noStore) Cursor(context.Context, string, ccci.RepoRef) (ccci.Cursor, error) { return "1", nil }
func (noStore) FindRuns(context.Context, ccci.RunFilter) ([]ccci.Run, error)      { return nil, nil }
func (noStore) PendingMessages(context.Context, time.Time, int) ([]ccci.Message, error) {
	return nil, nil
}

type noBus struct{ ccci.Bus }

func (noBus) Subscribe(ctx context.Context, _ string) (<-chan string, error) {
	c := make(chan string)
	context.AfterFunc(ctx, func() { close(c) })
	return c, nil
}

type freeLocker struct{}

func (freeLocker) Acquire(context.Context, string, time.Duration) (ccci.Lease, error) {
	ctx, cancel := context.WithCancel(context.Background())
	return freeLease{ctx, cancel}, nil
}

type freeLease struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func (l freeLease) Context() context.Context { return l.ctx }
func (l freeLease) Fence() uint64            { return 1 }
func (l freeLease) Release() error           { l.cancel(); return nil }

type (
	noEngine struct{ ccci.Engine }
	noBlobs  struct{ ccci.BlobReader }
)

func many(n int) (repos []Repo) {
	for i := range n {
		repos = append(repos, Repo{Ref: ccci.RepoRef{Owner: "o", Name: fmt.Sprint("r", i)}})
	}
	return repos
}

// Whatever the number: none waits longer than the period, nothing comes in
// bursts, and no more looks at a time than allowed. A slow forge and hot
// repositories do not change that.
func TestA4_NoneSlowerThanThirtySeconds(t *testing.T) {
	for _, tc := range []struct {
		repos, parallel, hot int
		took, lasts          time.Duration
	}{
		{repos: 1, parallel: 8, took: time.Second, lasts: 10 * time.Minute},
		{repos: 300, parallel: 8, took: 200 * time.Millisecond, lasts: 5 * time.Minute},
		{repos: 300, parallel: 8, hot: 300, took: 500 * time.Millisecond, lasts: 5 * time.Minute}, // more heat than can be served
		{repos: 2000, parallel: 16, hot: 20, took: 150 * time.Millisecond, lasts: 65 * time.Second},
	} {
		if race.Detector && tc.repos > 1000 {
			continue
		}
		t.Run(fmt.Sprintf("%d repositories, %d hot", tc.repos, tc.hot), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				forge := &manyForge{took: tc.took, looks: make(chan lookedAt, 200_000), running: make(chan struct{}, tc.parallel)}
				repos := many(tc.repos)
				hot := map[ccci.RepoRef]bool{}
				for _, r := range repos[:tc.hot] {
					hot[r.Ref] = true
				}
				forge.hot = func(r ccci.RepoRef) bool { return hot[r] }
				b, err := New(Config{Forge: forge, Engine: noEngine{}, Store: noStore{}, Bus: noBus{}, Locker: freeLocker{}, Blobs: noBlobs{}, Bases: noBases,
					Repos: repos, PollInterval: 29 * time.Second, Parallel: tc.parallel, Jitter: func() float64 { return 0.5 }})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				began := time.Now()
				go func() { defer close(done); _ = b.Run(ctx) }()
				time.Sleep(tc.lasts)
				if h := b.Health(); !h.Reachable || !h.Working || h.Repositories != tc.repos {
					t.Errorf("health: %+v", h)
				}
				cancel()
				<-done
				close(forge.looks)
				last, counts, perSecond := map[ccci.RepoRef]time.Time{}, map[ccci.RepoRef]int{}, map[int]int{}
				for l := range forge.looks {
					before, ok := last[l.repo]
					if !ok {
						before = began
					}
					if gap := l.at.Sub(before); gap > 30*time.Second {
						t.Fatalf("%s was not looked at for %s", l.repo, gap)
					}
					last[l.repo] = l.at
					counts[l.repo]++
					perSecond[int(l.at.Sub(began).Seconds())]++
				}
				if len(last) != tc.repos {
					t.Errorf("%d of %d were looked at", len(last), tc.repos)
				}
				periods := int(tc.lasts / (29 * time.Second))
				for _, r := range repos {
					if n := counts[r.Ref]; !hot[r.Ref] && (n < periods || n > periods+2) {
						t.Fatalf("%s was looked at %d times in %s", r.Ref, n, tc.lasts)
					} else if hot[r.Ref] && tc.hot < 100 && n < 2*periods+periods/2 {
						t.Fatalf("%s is hot and was looked at %d times in %s", r.Ref, n, tc.lasts)
					}
				}
				for second, n := range perSecond {
					if fair := tc.repos/29 + tc.hot/9; tc.hot < 100 && second > 0 && n > 2*fair+8 {
						t.Errorf("%d looks in second %d, where %d are fair", n, second, fair)
					}
				}
			})
		})
	}
}

func noBases(context.Context, string, ccci.Commit) (ccci.Bases, error) { return ccci.Bases{}, nil }
