package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// defaultLimit is what a filter without Limit gets.
const defaultLimit = 100

const runColumns = "id, run_key, recipe, pr_owner, pr_name, pr_number, commit_id, created, status, data"

// keepVerdicts writes what a stored run speaks for, as it is now.
func keepVerdicts(ctx context.Context, tx *sql.Tx, run ccci.Run) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM verdicts WHERE run_id = ?`, run.ID); err != nil {
		return err
	}
	for subject, since := range run.SpeaksFor() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO verdicts (run_id, recipe, subject, since, answers) VALUES (?, ?, ?, ?, ?)`,
			run.ID, run.Recipe, subject, nanos(since), run.Status.Answers()); err != nil {
			return err
		}
	}
	return nil
}

func encodeRun(r ccci.Run) (string, error) {
	if !slices.Contains(ccci.Statuses, r.Status) {
		return "", ccci.Errorf(ccci.CodeInvalid, "storing run %s: %q is not a status", r.ID, r.Status)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("storing run %s: %w", r.ID, err)
	}
	return string(data), nil
}

type row interface{ Scan(...any) error }

// scanRun reads runColumns. The columns that never change override the JSON,
// which an update may have written with other values.
func scanRun(r row) (ccci.Run, error) {
	var run, fixed ccci.Run
	var created int64
	var data string
	if err := r.Scan(&fixed.ID, &fixed.Key, &fixed.Recipe, &fixed.PR.Repo.Owner, &fixed.PR.Repo.Name,
		&fixed.PR.Number, &fixed.Commit, &created, &fixed.Status, &data); err != nil {
		return ccci.Run{}, err
	}
	if err := json.Unmarshal([]byte(data), &run); err != nil {
		return ccci.Run{}, fmt.Errorf("reading run %s: %w", fixed.ID, err)
	}
	run.ID, run.Key, run.Recipe, run.PR, run.Commit = fixed.ID, fixed.Key, fixed.Recipe, fixed.PR, fixed.Commit
	run.Status, run.Created = fixed.Status, moment(created)
	return run, nil
}

func (s *Store) queryRuns(ctx context.Context, query string, args ...any) ([]ccci.Run, error) {
	rows, err := s.db.Read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.db.Explain(fmt.Errorf("listing runs: %w", err))
	}
	defer rows.Close()
	var runs []ccci.Run
	for rows.Next() {
		run, err := scanRun(rows)
		if err != nil {
			return nil, s.db.Explain(fmt.Errorf("listing runs: %w", err))
		}
		runs = append(runs, run)
	}
	if err := rows.Err(); err != nil {
		return nil, s.db.Explain(fmt.Errorf("listing runs: %w", err))
	}
	return runs, nil
}

