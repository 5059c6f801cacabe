package bridge_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// found is a discovery whose answer a test sets.
type found struct {
	mu    sync.Mutex
	refs  []ccci.RepoRef
	err   error
	asked int
}

func (f *found) Discover(context.Context) ([]ccci.RepoRef, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.refs, f.err
}

func (f *found) set(err error, refs ...ccci.RepoRef) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs, f.err = refs, err
}

func TestA4_DiscoveredRepositories(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		wiki, blog := ccci.RepoRef{Owner: "recipes", Name: "wiki"}, ccci.RepoRef{Owner: "recipes", Name: "blog"}
		onWiki, onBlog := ccci.PRRef{Repo: wiki, Number: 3}, ccci.PRRef{Repo: blog, Number: 4}
		w.addPR(onWiki)
		w.addPR(onBlog)
		d := &found{}
		var enrolled atomic.Bool
		cfg := w.config()
		cfg.Discoverer = d
		cfg.Adopt = func(ref ccci.RepoRef) bridge.Repo {
			if ref == blog && !enrolled.Load() { // found, and nobody has enrolled it
				return bridge.Repo{Ref: ref}
			}
			return bridge.Repo{Ref: ref, Recipe: ref.Name, Org: "recipes"}
		}
		b, stop := w.start(cfg)
		defer stop()
		w.write(onWiki, ada, "!testme") // long before it is found
		idle(24 * time.Hour)
		w.write(onWiki, ada, "!testme stages=install") // shortly before
		d.set(nil, wiki, blog, repo)
		idle(10 * time.Minute)
		runs := w.runs()
		if len(runs) != 1 || runs[0].Recipe != "wiki" || runs[0].Options.Whole() {
			t.Fatalf("runs %+v", runs)
		}
		if h := b.Health(); h.Repositories != 4 {
			t.Errorf("%d repositories", h.Repositories)
		}
		w.write(onBlog, ada, "!testme")
		w.write(onBlog, ada, "!testme")
		idle(time.Minute)
		if said := w.said("not-enrolled/"); len(said) != 1 { // U15
			t.Errorf("said %q", said)
		}
		enrolled.Store(true)
		idle(6 * time.Minute)
		w.write(onBlog, ada, "!testme")
		idle(2 * time.Minute)
		if runs := w.runs(); len(runs) != 2 || runs[1].Recipe != "blog" {
			t.Errorf("once its folder is there: %+v", runs)
		}
		// Trouble, and an answer that is too empty to be true, change nothing.
		d.set(errors.New("502 bad gateway"), wiki)
		idle(20 * time.Minute)
		d.set(nil)
		idle(20 * time.Minute)
		w.write(onWiki, ada, "!testme")
		idle(2 * time.Minute)
		if len(w.runs()) != 3 {
			t.Errorf("%d runs", len(w.runs()))
		}
		// What is taken off the list is looked at no more.
		d.set(nil, blog)
		idle(10 * time.Minute)
		w.write(onWiki, ada, "!testme")
		idle(10 * time.Minute)
		if h := b.Health(); len(w.runs()) != 3 || h.Repositories != 3 {
			t.Errorf("%d runs, %d repositories", len(w.runs()), h.Repositories)
		}
	})
}
