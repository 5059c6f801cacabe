package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

type named struct {
	ccci.Forge
	name string
}

func (n named) Name() string { return n.name }

// Two forges with a repository of the same name, one engine and one store.
func TestA10_TwoForgesShareAnEngine(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w2 := newWorld(t)
		first, second := w.config(), w2.config()
		second.Forge = named{second.Forge, "other"}
		second.Store, second.Engine, second.Bus, second.Blobs = first.Store, first.Engine, first.Bus, first.Blobs
		if _, err := bridge.NewSeveral(first, w2.config()); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("two forges of one name: %v", err)
		}
		both, err := bridge.NewSeveral(first, second)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = both.Run(ctx) }()
		defer func() { cancel(); <-done }()

		w2.breakForge() // the one's trouble is not the other's
		w.write(pr1, ada, "!testme")
		idle(2 * time.Minute)
		if said := w.said("run/"); len(said) != 1 || !strings.Contains(said[0], "✅ passed") {
			t.Fatalf("said %q", said)
		}
		if h := both.Health(); !h[0].Reachable || h[1].Reachable || h[1].Forge != "other" {
			t.Errorf("health: %+v", h)
		}
		w2.mendForge()
		idle(time.Minute)

		// The same name is not the same pull request.
		w.write(pr1, ada, "!testme")
		idle(16 * time.Second)
		w2.write(pr1, ada, "!testme")
		idle(16 * time.Second)
		if said := w2.said("run/"); len(said) != 1 || !strings.Contains(said[0], "Position 1") {
			t.Errorf("the second waits: %q", said)
		}
		w2.write(pr1, ada, "!cancel")
		idle(2 * time.Minute)
		statuses := map[string]ccci.Status{}
		for _, r := range w.runs() {
			statuses[r.Key[:5]+" "+string(r.Status)] = r.Status
		}
		if len(w.runs()) != 3 || len(statuses) != 2 || statuses["local passed"] == "" || statuses["other cancelled"] == "" {
			t.Errorf("runs: %v", statuses)
		}
		// A hint says which forge is meant.
		looks := w.looks()
		(*bus)(w).Publish(ctx, ccci.TopicForge, ccci.ForgeHint("other", ccci.RepoRef{Owner: "recipes", Name: "elsewhere"}))
		idle(time.Millisecond)
		if n := w.looks() - looks; n != 0 {
			t.Errorf("%d looks at a forge that was not meant", n)
		}
	})
}
