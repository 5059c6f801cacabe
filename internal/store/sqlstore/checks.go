package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// KeepChecks implements [ccci.Store].
func (s *Store) KeepChecks(ctx context.Context, id ccci.RunID, checks []ccci.CheckOutcome) error {
	err := s.db.Tx(ctx, func(tx *sql.Tx) error {
		var known int
		err := tx.QueryRowContext(ctx, `SELECT 1 FROM runs WHERE id = ?`, id).Scan(&known)
		if errors.Is(err, sql.ErrNoRows) {
			return unknownRun(id)
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM checks WHERE run_id = ?`, id); err != nil {
			return err
		}
		for i, c := range checks {
			if _, err := tx.ExecContext(ctx, `INSERT INTO checks (run_id, position, name, status, duration) VALUES (?, ?, ?, ?, ?)`,
				id, i, c.Name, c.Status, int64(c.Duration)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping the checks of run %s: %w", id, err)
	}
	return nil
}

// Both read as many runs as are asked for, however long the history is.
const (
	historyOfCommit = `SELECT ` + runColumns + `, created FROM runs
		WHERE recipe = ? AND commit_id = ? AND EXISTS (SELECT 1 FROM checks WHERE run_id = id)
		ORDER BY id DESC LIMIT ?`

	historyOfSubject = `SELECT ` + runColumns + `, since FROM runs JOIN
			(SELECT run_id, since FROM verdicts WHERE recipe = ? AND subject = ? ORDER BY since DESC, run_id DESC LIMIT ?)
		ON run_id = id ORDER BY since DESC, run_id DESC`
)

// CheckHistory implements [ccci.Store].
func (s *Store) CheckHistory(ctx context.Context, f ccci.CheckFilter) ([]ccci.Observation, error) {
	query, of := historyOfCommit, string(f.Commit)
	if f.About != "" {
		query, of = historyOfSubject, string(f.About)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	all, err := s.observations(ctx, query, f.Recipe, of, limit)
	if err == nil {
		err = s.addChecks(ctx, all)
	}
	if err != nil {
		return nil, s.db.Explain(fmt.Errorf("reading the history of the checks of %s: %w", f.Recipe, err))
	}
	return all, nil
}

func (s *Store) observations(ctx context.Context, query string, args ...any) ([]ccci.Observation, error) {
	rows, err := s.db.Read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []ccci.Observation
	for rows.Next() {
		var at int64
		run, err := scanRun(withMore{rows, []any{&at}})
		if err != nil {
			return nil, err
		}
		all = append(all, ccci.Observation{Run: run, At: moment(at)})
	}
	return all, rows.Err()
}

// withMore scans columns that follow those that its caller knows.
type withMore struct {
	row
	more []any
}

func (r withMore) Scan(dest ...any) error { return r.row.Scan(append(dest, r.more...)...) }

// addChecks reads the checks of all observations.
func (s *Store) addChecks(ctx context.Context, all []ccci.Observation) error {
	if len(all) == 0 {
		return nil
	}
	at := map[ccci.RunID]int{}
	ids := make([]any, len(all))
	for i, o := range all {
		at[o.Run.ID], ids[i] = i, o.Run.ID
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT run_id, name, status, duration FROM checks
		WHERE run_id IN (?`+strings.Repeat(", ?", len(ids)-1)+`) ORDER BY run_id, position`, ids...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id ccci.RunID
		var c ccci.CheckOutcome
		if err := rows.Scan(&id, &c.Name, &c.Status, &c.Duration); err != nil {
			return err
		}
		o := &all[at[id]]
		o.Checks = append(o.Checks, c)
	}
	return rows.Err()
}
