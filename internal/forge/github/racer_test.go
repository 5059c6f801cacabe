package github

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/race"
)

// Random histories of pushes, forced ones and looks around a comment, some within
// one second, with the record of pushes there, behind, or not readable. What the
// adapter calls the head must be what the fake knows it was.
func TestN1_RandomHistories(t *testing.T) {
	histories := 1500
	if testing.Short() || race.Detector {
		histories = 300
	}
	outcomes := map[string]int{}
	s := newFake(t, githubfake.Options{Limit: 1 << 30})
	f := adapter(t, s, func(o *Options) { o.Logger = nil })
	for seed := range histories {
		r := rand.New(rand.NewPCG(1, uint64(seed)))
		repo := ccci.RepoRef{Owner: "recipes", Name: fmt.Sprint("app", seed)}
		create(t, s, repo)
		pr := pullOn(t, s, repo)
		heads := []ccci.Commit{}
		var story []string
		act := func() {
			switch r.IntN(6) {
			case 0, 1: // a new commit
				to := ccci.Commit(fmt.Sprintf("%016x%024d", r.Uint64(), 0))
				forced := r.IntN(3) == 0
				s.Move(pr, to, forced)
				heads = append(heads, to)
				story = append(story, fmt.Sprintf("push %s forced=%t", to.Short(), forced))
			case 2: // back to an earlier one, which is always a forced push
				if len(heads) > 1 {
					to := heads[r.IntN(len(heads))]
					s.Move(pr, to, true)
					story = append(story, "back to "+to.Short())
				}
			case 3, 4:
				if r.IntN(2) == 0 {
					s.Advance(time.Second)
				}
				if _, err := f.PullRequest(t.Context(), pr); err != nil {
					t.Fatal(err)
				}
				story = append(story, "look")
			case 5: // the next thing happens within the same second
				s.SameSecond()
				story = append(story, "same second")
			}
		}
		mode := r.IntN(3)
		if mode == 1 {
			s.HideActivity(repo)
		}
		s.Move(pr, "1111111111111111111111111111111111111111", false)
		heads = append(heads, "1111111111111111111111111111111111111111")
		for range r.IntN(6) {
			act()
		}
		id := s.Comment(pr, "ada", "!testme")
		at := s.Now()
		story = append(story, "comment")
		for range r.IntN(6) {
			act()
		}
		if mode == 2 {
			s.DropActivity(repo, min(r.IntN(3), s.Pushes(repo)))
		}
		s.Advance(10 * time.Minute)
		got, err := f.HeadAt(t.Context(), pr, ccci.Comment{ID: id, PR: pr})
		truth, now := s.Truth(repo, id), s.Head(pr)
		outcome := "yes"
		switch {
		case err == nil:
			if got != truth || got != now || s.PushedAtOrAfter(repo, at) && mode != 2 {
				t.Errorf("seed %d, mode %d: HeadAt = %s; it was %s and is %s\n%q", seed, mode, got.Short(), truth.Short(), now.Short(), story)
			}
		case errors.Is(err, ccci.ErrHeadMoved):
			outcome = "moved"
			if got != truth && !s.WasHeadAt(repo, at, got) {
				t.Errorf("seed %d, mode %d: HeadAt = %s, moved; it was %s and is %s\n%q", seed, mode, got.Short(), truth.Short(), now.Short(), story)
			}
		case errors.Is(err, ccci.ErrHeadUnknown):
			outcome = "unknown"
			if got != "" {
				t.Errorf("seed %d: unknown, and yet %s", seed, got)
			}
		default:
			t.Errorf("seed %d: %v", seed, err)
		}
		outcomes[fmt.Sprint([]string{"activity ", "hidden ", "behind "}[mode], outcome)]++
	}
	t.Logf("%d histories: %v", histories, outcomes)
	for _, want := range []string{"activity yes", "activity moved", "hidden yes", "hidden moved", "hidden unknown", "behind yes", "behind unknown"} {
		if outcomes[want] == 0 {
			t.Errorf("no history ended with %q: %v", want, outcomes)
		}
	}
}
