// Package sqlstore keeps runs, cursors and the outbox in one SQLite file. It is
// the embedded profile's [ccci.Store]; several processes may share the file.
package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store implements [ccci.Store].
type Store struct {
	db  *sqlitefile.DB
	now func() time.Time // only for a message that came without a time
}

var _ ccci.Store = (*Store)(nil)

// Open opens the store in the file at path, and creates or migrates it where
// needed. A file that is no database, is damaged or is held by another
// program is an [ccci.Error] with a hint.
func Open(ctx context.Context, path string) (*Store, error) {
	return open(ctx, path, sqlitefile.Options{})
}

// OpenReader opens the store that another process keeps in the file at path, and writes
// nothing: methods that would are an [ccci.Error]. So is a file that is not there
// yet, or of another version, with a hint.
func OpenReader(ctx context.Context, path string) (*Store, error) {
	return open(ctx, path, sqlitefile.Options{ReadOnly: true})
}

func open(ctx context.Context, path string, opts sqlitefile.Options) (*Store, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("reading the store's migrations: %w", err)
	}
	opts.Migrations = sub
	db, err := sqlitefile.Open(ctx, path, opts)
	if err != nil {
		return nil, err
	}
	return &Store{db: db, now: time.Now}, nil
}

// Close closes the file. What a method has returned from is on disk already.
func (s *Store) Close() error { return s.db.Close() }

// nanos and moment convert times to and from the database; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
