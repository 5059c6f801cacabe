package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/sqlitefile"
	"github.com/recipe-maintainers/cc-ci/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Open: func(t *testing.T, place string) ccci.Store { return openAt(t, filepath.Join(place, "cc-ci.db")) },
	})
}

// A path may hold what means something else in a URL.
func TestOpenOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b", "50%?x=1#y")
	openAt(t, filepath.Join(dir, "cc-ci.db"))
	if _, err := os.Stat(filepath.Join(dir, "cc-ci.db")); err != nil {
		t.Error(err)
	}
}

func TestOpenManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cc-ci.db")
	errs := make(chan error)
	for range 8 {
		go func() {
			s, err := Open(t.Context(), path)
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestOpenBadFiles(t *testing.T) {
	for _, test := range []struct {
		name, want string
		make       func(t *testing.T, path string)
	}{
		{"not a database", "is not a database", func(t *testing.T, path string) {
			write(t, path, []byte(strings.Repeat("this is a text, not a database\n", 200)))
		}},
		{"a damaged database", "is damaged", func(t *testing.T, path string) {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 100; i < 4096; i++ { // the first page after its header: the schema
				data[i] = 0xff
			}
			write(t, path, data)
		}},
		{"held by another program", "is held by another program", func(t *testing.T, path string) {
			other, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { other.Close() })
			conn, err := other.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := conn.ExecContext(t.Context(), "BEGIN EXCLUSIVE; CREATE TABLE held (x)"); err != nil {
				t.Fatal(err)
			}
		}},
		{"a newer schema", "this program knows up to", func(t *testing.T, path string) {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.db.Write.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"); err != nil {
				t.Fatal(err)
			}
		}},
		{"a directory", "cannot be", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cc-ci.db")
			test.make(t, path)
			s, err := open(t.Context(), path, sqlitefile.Options{Busy: 50 * time.Millisecond})
			if err == nil {
				s.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) || ccci.HintOf(err) == "" {
				t.Errorf("got %q with hint %q; want %q, the path, and a hint", err, ccci.HintOf(err), test.want)
			}
		})
	}
}

// The trigger stands behind the conditional update: it also stops other programs.
func TestTerminalStatesHoldInTheFile(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "cc-ci.db"))
	run := ccci.Run{ID: "260301-000000-aaaaaa", Key: "k", Recipe: "a", Status: ccci.StatusPassed}
	if _, _, err := s.ClaimRun(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	_, err := s.db.Write.ExecContext(t.Context(), "UPDATE runs SET status = 'running'")
	if err == nil || !strings.Contains(err.Error(), "a terminal state never moves") {
		t.Errorf("a plain UPDATE was answered with %v", err)
	}
	if _, err := s.db.Write.ExecContext(t.Context(), "UPDATE runs SET status = 'passed'"); err != nil {
		t.Errorf("staying is legal: %v", err)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "cc-ci.db"))
	if _, err := s.db.Read.ExecContext(t.Context(), "DELETE FROM runs"); err == nil {
		t.Error("a reading connection could write")
	}
}

