package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// lookLimit bounds how long a forge may take to name itself and to tell what is new.
const lookLimit = 2 * time.Minute

// listenPatience bounds how long the first poll waits for the first try to listen for hints.
const listenPatience = 2 * time.Second

// onceLimit bounds how many repositories that nobody configured are looked at
// because somebody named them.
const onceLimit = 100

// patrol keeps every repository looked at. One goroutine owns its state and
// starts looks, at most Config.Parallel at a time; what happens elsewhere
// reaches it through channels.
type patrol struct {
	b       *Bridge
	cadence cadence
	shift   float64
	all     []*watched
	placed  int // how many phases were given away
	running int
	ended   chan look
	shown   time.Time
}

// look is how a look ended.
type look struct {
	w       *watched
	newest  time.Time // the newest comment in it
	reached bool      // the forge answered, whatever became of the comments
	err     error
}

// patrol works until ctx is done and every look has ended.
func (b *Bridge) patrol(ctx context.Context) {
	now := b.cfg.Now()
	p := &patrol{b: b, shift: b.cfg.Jitter(), ended: make(chan look),
		cadence: cadence{start: now, normal: b.cfg.PollInterval, hot: b.cfg.HotInterval}}
	for _, repo := range b.cfg.Repos {
		p.add(repo, now)
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	hints := make(chan ccci.RepoRef)
	listening := make(chan struct{})
	helpers.Go(func() { b.listen(ctx, hints, sync.OnceFunc(func() { close(listening) })) })
	// What is written after the first poll and before hints arrive would wait for the second poll.
	select {
	case <-listening:
	case <-time.After(listenPatience):
	case <-ctx.Done():
	}
	found := make(chan []ccci.RepoRef)
	if b.cfg.Discoverer != nil {
		helpers.Go(func() { b.discover(ctx, found) })
	}
	for {
		wait := p.dispatch(ctx)
		p.show()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case l := <-p.ended:
			p.conclude(ctx, l)
		case ref := <-hints:
			p.hint(ref)
		case refs := <-found:
			p.adopt(refs)
		case <-ctx.Done():
			timer.Stop()
			for p.running > 0 {
				<-p.ended
				p.running--
			}
			return
		}
		timer.Stop()
	}
}

// add begins to watch a repository. The first few are looked at now, the
// others in their first slot, so that many make no burst.
func (p *patrol) add(repo Repo, now time.Time) *watched {
	w := &watched{repo: repo, since: now, phase: p.cadence.phase(p.placed, p.shift)}
	w.slot = p.cadence.slotAfter(w.phase, now)
	if p.placed < p.b.cfg.Parallel {
		w.slot = now
	}
	p.placed++
	p.all = append(p.all, w)
	return w
}

// dispatch starts the looks that are due and returns how long nothing is to be done.
func (p *patrol) dispatch(ctx context.Context) time.Duration {
	const untilSomethingEnds = time.Minute
	for ctx.Err() == nil {
		now := p.b.cfg.Now()
		pause, down := p.b.reads.wait(now)
		switch {
		case p.running >= p.b.cfg.Parallel, down && p.running > 0:
			return untilSomethingEnds
		case pause > 0:
			return pause
		}
		w, wait := p.cadence.next(now, p.all)
		if w == nil {
			return wait
		}
		at, _ := p.cadence.when(w, now)
		late := max(now.Sub(at), 0)
		if w.hinted {
			late = 0
		}
		w.busy, w.hinted = true, false
		p.running++
		repo, since := w.repo, w.since // adopt may change them meanwhile
		go func() {
			l := p.b.look(ctx, repo, since)
			p.b.cfg.Observer.Looked(p.b.name(), late, l.err)
			l.w = w
			p.ended <- l
		}()
	}
	return untilSomethingEnds
}

// conclude takes in how a look ended.
func (p *patrol) conclude(ctx context.Context, l look) {
	p.running--
	w, now := l.w, p.b.cfg.Now()
	w.busy = false
	if ctx.Err() != nil {
		return
	}
	w.ended = now
	w.slot = p.cadence.slotAfter(w.phase, now)
	w.open = p.b.hasOpenRun(w.repo.Ref)
	w.saw(l.newest, now)
	missing := errors.Is(l.err, ccci.ErrNotFound)
	p.log(w, l, missing)
	_, down := p.b.reads.wait(now)
	if l.reached || missing {
		p.recover(now)
	} else if (down || w.failures == 0 || !p.anyWell()) && p.b.reads.failed(now, l.err) {
		p.b.log.Error("the forge cannot be reached; everything waits for it and nothing is lost", "error", l.err)
		p.b.cfg.Observer.Reachable(p.b.name(), false)
	}
	w.missing = missing
	if l.err == nil {
		w.failures = 0
	} else {
		w.failures++
	}
	if w.once && !w.hinted && (l.err == nil || missing) {
		p.all = slices.DeleteFunc(p.all, func(o *watched) bool { return o == w })
	}
}

// anyWell reports whether the last look at some repository went well: then one that
// keeps failing says nothing about the forge.
func (p *patrol) anyWell() bool {
	return slices.ContainsFunc(p.all, func(w *watched) bool { return w.failures == 0 && !w.ended.IsZero() })
}

