package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
)

// Signatures of deliveries to it.
var good, bad = strings.Repeat("a", 64), strings.Repeat("b", 64)

// hooked returns the endpoint as a server has it, over the bus of the world.
func (w *world) hooked() http.Handler {
	h, err := hook.New(hook.Options{
		Publish: func(ctx context.Context, forge string, repo ccci.RepoRef) error {
			return (*bus)(w).Publish(ctx, ccci.TopicForge, ccci.ForgeHint(forge, repo))
		},
		Sources: []hook.Source{{Name: "local", Signatures: []string{"X-Signature"}, Verify: func(header http.Header, body []byte) (ccci.RepoRef, string, bool, error) {
			if header.Get("X-Signature") != good {
				return ccci.RepoRef{}, "", false, errors.New("the signature does not fit")
			}
			ref, err := ccci.ParseRepoRef(string(body))
			return ref, header.Get("X-Delivery"), true, err
		}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func deliver(h http.Handler, body, signature, delivery string) int {
	r := httptest.NewRequest("POST", "/hook/local", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Signature", signature)
	r.Header.Set("X-Delivery", delivery)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code
}

func TestA5_HookStartsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		h := w.hooked()
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		w.write(pr1, ada, "!testme")
		if code := deliver(h, repo.String(), bad, "d"); code != http.StatusUnauthorized {
			t.Errorf("a bad signature: %d", code)
		}
		idle(time.Second)
		if len(w.runs()) != 0 {
			t.Error("a bad signature started something")
		}
		if code := deliver(h, repo.String(), good, "d"); code != http.StatusAccepted {
			t.Errorf("a good signature: %d", code)
		}
		idle(100 * time.Millisecond)
		if runs := w.runs(); len(runs) != 1 || runs[0].Status != ccci.StatusRunning {
			t.Errorf("runs %+v", runs)
		}
	})
}

// One signed body, a hundred times with fresh ids, at once and over days: what is
// read through the API is one comment, and that is one run.
func TestN2_A5_ReplaysOfADelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 50 // and the forge repeats what it knows
		h := w.hooked()
		_, stop := w.start(w.config())
		defer func() { stop() }()
		w.write(pr1, ada, "!testme")
		for i := range 50 {
			deliver(h, repo.String(), good, fmt.Sprint("at once ", i))
		}
		idle(2 * time.Minute)
		for i := range 50 {
			deliver(h, repo.String(), good, fmt.Sprint("later ", i))
			idle(time.Hour)
			if i == 25 {
				stop()
				_, stop = w.start(w.config())
			}
		}
		if runs := w.runs(); len(runs) != 1 || runs[0].Status != ccci.StatusPassed || len(w.builds) != 1 || len(w.said("")) != 1 {
			t.Errorf("%d runs, %d builds, %d comments", len(w.runs()), len(w.builds), len(w.said("")))
		}
	})
}
