// Package sqlitefile opens SQLite files the way every embedded adapter needs
// them: durable, usable by several processes at once, migrated, and with errors
// that say what is wrong with the file and what to do about it.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// DB is one open file. Readers see the last committed state and never wait for
// a writer; writers wait for one another, also across processes.
type DB struct {
	Read  *sql.DB // refuses to write
	Write *sql.DB // one connection: writers of this process queue here, fairly; with ReadOnly it is Read

	path string
}

// Options of [Open].
type Options struct {
	// Migrations holds goose migrations (*.sql) at its top level.
	Migrations fs.FS
	// Busy is how long a statement waits for another process that holds the
	// file; 0 stands for ten seconds.
	Busy time.Duration
	// ReadOnly opens what another process has made, and writes nothing to it. A file that
	// is not there, or whose migrations were not made yet, is an [ccci.Error] with a hint.
	ReadOnly bool
}

// Open opens the file at path, creating it and its directory where absent, and
// applies the migrations that it lacks. Opening the same new file from several
// processes at once is safe. A file that is no database, is damaged, is held by
// another program or was written by a newer version is an [ccci.Error] with a hint.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	if opts.Busy == 0 {
		opts.Busy = 10 * time.Second
	}
	if opts.ReadOnly {
		return openReadOnly(ctx, path, opts)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the directory of the database %s: %w", path, err).
			WithHint("choose a directory that this user may write to")
	}
	// SQLite cannot switch a new file to WAL, nor goose migrate it, from two
	// processes at once; this lock makes them take turns.
	lock := flock.New(path + ".open")
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "waiting for another process that opens the database %s: %w", path, err)
	}
	defer lock.Unlock()

	db := &DB{path: path}
	shared := sharedPragmas(opts)
	// synchronous(FULL): what was committed survives a power cut, also in WAL mode.
	// journal_size_limit: the log, which stays when the file is closed, is empty then.
	if db.Write, err = sql.Open("sqlite", dsn(path, append(shared, "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)"), nil)); err != nil {
		return nil, db.Explain(fmt.Errorf("opening the database %s: %w", path, err))
	}
	db.Write.SetMaxOpenConns(1)
	if err := db.migrate(ctx, opts.Migrations); err != nil {
		db.Write.Close()
		return nil, err
	}
	if err := db.keepWAL(ctx); err != nil {
		db.Write.Close()
		return nil, err
	}
	if err := db.openReaders(append(shared, "query_only(1)"), nil); err != nil {
		db.Write.Close()
		return nil, err
	}
	return db, nil
}

// keepWAL lets the files beside the database stay when it is closed. Readers that may not
// write to the folder cannot make them, and could not open the database until its next writer
// is there. Close closes this connection last.
func (db *DB) keepWAL(ctx context.Context) error {
	conn, err := db.Write.Conn(ctx)
	if err != nil {
		return db.Explain(fmt.Errorf("opening the database %s: %w", db.path, err))
	}
	defer conn.Close()
	err = conn.Raw(func(driver any) error {
		control, ok := driver.(sqlite.FileControl)
		if !ok {
			return errors.New("the driver cannot keep the write-ahead log")
		}
		_, err := control.FileControlPersistWAL("main", 1)
		return err
	})
	if err != nil {
		return fmt.Errorf("opening the database %s: %w", db.path, err)
	}
	return nil
}

func sharedPragmas(opts Options) []string {
	return []string{fmt.Sprintf("busy_timeout(%d)", opts.Busy.Milliseconds()), "foreign_keys(1)"}
}

func (db *DB) openReaders(pragmas []string, more url.Values) (err error) {
	if db.Read, err = sql.Open("sqlite", dsn(db.path, pragmas, more)); err != nil {
		return db.Explain(fmt.Errorf("opening the database %s: %w", db.path, err))
	}
	db.Read.SetMaxOpenConns(8)
	db.Read.SetMaxIdleConns(8)
	return nil
}