func TestContextEnds(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "cc-ci.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.FindRuns(ctx, ccci.RunFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fill stores runs of 200 recipes in one transaction.
func fill(b testing.TB, s *Store, runs int) {
	b.Helper()
	err := s.db.Tx(b.Context(), func(tx *sql.Tx) error {
		stmt, err := tx.Prepare(`INSERT INTO runs (` + runColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for n := range runs {
			run := ccci.Run{ID: ccci.RunID(fmt.Sprintf("26-%09d", n)), Key: fmt.Sprint(n), Recipe: fmt.Sprintf("recipe-%d", n%200),
				Trigger: ccci.TriggerSweep, Status: ccci.StatusPassed, Level: 5, Stages: make([]ccci.StageRow, 5)}
			if n%200 == 0 { // one recipe whose speaking run is far back
				run.Status = ccci.StatusCancelled
			}
			data, err := encodeRun(run)
			if err != nil {
				return err
			}
			if _, err := stmt.Exec(run.ID, run.Key, run.Recipe, "o", "n", 1, "", 0, run.Status, data); err != nil {
				return err
			}
			if err := keepVerdicts(b.Context(), tx, run); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkLatestOf(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "cc-ci.db"))
	fill(b, s, 100_000)
	for _, recipe := range []string{"recipe-7", "recipe-0"} {
		b.Run(recipe, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.LatestOf(b.Context(), recipe, ccci.SubjectRecipe); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("LatestPerRecipe", func(b *testing.B) {
		for b.Loop() {
			if runs, err := s.LatestPerRecipe(b.Context()); err != nil || len(runs) != 200 {
				b.Fatal(len(runs), err)
			}
		}
	})
}

func BenchmarkCheckHistory(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "cc-ci.db"))
	fill(b, s, 100_000)
	runs, err := s.CheckHistory(b.Context(), ccci.CheckFilter{Recipe: "recipe-7", About: ccci.SubjectRecipe})
	if err != nil || len(runs) != 100 {
		b.Fatal(len(runs), err)
	}
	for _, o := range runs {
		var checks []ccci.CheckOutcome
		for n := range 30 {
			checks = append(checks, ccci.CheckOutcome{Name: fmt.Sprintf("checks/number-%d", n), Status: ccci.Pass})
		}
		if err := s.KeepChecks(b.Context(), o.Run.ID, checks); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		past, err := s.CheckHistory(b.Context(), ccci.CheckFilter{Recipe: "recipe-7", About: ccci.SubjectRecipe})
		if err != nil || len(ccci.Turns(past)) != 30 {
			b.Fatal(err)
		}
	}
}

// A scan of the table or of an index would only show with many runs.
func TestA28_BadgeQueriesSeek(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "cc-ci.db"))
	latest := []string{"runs_by_recipe (recipe=?)", "verdicts_answers (recipe=? AND subject=?)"}
	for _, test := range []struct {
		query string
		args  []any
		seeks []string
	}{
		{latestOf, []any{"a", "a", ccci.SubjectRecipe}, latest},
		{latestPerRecipe, []any{ccci.SubjectRecipe}, latest},
		{historyOfSubject, []any{"a", ccci.SubjectRecipe, 9}, []string{"verdicts_latest (recipe=? AND subject=?)"}},
		{historyOfCommit, []any{"a", "c", 9}, []string{"runs_by_commit (recipe=? AND commit_id=?)"}},
	} {
		rows, err := s.db.Read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+test.query, test.args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan strings.Builder
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(detail + "\n")
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		// SQLite calls a walk along an index a search too, so the columns count.
		for _, seek := range test.seeks {
			if !strings.Contains(plan.String(), seek) || strings.Contains(plan.String(), "TEMP B-TREE FOR LAST") || strings.Contains(plan.String(), "SCAN runs") || strings.Contains(plan.String(), "SCAN verdicts") {
				t.Errorf("%s\nis done without %s:\n%s", test.query, seek, plan.String())
			}
		}
	}
}

// oldStore makes a store as a version of cc-ci had it that knew migrations up to the named one.
func oldStore(t *testing.T, path string, upTo string, statements ...string) {
	t.Helper()
	all, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	known := fstest.MapFS{}
	for _, name := range all {
		if base := filepath.Base(name); base <= upTo+"~" {
			text, err := migrations.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			known[base] = &fstest.MapFile{Data: text}
		}
	}
	db, err := sqlitefile.Open(t.Context(), path, sqlitefile.Options{Migrations: known})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		if _, err := db.Write.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// oldRun inserts a run as a store had it while it kept in a column who speaks.
func oldRun(n, pr int, status ccci.Status, speaks int, data string) string {
	return fmt.Sprintf(`INSERT INTO runs (id, run_key, recipe, pr_owner, pr_name, pr_number, commit_id, created, status, speaks, data)
		VALUES ('26010%d-000000-000000', 'x/%d', 'wiki', 'coop', 'wiki', %d, '', %d, '%s', %d, '%s')`, n, n, pr, n*1000, status, speaks, data)
}

// In a store from before the rule the latest run spoke, also one that came to no answer.
func TestA28_RunsWithoutAnAnswerSpeakLastInAnOldStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cc-ci.db")
	var statements []string
	for i, status := range []ccci.Status{ccci.StatusPassed, ccci.StatusErrored, ccci.StatusInconclusive} {
		statements = append(statements,
			fmt.Sprintf(`INSERT INTO runs (id, run_key, recipe, pr_owner, pr_name, pr_number, commit_id, created, status, data)
				VALUES ('26010%d-000000-000000', 'x/%d', 'wiki', '', '', 0, '', %d, '%s', '{"trigger": "sweep"}')`, i+1, i, i, status),
			fmt.Sprintf(`INSERT INTO verdicts (run_id, recipe, subject, since) VALUES ('26010%d-000000-000000', 'wiki', 'recipe', %d)`, i+1, i))
	}
	oldStore(t, path, "00005", statements...)
	got, err := openAt(t, path).LatestOf(t.Context(), "wiki", ccci.SubjectRecipe)
	if err != nil || len(got) != 2 || got[1].ID != "260101-000000-000000" {
		t.Errorf("LatestOf = %+v, %v; want the newest and the one that passed", got, err)
	}
}

// A store from before the rule may hold runs that were restricted and spoke for their recipe.
func TestU7_RestrictedRunsAreSilencedInAnOldStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cc-ci.db")
	oldStore(t, path, "00002", oldRun(1, 7, ccci.StatusFailed, 1, `{}`), oldRun(2, 7, ccci.StatusFailed, 1, `{"options": {"from": "9.9.9"}}`))
	got, err := openAt(t, path).LatestOf(t.Context(), "wiki", ccci.SubjectPull(7))
	if err != nil || len(got) != 2 || got[1].ID != "260101-000000-000000" {
		t.Errorf("LatestOf = %+v, %v", got, err)
	}
}

// In a store from before the rule every whole run spoke for its recipe. The sweep's go on, those
// of pull requests speak for these.
func TestA28_PullRequestsNoLongerSpeakForTheRecipeInAnOldStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cc-ci.db")
	oldStore(t, path, "00003",
		oldRun(1, 0, ccci.StatusPassed, 1, `{"trigger": "sweep", "level": 4}`),
		oldRun(2, 0, ccci.StatusCancelled, 0, `{"trigger": "sweep"}`),
		oldRun(3, 7, ccci.StatusPassed, 1, `{"level": 5}`),
		oldRun(4, 8, ccci.StatusFailed, 1, `{"level": 1}`),
		oldRun(5, 7, ccci.StatusFailed, 0, `{"options": {"quick": true}}`),
		oldRun(6, 8, ccci.StatusRunning, 0, `{}`))
	s := openAt(t, path)
	for about, want := range map[ccci.Subject]ccci.RunID{
		ccci.SubjectRecipe: "260101-000000-000000", ccci.SubjectPull(7): "260103-000000-000000", ccci.SubjectPull(8): "260104-000000-000000",
	} {
		got, err := s.LatestOf(t.Context(), "wiki", about)
		if err != nil || len(got) != 2 || got[0].ID != "260106-000000-000000" || got[1].ID != want {
			t.Errorf("LatestOf(%s) = %+v, %v; want the newest and %s", about, got, err, want)
		}
	}
	run, err := s.FindRun(t.Context(), "260106-000000-000000")
	if err != nil {
		t.Fatal(err)
	}
	run.Status = ccci.StatusPassed // it was at work during the update of cc-ci
	if err := s.UpdateRun(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if got, err := s.LatestOf(t.Context(), "wiki", ccci.SubjectPull(8)); err != nil || len(got) != 1 || got[0].ID != run.ID {
		t.Errorf("after the run ended LatestOf = %+v, %v", got, err)
	}
}
