package gitea

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
)

// An issue's comment is none of ours, a comment that somebody else edited is marked,
// and what was returned once does not come again.
func TestA4_OnePollOfARealRepository(t *testing.T) {
	s := gitea(t)
	f := connect(t, s)
	polled := ccci.RepoRef{Owner: "polled", Name: "tiny"}
	work := forgetest.NewWork(t, clean(t, s, polled))
	work.Commit("main", "compose.yml", "a")
	work.Commit("update", "compose.yml", "b")
	s.Collaborator(t, polled.String(), "ada", "read")
	number := s.OpenPull(t, polled.String(), "ada", "Update", "update", "main")
	issue := s.OpenIssue(t, polled.String(), "ada", "Help")
	s.Comment(t, polled.String(), issue, "ada", "!testme")
	id := s.Comment(t, polled.String(), number, "ada", "looks good")
	poll := func(since ccci.Cursor) ([]ccci.Comment, ccci.Cursor) {
		t.Helper()
		comments, next, err := f.Comments(t.Context(), polled, since)
		if err != nil {
			t.Fatal(err)
		}
		return comments, next
	}
	first, cursor := poll("")
	if len(first) != 1 || first[0].ID != commentID(id) || first[0].Edited || first[0].PR.Number != number {
		t.Fatalf("the first poll brings %+v", first)
	}
	if again, next := poll(cursor); len(again) != 0 || next != cursor {
		t.Errorf("the next poll brings %+v and %q after %q", again, next, cursor)
	}
	second := s.Comment(t, polled.String(), number, "ada", "and this")
	s.Collaborator(t, polled.String(), "mallory", "write")
	nextSecond()
	s.EditComment(t, polled.String(), second, "mallory", "!testme")
	got, cursor := poll(cursor)
	if len(got) != 1 || got[0].Author.Name != "ada" || got[0].Body != "!testme" || !got[0].Edited {
		t.Errorf("what somebody else edited comes as %+v", got)
	}
	if last, err := f.comment(t.Context(), ccci.PRRef{Repo: polled, Number: issue}, commentID(id)); err == nil {
		t.Errorf("a comment was read from another thread: %+v", last)
	}
	if _, next := poll("garbage"); next != cursor {
		t.Errorf("from an unreadable cursor to %q, want %q", next, cursor)
	}
	s.DeleteRepo(t, polled.String())
	if _, _, err := f.Comments(t.Context(), polled, cursor); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("of a repository that is gone: %v", err)
	}
}

// listing is a forge that has nothing but comments, and pages them as Gitea does.
type listing struct {
	mu       sync.Mutex
	rows     []row
	cap      int // the most rows of a page
	requests int
	before   func(l *listing, page int) // each answer
}

func (l *listing) add(id int, at int64, body string) {
	when := time.Unix(at, 0).UTC()
	l.rows = append(l.rows, row{ID: int64(id), Body: body, User: &account{7, "ada"}, Created: when, Updated: when,
		Pull: "https://git.example.org/recipes/pocketbase/pulls/1"})
}

func (l *listing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	page, _ := strconv.Atoi(r.FormValue("page"))
	page = max(page, 1)
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	limit = min(limit, l.cap)
	if l.before != nil {
		l.before(l, page)
	}
	since, _ := time.Parse(time.RFC3339, r.FormValue("since"))
	before, _ := time.Parse(time.RFC3339, r.FormValue("before"))
	var match []row
	for _, one := range l.rows {
		if !one.Updated.Before(since) && (before.IsZero() || !one.Updated.After(before)) {
			match = append(match, one)
		}
	}
	from := min((page-1)*limit, len(match))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Total-Count", strconv.Itoa(len(match)))
	json.NewEncoder(w).Encode(match[from:min(from+limit, len(match))])
}

func (l *listing) start(t testing.TB) *Forge {
	if l.cap == 0 {
		l.cap = pageSize
	}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	return forgeAt(t, server.URL)
}

func ids(comments []ccci.Comment) []int {
	var out []int
	for _, c := range comments {
		n, _ := strconv.Atoi(string(c.ID))
		out = append(out, n)
	}
	return out
}

func upTo(n int) []int {
	var out []int
	for i := 1; i <= n; i++ {
		out = append(out, i)
	}
	return out
}

const t0 = 1_700_000_000

