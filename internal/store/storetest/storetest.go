// Package storetest is the conformance suite of [ccci.Store]. Each sentence of
// the port's contract is a sub-test.
//
// A new adapter proves itself with one test:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, storetest.Options{
//			Open: func(t *testing.T, place string) ccci.Store {
//				s, err := mystore.Open(t.Context(), place)
//				if err != nil {
//					t.Fatal(err)
//				}
//				t.Cleanup(func() { s.Close() })
//				return s
//			},
//		})
//	}
//
// place is the path of an empty directory, different in each sub-test. Adapters
// without files take its base name for a database or schema name.
package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options say what the suite needs to know about an adapter.
type Options struct {
	// Open opens the store at place, empty at first. Opening the same place again,
	// while it is open or after, gives a second handle on the same data. The
	// handle is closed by t.Cleanup.
	Open func(t *testing.T, place string) ccci.Store
}

// Run runs the whole suite.
func Run(t *testing.T, opts Options) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Options)
	}{
		{"N2_ClaimInsertsOncePerKey", testClaim},
		{"N2_ClaimRaces", testClaimRaces},
		{"ClaimRefusesATakenID", testClaimTakenID},
		{"ClaimRefusesIncompleteRuns", testClaimIncomplete},
		{"RunsKeepEveryField", testRoundTrip},
		{"UpdateIgnoresWhatNeverChanges", testUpdateFixedFields},
		{"UpdateStatusMoves", testUpdateMoves},
		{"UpdateTerminalRaces", testUpdateRaces},
		{"N5_CancelRun", testCancel},
		{"N5_CancelRaces", testCancelRaces},
		{"UnknownRunIsNotFound", testUnknownRun},
		{"U18_FindRunsFilters", testFilters},
		{"U18_FindRunsPages", testPages},
		{"A27_LatestPerRecipe", testLatest},
		{"A28_LatestOfSubjects", testLatestSubjects},
		{"A28_LatestAfterAMerge", testLatestLaterMerge},
		{"N14_ChecksAreKept", testChecks},
		{"P17_CheckHistory", testCheckHistory},
		{"U14_Cursor", testCursor},
		{"U14_DurableAcrossReopen", testReopen},
		{"SaveMessageVersions", testMessageVersions},
		{"PendingMessagesOrderAndTime", testPending},
		{"MarkSentKeepsANewerVersionPending", testMarkSent},
		{"MarkFailedDefers", testMarkFailed},
		{"MessagesRace", testMessageRaces},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opts) })
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// aRun returns a run that differs from every other n in id and key.
func aRun(n int) ccci.Run {
	return ccci.Run{
		ID:          ccci.RunID(fmt.Sprintf("260301-%06d-aaaaaa", n)),
		Key:         ccci.RunKey("forge", ccci.CommentID(fmt.Sprint(n)), 0),
		Recipe:      "pocketbase",
		PR:          ccci.PRRef{Repo: ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}, Number: 7},
		Commit:      "0123456789abcdef0123456789abcdef01234567",
		CloneURL:    "/srv/git/recipes/pocketbase.git",
		RequestedBy: ccci.User{ID: "3", Name: "ada"},
		Comment:     ccci.CommentID(fmt.Sprint(n)),
		Status:      ccci.StatusQueued,
		Attempt:     1,
		Created:     start.Add(time.Duration(n) * time.Second),
	}
}

func claim(t *testing.T, s ccci.Store, run ccci.Run) ccci.Run {
	t.Helper()
	held, created, err := s.ClaimRun(t.Context(), run)
	if err != nil || !created {
		t.Fatalf("ClaimRun(%s) = created %t, %v", run.ID, created, err)
	}
	return held
}

func update(t *testing.T, s ccci.Store, run ccci.Run) {
	t.Helper()
	if err := s.UpdateRun(t.Context(), run); err != nil {
		t.Fatalf("UpdateRun(%s): %v", run.ID, err)
	}
}

func find(t *testing.T, s ccci.Store, id ccci.RunID) ccci.Run {
	t.Helper()
	run, err := s.FindRun(t.Context(), id)
	if err != nil {
		t.Fatalf("FindRun(%s): %v", id, err)
	}
	return run
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

func ids(runs []ccci.Run) []ccci.RunID {
	var out []ccci.RunID
	for _, r := range runs {
		out = append(out, r.ID)
	}
	return out
}