// ClaimRun implements [ccci.Store].
func (s *Store) ClaimRun(ctx context.Context, run ccci.Run) (ccci.Run, bool, error) {
	if run.ID == "" || run.Key == "" {
		return ccci.Run{}, false, ccci.Errorf(ccci.CodeInvalid, "claiming a run: it has no id or no key")
	}
	data, err := encodeRun(run)
	if err != nil {
		return ccci.Run{}, false, err
	}
	var held ccci.Run
	var created bool
	err = s.db.Tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO runs (`+runColumns+`)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			run.ID, run.Key, run.Recipe, run.PR.Repo.Owner, run.PR.Repo.Name, run.PR.Number,
			run.Commit, nanos(run.Created), run.Status, data)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		created = n == 1
		held, err = scanRun(tx.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE run_key = ?`, run.Key))
		if errors.Is(err, sql.ErrNoRows) { // not inserted, and not by its key
			return ccci.Errorf(ccci.CodeConflict, "another wish has the run id %s", run.ID).
				WithHint("claim again with a new id")
		}
		if err != nil || !created {
			return err
		}
		return keepVerdicts(ctx, tx, held)
	})
	if err != nil {
		return ccci.Run{}, false, fmt.Errorf("claiming run %s: %w", run.ID, err)
	}
	return held, created, nil
}

// UpdateRun implements [ccci.Store]. The move of the status is decided by the
// database, in the statement that makes it.
func (s *Store) UpdateRun(ctx context.Context, run ccci.Run) error {
	data, err := encodeRun(run)
	if err != nil {
		return err
	}
	args := []any{run.Status, run.CancelledBy, data, data, run.ID}
	from := make([]string, 0, len(ccci.Statuses))
	for _, old := range ccci.Statuses {
		if old.CanBecome(run.Status) {
			from = append(from, "?")
			args = append(args, old)
		}
	}
	moved := false
	err = s.db.Tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE runs SET status = ?, data = CASE
				WHEN ? = '' AND json_extract(data, '$.cancelledBy') <> '' THEN json_set(?, '$.cancelledBy', json_extract(data, '$.cancelledBy'))
				ELSE ? END
			WHERE id = ? AND status IN (`+strings.Join(from, ", ")+`)`, args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if moved = n == 1; err != nil || !moved || !run.Status.Terminal() {
			return err
		}
		stored, err := scanRun(tx.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE id = ?`, run.ID))
		if err != nil {
			return err
		}
		return keepVerdicts(ctx, tx, stored)
	})
	if err != nil {
		return fmt.Errorf("updating run %s: %w", run.ID, err)
	}
	if moved {
		return nil
	}
	held, err := s.FindRun(ctx, run.ID)
	if err != nil {
		return err
	}
	return ccci.Errorf(ccci.CodeConflict, "updating run %s: it is %s and cannot become %s", run.ID, held.Status, run.Status)
}

// CancelRun implements [ccci.Store].
func (s *Store) CancelRun(ctx context.Context, id ccci.RunID, by string) (run ccci.Run, err error) {
	err = s.db.Tx(ctx, func(tx *sql.Tx) error {
		if run, err = scanRun(tx.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE id = ?`, id)); err != nil {
			return err
		}
		if run.Status.Terminal() || run.CancelledBy != "" {
			return nil
		}
		run.CancelledBy = by
		data, err := encodeRun(run)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE runs SET data = ? WHERE id = ?`, data, id)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return ccci.Run{}, unknownRun(id)
	}
	if err != nil {
		return ccci.Run{}, fmt.Errorf("cancelling run %s: %w", id, err)
	}
	return run, nil
}

func unknownRun(id ccci.RunID) error {
	return &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("there is no run %s", id), Err: ccci.ErrNotFound}
}

// FindRun implements [ccci.Store].
func (s *Store) FindRun(ctx context.Context, id ccci.RunID) (ccci.Run, error) {
	run, err := scanRun(s.db.Read.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return ccci.Run{}, unknownRun(id)
	}
	if err != nil {
		return ccci.Run{}, s.db.Explain(fmt.Errorf("reading run %s: %w", id, err))
	}
	return run, nil
}

// FindRuns implements [ccci.Store].
func (s *Store) FindRuns(ctx context.Context, f ccci.RunFilter) ([]ccci.Run, error) {
	var where []string
	var args []any
	restrict := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	if f.Recipe != "" {
		restrict("recipe = ?", f.Recipe)
	}
	if !f.PR.Repo.IsZero() {
		restrict("pr_owner = ? AND pr_name = ?", f.PR.Repo.Owner, f.PR.Repo.Name)
	}
	if f.PR.Number != 0 {
		restrict("pr_number = ?", f.PR.Number)
	}
	if len(f.Statuses) > 0 {
		var values []any
		for _, status := range f.Statuses {
			values = append(values, status)
		}
		restrict("status IN (?"+strings.Repeat(", ?", len(values)-1)+")", values...)
	}
	if f.Unfinished {
		restrict("status IN (?, ?)", ccci.StatusQueued, ccci.StatusRunning)
	}
	if f.Before != "" {
		restrict("id < ?", f.Before)
	}
	query := "SELECT " + runColumns + " FROM runs"
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	return s.queryRuns(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, limit)...)
}

// Where the newest run of a recipe speaks for the subject, both subqueries below name that run,
// and it comes once. This is the port's rule.
const (
	latestOf = `SELECT ` + runColumns + ` FROM runs WHERE id IN (
			(SELECT max(id) FROM runs WHERE recipe = ?),
			(SELECT run_id FROM verdicts WHERE recipe = ? AND subject = ? ORDER BY answers DESC, since DESC, run_id DESC LIMIT 1)
		) ORDER BY id DESC`

	// It hops from recipe to recipe in the index, so that its cost depends on the
	// number of recipes, not of runs.
	latestPerRecipe = `WITH RECURSIVE names (recipe) AS (
			SELECT min(recipe) FROM runs
			UNION ALL
			SELECT (SELECT min(recipe) FROM runs WHERE recipe > names.recipe) FROM names WHERE names.recipe IS NOT NULL
		)
		SELECT ` + runColumns + ` FROM runs WHERE id IN (
			SELECT (SELECT max(id) FROM runs WHERE runs.recipe = names.recipe) FROM names WHERE names.recipe IS NOT NULL
			UNION
			SELECT (SELECT run_id FROM verdicts WHERE verdicts.recipe = names.recipe AND subject = ? ORDER BY answers DESC, since DESC, run_id DESC LIMIT 1)
				FROM names WHERE names.recipe IS NOT NULL
		) ORDER BY recipe, id DESC`
)

// LatestPerRecipe implements [ccci.Store].
func (s *Store) LatestPerRecipe(ctx context.Context) ([]ccci.Run, error) {
	return s.queryRuns(ctx, latestPerRecipe, ccci.SubjectRecipe)
}

// LatestOf implements [ccci.Store].
func (s *Store) LatestOf(ctx context.Context, recipe string, about ccci.Subject) ([]ccci.Run, error) {
	return s.queryRuns(ctx, latestOf, recipe, recipe, about)
}
