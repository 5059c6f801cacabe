package github

import "testing"

// The branch of a fork, also of one that is gone, is none of the base's repository.
func TestA28_ForksAreTold(t *testing.T) {
	for _, fork := range []bool{false, true} {
		st := newStage(t, fork)
		if p, err := st.f.PullRequest(t.Context(), st.pr); err != nil || p.Fork != fork {
			t.Errorf("of a fork: %t, %v; want %t", p.Fork, err, fork)
		}
		if !fork {
			continue
		}
		st.s.DeleteFork(st.pr)
		if p, err := st.f.PullRequest(t.Context(), st.pr); err != nil || !p.Fork {
			t.Errorf("of a fork that is gone: %t, %v", p.Fork, err)
		}
	}
}