// log speaks of a repository when its state changes; while the forge fails
// as a whole that is said once for all.
func (p *patrol) log(w *watched, l look, missing bool) {
	_, down := p.b.reads.wait(p.b.cfg.Now())
	switch {
	case missing && !w.missing && w.once:
		p.b.log.Debug("there is no such repository", "repository", w.repo.Ref)
	case missing && !w.missing:
		p.b.log.Warn("the repository is not there, or its account may not see it", "repository", w.repo.Ref, "error", l.err)
	case l.err != nil && !missing && w.failures == 0 && !down:
		p.b.log.Warn("reading comments", "repository", w.repo.Ref, "error", l.err)
	case l.err != nil:
		p.b.log.Debug("reading comments", "repository", w.repo.Ref, "failures", w.failures+1, "error", l.err)
	case w.missing || w.failures > 0 && !down:
		p.b.log.Info("comments can be read again", "repository", w.repo.Ref, "failures", w.failures)
	}
}

// recover ends an outage: what is late takes its turn within one period rather than at once.
func (p *patrol) recover(now time.Time) {
	lasted, was := p.b.reads.passed(now)
	p.b.noteReached(now)
	if !was {
		return
	}
	p.b.log.Info("the forge can be reached again", "after", lasted.Round(time.Second))
	p.b.cfg.Observer.Reachable(p.b.name(), true)
	for i, w := range p.all {
		if !w.busy && w.slot.Before(now) && i >= p.b.cfg.Parallel {
			w.slot = p.cadence.slotAfter(w.phase, now)
		}
	}
	p.b.sendEarly()
}

// hint takes in that there may be something to see. A repository that nobody
// configured gets one look, so that a command there is answered (U15).
func (p *patrol) hint(ref ccci.RepoRef) {
	if w := p.find(ref); w != nil {
		w.hinted = true
		return
	}
	once := 0
	for _, w := range p.all {
		if w.once {
			once++
		}
	}
	if once >= onceLimit {
		p.b.log.Debug("a hint too many about repositories that are not watched", "repository", ref)
		return
	}
	now := p.b.cfg.Now()
	w := &watched{repo: notEnrolled(ref), since: now, slot: now, hinted: true, once: true}
	p.all = append(p.all, w)
}

func (p *patrol) find(ref ccci.RepoRef) *watched {
	i := slices.IndexFunc(p.all, func(w *watched) bool { return w.repo.Ref == ref })
	if i < 0 {
		return nil
	}
	return p.all[i]
}

// adopt makes the list what discovery says, beside what is configured. When it
// suddenly finds nothing at all, what was found before stays: an account that lost
// its rights sees empty lists.
func (p *patrol) adopt(refs []ccci.RepoRef) {
	known := slices.ContainsFunc(p.all, func(w *watched) bool { return w.found })
	if len(refs) == 0 && known {
		p.b.log.Warn("discovery finds no repository any more; those that it found before stay watched")
		return
	}
	now := p.b.cfg.Now()
	for _, ref := range refs {
		w := p.find(ref)
		if w != nil && w.found { // its folder of tests may have come meanwhile
			w.repo = p.b.cfg.Adopt(ref)
		}
		if w != nil && !w.once {
			continue
		}
		if w != nil { // a hint came first
			p.all = slices.DeleteFunc(p.all, func(o *watched) bool { return o == w })
		}
		repo := p.b.cfg.Adopt(ref)
		p.add(repo, now).found = true
		p.b.log.Info("repository found", "repository", ref, "recipe", repo.Recipe)
	}
	p.all = slices.DeleteFunc(p.all, func(w *watched) bool {
		gone := w.found && !slices.Contains(refs, w.repo.Ref)
		if gone {
			p.b.log.Info("repository no longer found", "repository", w.repo.Ref)
		}
		return gone
	})
}

// show makes the state known to [Bridge.Health], once a second.
func (p *patrol) show() {
	now := p.b.cfg.Now()
	if now.Sub(p.shown) < time.Second {
		return
	}
	p.shown = now
	var missing []ccci.RepoRef
	for _, w := range p.all {
		if w.missing && !w.once {
			missing = append(missing, w.repo.Ref)
		}
	}
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.b.view.Repositories, p.b.view.Missing, p.b.view.Turned = len(p.all), missing, now
}

// listen turns hints on the bus into looks.
func (b *Bridge) listen(ctx context.Context, out chan<- ccci.RepoRef, tried func()) {
	for try := 0; ctx.Err() == nil; try++ {
		hints, err := b.cfg.Bus.Subscribe(ctx, ccci.TopicForge)
		tried()
		if err != nil {
			if ctx.Err() == nil {
				b.log.Warn("listening for hints", "error", err)
				pause(ctx, backoff(try))
			}
			continue
		}
		try = 0
		for hint := range hints {
			forge, ref, err := ccci.ParseForgeHint(hint)
			if err != nil {
				b.log.Debug("a hint that names no repository", "hint", hint)
				continue
			}
			if forge != "" && forge != b.name() {
				continue
			}
			select {
			case out <- ref:
			case <-ctx.Done():
			}
		}
	}
}

// discover asks for the list of repositories from time to time.
func (b *Bridge) discover(ctx context.Context, out chan<- []ccci.RepoRef) {
	for try := 0; ; {
		asking, cancel := context.WithTimeout(ctx, lookLimit)
		refs, err := b.cfg.Discoverer.Discover(asking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait := b.cfg.DiscoverEvery
		if err != nil {
			b.log.Log(ctx, once(try), "looking for repositories; those that are known stay watched", "error", err)
			wait = min(backoff(try), wait)
			try++
		} else {
			if try > 0 {
				b.log.Info("repositories can be looked for again", "failures", try)
			}
			try = 0
			select {
			case out <- refs:
			case <-ctx.Done():
				return
			}
		}
		if !pause(ctx, wait-time.Duration(b.cfg.Jitter()*0.1*float64(wait))) {
			return
		}
	}
}