func TestU14_ManyPagesMissNone(t *testing.T) {
	for _, most := range []int{50, 30, 1} { // a forge may give less at once than it is asked for
		l := &listing{cap: most}
		for i := 1; i <= 120; i++ {
			l.add(i, t0+int64(i/40), "x")
		}
		got, cursor, err := l.start(t).Comments(t.Context(), repo, "")
		if err != nil || !slices.Equal(ids(got), upTo(120)) {
			t.Errorf("%d at once: %d comments, %v", most, len(got), err)
		}
		l.requests = 0
		if again, _, err := l.start(t).Comments(t.Context(), repo, cursor); err != nil || len(again) != 0 {
			t.Errorf("%d at once: again %d comments, %v", most, len(again), err)
		}
	}
}

// Who deletes a comment while the pages are read cannot hide another's.
func TestU14_DeletedMeanwhile(t *testing.T) {
	l := &listing{}
	for i := 1; i <= 101; i++ {
		l.add(i, t0, "x")
	}
	done := false
	l.before = func(l *listing, page int) {
		if page == 2 && !done {
			done = true
			l.rows = l.rows[1:] // what was first on page 2 is last on page 1 now
			l.add(102, t0+1, "x")
		}
	}
	got, _, err := l.start(t).Comments(t.Context(), repo, "")
	if err != nil || !slices.Equal(ids(got), upTo(102)) {
		t.Errorf("%v, %v; want all 102", ids(got), err)
	}
}

// A comment that shows late, with an earlier time than the mark, is not lost.
func TestU14_LateComment(t *testing.T) {
	l := &listing{}
	l.add(2, t0, "x")
	f := l.start(t)
	_, cursor, err := f.Comments(t.Context(), repo, "")
	if err != nil {
		t.Fatal(err)
	}
	l.add(1, t0-20, "late")
	got, next, err := f.Comments(t.Context(), repo, cursor)
	if err != nil || !slices.Equal(ids(got), []int{1}) {
		t.Errorf("%v, %v; want the late one", ids(got), err)
	}
	if l.requests != 2 {
		t.Errorf("two polls cost %d requests", l.requests)
	}
	if again, _, err := f.Comments(t.Context(), repo, next); err != nil || len(again) != 0 {
		t.Errorf("it comes again: %v, %v", ids(again), err)
	}
}

// A5: one that is changed after it was read comes again, since the log must say why
// it is no command.
func TestA5_EditedAfterItWasRead(t *testing.T) {
	l := &listing{}
	l.add(1, t0, "looks good")
	l.add(2, t0, "me too")
	f := l.start(t)
	_, cursor, err := f.Comments(t.Context(), repo, "")
	if err != nil {
		t.Fatal(err)
	}
	l.rows[0].Body, l.rows[0].Updated = "!testme", l.rows[0].Updated.Add(time.Second)
	got, cursor, err := f.Comments(t.Context(), repo, cursor)
	if err != nil || !slices.Equal(ids(got), []int{1}) || !got[0].Edited {
		t.Fatalf("%+v, %v; want the edited one", got, err)
	}
	if got, _, err := f.Comments(t.Context(), repo, cursor); err != nil || len(got) != 0 {
		t.Errorf("it comes again: %v, %v", ids(got), err)
	}
}

// The forge bounds no comment's size. However many are absurd, they cost nothing but
// their own text: what stands between and after them is read, and they are no commands.
func TestU14_HugeComments(t *testing.T) {
	l := &listing{}
	for i := 1; i <= 60; i++ {
		l.add(i, t0, "x")
		if i%2 == 0 {
			l.rows[i-1].Body = "!testme" + strings.Repeat(" ", 500<<10) + "<!-- cc-ci:0123456789abcdef0123456789abcdef -->"
		}
	}
	l.add(61, t0, "!testme")
	f := l.start(t)
	got, cursor, err := f.Comments(t.Context(), repo, "")
	if err != nil || !slices.Equal(ids(got), upTo(61)) || got[60].Body != "!testme" {
		t.Fatalf("%v, %v", ids(got), err)
	}
	if huge := got[1].Body; len(huge) > keptBody+5*tailKept || !strings.Contains(huge, "…") || ccci.TagOfBody(huge) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("a huge one comes as %d bytes: %.30q", len(huge), huge)
	}
	if again, _, err := f.Comments(t.Context(), repo, cursor); err != nil || len(again) != 0 {
		t.Errorf("again: %v, %v", ids(again), err)
	}
	// Even those that are too large to be read at all are left out alone.
	f.limit = 300 << 10
	if got, _, err := f.Comments(t.Context(), repo, ""); err != nil || len(got) != 31 || got[30].Body != "!testme" {
		t.Errorf("where no answer may be longer than 300 KiB: %v, %v", ids(got), err)
	}
}