// openReadOnly opens the file for reading alone. SQLite's readers of a file in WAL
// mode take part in its shared memory, so its folder must be writable for them
// unless the writer has it open.
func openReadOnly(ctx context.Context, path string, opts Options) (*DB, error) {
	notYet := func(what string, args ...any) error {
		return ccci.Errorf(ccci.CodeInfra, "opening the database %s: "+what, append([]any{path}, args...)...).
			WithHint("start the process that writes it first, in this version: cc-ci bridge")
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, notYet("it is not there yet")
	}
	db := &DB{path: path}
	if err := db.openReaders(append(sharedPragmas(opts), "query_only(1)"), url.Values{"mode": {"ro"}}); err != nil {
		return nil, err
	}
	have, newest, err := db.versions(ctx, opts.Migrations)
	switch {
	case err != nil:
		err = fmt.Errorf("reading the schema version of %s: %w", path, err)
	case have < newest:
		err = notYet("its schema is version %d, and this program reads %d", have, newest)
	case have > newest:
		err = db.tooNew(have, newest)
	default:
		db.Write = db.Read // where writing is refused by SQLite
		return db, nil
	}
	db.Read.Close()
	return nil, db.Explain(err)
}

// versions returns the schema's version and the newest migration's, without
// making goose's own table as goose does.
func (db *DB) versions(ctx context.Context, migrations fs.FS) (have, newest int64, err error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return 0, 0, err
		}
		newest = max(newest, version)
	}
	var tables int
	if err := db.Read.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = ?`, goose.DefaultTablename).Scan(&tables); err != nil || tables == 0 {
		return 0, newest, err
	}
	err = db.Read.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+goose.DefaultTablename+` WHERE is_applied`).Scan(&have)
	return have, newest, err
}

func (db *DB) tooNew(have, newest int64) error {
	return ccci.Errorf(ccci.CodeInfra, "opening the database %s: its schema is version %d, this program knows up to %d", db.path, have, newest).
		WithHint("it was written by a newer cc-ci; start that one, or restore the copy from before the update")
}

func dsn(path string, pragmas []string, more url.Values) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": pragmas}
	maps.Copy(q, more)
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

func (db *DB) migrate(ctx context.Context, migrations fs.FS) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, db.Write, migrations,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("reading the migrations of %s: %w", db.path, err)
	}
	have, newest, err := provider.GetVersions(ctx)
	if err != nil {
		return db.Explain(fmt.Errorf("reading the schema version of %s: %w", db.path, err))
	}
	if have > newest {
		return db.tooNew(have, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return db.Explain(fmt.Errorf("migrating the database %s: %w", db.path, err))
	}
	return nil
}

// Close closes the file. What was committed is on disk already.
func (db *DB) Close() error {
	return errors.Join(db.Read.Close(), db.Write.Close())
}

// Tx runs fn in a write transaction, which begins by taking the write lock, so
// that what fn reads cannot change before it commits. Any error rolls back.
func (db *DB) Tx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		return db.Explain(err)
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return db.Explain(err)
	}
	return db.Explain(tx.Commit())
}

// Explain turns SQLite's errors about the file itself into an [ccci.Error] with a
// hint. Other errors, and nil, are returned as they are.
func (db *DB) Explain(err error) error {
	var classified *ccci.Error
	var se *sqlite.Error
	if !errors.As(err, &se) || errors.As(err, &classified) {
		return err
	}
	var what, hint string
	switch se.Code() & 0xff { // the low byte is the primary result code
	case lib.SQLITE_NOTADB:
		what, hint = "is not a database", "move the file away to start over, or restore it from a backup"
	case lib.SQLITE_CORRUPT:
		what, hint = "is damaged", "stop cc-ci and restore the file from a backup, or try: sqlite3 FILE .recover"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		what, hint = "is held by another program", "see who has it open with: fuser -v "+db.path
	case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
		what, hint = "cannot be written to", "check the owner and the rights of the file and of its directory"
	case lib.SQLITE_FULL:
		what, hint = "cannot grow: the disk is full", "free space on the disk of "+filepath.Dir(db.path)+"; nothing that was stored is lost"
	case lib.SQLITE_IOERR:
		what, hint = "cannot be read or written: the disk reports an error", "look at the kernel's log"
	default:
		return err
	}
	return &ccci.Error{Code: ccci.CodeInfra, Message: fmt.Sprintf("the database %s %s", db.path, what), Hint: hint, Err: err}
}

// IsUnique reports whether err says that a unique or primary key exists already.
func IsUnique(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se) &&
		(se.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || se.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}
