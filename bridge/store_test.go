package bridge_test

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// memStore keeps the contract of ccci.Store in memory, so that tests with a
// virtual clock need no files.
type memStore struct {
	mu       sync.Mutex
	byID     map[ccci.RunID]ccci.Run
	cursors  map[string]ccci.Cursor
	messages map[string]ccci.Message
	checks   map[ccci.RunID][]ccci.CheckOutcome
	late     map[ccci.RunID]ccci.Run // what a list shows of a run that has moved on since
}

func newMemStore() *memStore {
	return &memStore{byID: map[ccci.RunID]ccci.Run{}, cursors: map[string]ccci.Cursor{}, messages: map[string]ccci.Message{}, checks: map[ccci.RunID][]ccci.CheckOutcome{}}
}

func (s *memStore) ClaimRun(_ context.Context, run ccci.Run) (ccci.Run, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.byID {
		if r.Key == run.Key {
			return r, false, nil
		}
	}
	if _, taken := s.byID[run.ID]; taken {
		return ccci.Run{}, false, ccci.Errorf(ccci.CodeConflict, "two runs with one id")
	}
	s.byID[run.ID] = run
	return run, true, nil
}

func (s *memStore) UpdateRun(_ context.Context, run ccci.Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.byID[run.ID]
	if !ok {
		return ccci.ErrNotFound
	}
	if !old.Status.CanBecome(run.Status) {
		return ccci.Errorf(ccci.CodeConflict, "%s cannot become %s", old.Status, run.Status)
	}
	run.Key, run.Recipe, run.PR, run.Commit, run.Created = old.Key, old.Recipe, old.PR, old.Commit, old.Created
	run.CancelledBy = cmp.Or(run.CancelledBy, old.CancelledBy)
	run.Stages = slices.Clone(run.Stages)
	s.byID[run.ID] = run
	return nil
}

func (s *memStore) CancelRun(context.Context, ccci.RunID, string) (ccci.Run, error) { panic("unused") }

func (s *memStore) FindRun(_ context.Context, id ccci.RunID) (ccci.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.byID[id]; ok {
		return r, nil
	}
	return ccci.Run{}, ccci.ErrNotFound
}

func (s *memStore) FindRuns(_ context.Context, f ccci.RunFilter) ([]ccci.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ccci.Run
	for id, r := range s.byID {
		if old, ok := s.late[id]; ok {
			r = old
		}
		if (f.Recipe == "" || r.Recipe == f.Recipe) && (f.PR.Repo.IsZero() || r.PR.Repo == f.PR.Repo) && (f.PR.Number == 0 || r.PR.Number == f.PR.Number) && (len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status)) &&
			(!f.Unfinished || !r.Status.Terminal()) && (f.Before == "" || r.ID < f.Before) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b ccci.Run) int { return cmp.Compare(b.ID, a.ID) })
	return out[:min(len(out), cmp.Or(f.Limit, 100))], nil
}

func (s *memStore) LatestPerRecipe(context.Context) ([]ccci.Run, error) { panic("unused") }
func (s *memStore) LatestOf(context.Context, string, ccci.Subject) ([]ccci.Run, error) {
	panic("unused")
}

func (s *memStore) KeepChecks(_ context.Context, id ccci.RunID, checks []ccci.CheckOutcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[id] = checks
	return nil
}

func (s *memStore) CheckHistory(_ context.Context, f ccci.CheckFilter) ([]ccci.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ccci.Observation
	for _, run := range s.byID {
		at, speaks := run.SpeaksFor()[f.About]
		if run.Recipe == f.Recipe && (speaks || f.About == "" && run.Commit == f.Commit) {
			all = append(all, ccci.Observation{Run: run, At: at, Checks: s.checks[run.ID]})
		}
	}
	return all, nil
}

func (s *memStore) Cursor(_ context.Context, forge string, repo ccci.RepoRef) (ccci.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursors[forge+" "+repo.String()], nil
}

func (s *memStore) SaveCursor(_ context.Context, forge string, repo ccci.RepoRef, c ccci.Cursor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursors[forge+" "+repo.String()] = c
	return nil
}

func (s *memStore) SaveMessage(_ context.Context, msg ccci.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.messages[msg.Key]
	if ok && old.Body == msg.Body && old.Commit == msg.Commit && reflect.DeepEqual(old.Status, msg.Status) {
		return nil
	}
	msg.Version, msg.Posted, msg.Sent = old.Version+1, old.Posted, old.Sent
	msg.Attempts, msg.NotBefore, msg.LastError = 0, time.Time{}, ""
	s.messages[msg.Key] = msg
	return nil
}

func (s *memStore) PendingMessages(_ context.Context, now time.Time, limit int) ([]ccci.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ccci.Message
	for _, m := range s.messages {
		if m.Version > m.Sent && !m.NotBefore.After(now) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b ccci.Message) int {
		return cmp.Or(cmp.Compare(a.Attempts, b.Attempts), a.Updated.Compare(b.Updated), cmp.Compare(a.Key, b.Key))
	})
	return out[:min(len(out), limit)], nil
}

func (s *memStore) MarkSent(_ context.Context, key string, version int, posted ccci.CommentID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[key]
	m.Sent, m.Posted, m.Attempts, m.NotBefore, m.LastError = max(m.Sent, version), posted, 0, time.Time{}, ""
	s.messages[key] = m
	return nil
}

func (s *memStore) MarkFailed(_ context.Context, key string, notBefore time.Time, cause string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[key]
	m.Attempts, m.NotBefore, m.LastError = m.Attempts+1, notBefore, cause
	s.messages[key] = m
	return nil
}