// What is too much for one poll is read by several, each of which begins where the last
// one ended, also when comments that were written first are changed last.
func TestU14_TooMuchForOnePoll(t *testing.T) {
	l := &listing{}
	for i := 1; i <= 300; i++ {
		l.add(i, t0+int64(i), "x")
		if i%3 == 0 {
			l.rows[i-1].Updated = time.Unix(t0+1000-int64(i), 0).UTC()
		}
	}
	l.add(301, t0+2000, "!testme")
	f := l.start(t)
	clock := time.Unix(t0+5000, 0)
	polls := readInParts(t, f, &clock, repo, 301)
	if polls < 2 {
		t.Errorf("it took %d polls", polls)
	}
}

// readInParts polls until a comment is seen, with a clock on which each page takes so long
// that no list of several is read to its end. It fails when one before it is left out.
func readInParts(t *testing.T, f *Forge, clock *time.Time, repo ccci.RepoRef, last int) (polls int) {
	t.Helper()
	f.client.now = func() time.Time { *clock = clock.Add(15 * time.Second); return *clock }
	f.opts.Now = func() time.Time { return *clock }
	var cursor ccci.Cursor
	seen := map[int]bool{}
	for ; !seen[last]; polls++ {
		got, next, err := f.Comments(t.Context(), repo, cursor)
		if err != nil || next == cursor || polls > 100 {
			t.Fatalf("poll %d from %q to %q brings %v, %v", polls, cursor, next, ids(got), err)
		}
		for _, id := range ids(got) {
			seen[id] = true
		}
		cursor = next
	}
	for id := last - len(seen) + 1; id <= last; id++ {
		if !seen[id] {
			t.Errorf("comment %d was left out", id)
		}
	}
	return polls
}

// The same on a real forge: what its parameters mean is as the parts need it.
func TestU14_PartsOfARealRepository(t *testing.T) {
	s := gitea(t)
	number := openOne(t, s, clean(t, s, repo))
	s.Collaborator(t, repo.String(), "ada", "read")
	const many = 70
	first := s.Comment(t, repo.String(), number, "ada", "hello")
	last := first
	for range many {
		last = s.Comment(t, repo.String(), number, "ada", "hello")
	}
	clock := time.Now().Add(time.Hour) // also where the clocks differ
	f := connect(t, s)
	if polls := readInParts(t, f, &clock, repo, int(last)); polls < 2 {
		t.Errorf("%d comments took %d polls", many, polls)
	}
}

func TestU14_CursorIsBounded(t *testing.T) {
	m := mark{at: t0, seen: map[int64]int64{}}
	for i := range int64(5000) {
		m.seen[1_000_000+i] = t0 - i%30
	}
	c := m.cursor()
	if back := parseMark(c); back.at != t0 || len(back.seen) != cursorLimit || back.seen[1_004_999] != t0-4_999%30 {
		t.Errorf("of %d marks %d are left, at %d", len(m.seen), len(back.seen), back.at)
	}
	if len(c) > 8<<10 {
		t.Errorf("the cursor has %d bytes", len(c))
	}
	for _, bad := range []ccci.Cursor{"", "x", "-1", "1e9", ":", "99999999999999999999"} {
		if m := parseMark(bad); m.at != 0 || len(m.seen) != 0 {
			t.Errorf("%q is read as %+v", bad, m)
		}
	}
}

// An idle poll of a repository is one request, and 2,000 of them fit into 30 s.
func TestA4_IdlePollsAreCheap(t *testing.T) {
	s := gitea(t)
	f := connect(t, s)
	const repos, polls, workers = 10, 400, 4
	refs := make([]ccci.RepoRef, repos)
	cursors := make([]ccci.Cursor, repos)
	for i := range refs {
		refs[i] = ccci.RepoRef{Owner: "many", Name: fmt.Sprintf("r%d", i)}
		work := forgetest.NewWork(t, clean(t, s, refs[i]))
		work.Commit("main", "compose.yml", "a")
		number := s.OpenIssue(t, refs[i].String(), "ada", "Help")
		s.Comment(t, refs[i].String(), number, "ada", "hello")
		var err error
		if _, cursors[i], err = f.Comments(t.Context(), refs[i], ""); err != nil {
			t.Fatal(err)
		}
	}
	jobs := make(chan int)
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for i := range jobs {
				if got, _, err := f.Comments(t.Context(), refs[i], cursors[i]); err != nil || len(got) != 0 {
					t.Errorf("%s: %d comments, %v", refs[i], len(got), err)
				}
			}
		})
	}
	for n := range polls {
		jobs <- n % repos
	}
	close(jobs)
	wg.Wait()
	rate := polls / time.Since(began).Seconds()
	t.Logf("%.0f polls a second with %d workers: 2,000 repositories in %.1f s", rate, workers, 2000/rate)
	if rate < 10 {
		t.Errorf("%.0f polls a second", rate)
	}
}
