// Package localforge is a forge in a directory: bare git repositories, pull
// requests, comments and members, for people without a Gitea or GitHub. It is the
// embedded profile's [ccci.Forge].
//
//	DIR/git/<owner>/<name>.git   bare repositories; push to them with git
//	DIR/forge.db                 everything else, in SQLite
//
// Several processes may use one directory at the same time.
package localforge

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Name is what run keys of this forge begin with.
const Name = "local"

// Options of [Open].
type Options struct {
	Dir  string // made when absent
	Self string // name of the account that cc-ci acts as; "" stands for "cc-ci"

	// PullURL says where a person looks at a pull request; nil: nowhere.
	PullURL func(ccci.PRRef) string
	// OnComment, when set, is called after a person's comment was added by this process.
	OnComment func(repo ccci.RepoRef)

	Now func() time.Time // nil: time.Now
}

// Forge implements [ccci.Forge].
type Forge struct {
	opts Options
	db   *sqlitefile.DB
	git  git
	self ccci.User
}

var _ ccci.Forge = (*Forge)(nil)

// Open opens the forge in Options.Dir, and makes it where there is none. Without
// git on PATH, or with a damaged database, it is an [ccci.Error] with a hint.
func Open(ctx context.Context, opts Options) (*Forge, error) {
	if opts.Dir == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "opening the local forge: it needs a directory")
	}
	if opts.Self == "" {
		opts.Self = "cc-ci"
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the local forge in %s: %w", opts.Dir, err)
	}
	opts.Dir = dir
	f := &Forge{opts: opts}
	if err := gitcmd.Installed(); err != nil {
		return nil, fmt.Errorf("opening the local forge: %w", err)
	}
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("reading the forge's migrations: %w", err)
	}
	if f.db, err = sqlitefile.Open(ctx, filepath.Join(dir, "forge.db"), sqlitefile.Options{Migrations: sub}); err != nil {
		return nil, err
	}
	if f.self, err = f.User(ctx, opts.Self); err != nil {
		f.db.Close()
		return nil, err
	}
	return f, nil
}

// Close closes the database. What a method has returned from is on disk already.
func (f *Forge) Close() error { return f.db.Close() }

// Name implements [ccci.Forge].
func (f *Forge) Name() string { return Name }

// Self implements [ccci.Forge].
func (f *Forge) Self(context.Context) (ccci.User, error) { return f.self, nil }

// validName is what owners, repositories, organisations and users may be called:
// safe as a folder and as a part of a URL.
var validName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

func checkName(kind, name string) error {
	if !validName.MatchString(name) || strings.Contains(name, "..") ||
		strings.HasSuffix(name, ".git") || strings.HasSuffix(name, ".lock") {
		return ccci.Errorf(ccci.CodeInvalid, "%q cannot be the name of %s", name, kind).
			WithHint("use letters, digits and ._-, and begin with a letter, a digit or _")
	}
	return nil
}

// User returns the account of that name, and makes it where there is none. An
// account alone may do nothing; see [Forge.AddMember].
func (f *Forge) User(ctx context.Context, name string) (ccci.User, error) {
	var user ccci.User
	err := f.db.Tx(ctx, func(tx *sql.Tx) (err error) {
		user, err = ensureUser(ctx, tx, name)
		return err
	})
	return user, err
}

func ensureUser(ctx context.Context, tx *sql.Tx, name string) (ccci.User, error) {
	if err := checkName("a user", name); err != nil {
		return ccci.User{}, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO users (name) VALUES (?) ON CONFLICT (name) DO NOTHING`, name); err != nil {
		return ccci.User{}, fmt.Errorf("making the user %s: %w", name, err)
	}
	var id int64
	if err := tx.QueryRowContext(ctx, `SELECT id FROM users WHERE name = ?`, name).Scan(&id); err != nil {
		return ccci.User{}, fmt.Errorf("reading the user %s: %w", name, err)
	}
	return ccci.User{ID: strconv.FormatInt(id, 10), Name: name}, nil
}

// AddMember makes user a member of org. Legal twice.
func (f *Forge) AddMember(ctx context.Context, org, user string) error {
	if err := checkName("an organisation", org); err != nil {
		return err
	}
	return f.db.Tx(ctx, func(tx *sql.Tx) error {
		u, err := ensureUser(ctx, tx, user)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO members (org, user_id) VALUES (?, ?) ON CONFLICT DO NOTHING`, org, u.ID)
		if err != nil {
			return fmt.Errorf("adding %s to %s: %w", user, org, err)
		}
		return nil
	})
}

// RemoveMember ends a membership. Legal when there is none.
func (f *Forge) RemoveMember(ctx context.Context, org, user string) error {
	_, err := f.db.Write.ExecContext(ctx, `DELETE FROM members WHERE org = ? AND user_id IN (SELECT id FROM users WHERE name = ?)`, org, user)
	if err != nil {
		return f.db.Explain(fmt.Errorf("removing %s from %s: %w", user, org, err))
	}
	return nil
}

// Member implements [ccci.Forge].
func (f *Forge) Member(ctx context.Context, org string, user ccci.User) (bool, error) {
	var n int
	err := f.db.Read.QueryRowContext(ctx, `SELECT count(*) FROM members WHERE org = ? AND user_id = ?`, org, rowID(user.ID)).Scan(&n)
	if err != nil {
		return false, f.db.Explain(fmt.Errorf("looking for %s in %s: %w", user.Name, org, err))
	}
	return n == 1, nil
}

// CreateRepo makes an empty repository with the default branch main, and returns
// the path to push to and clone from. One that exists is CodeConflict.
func (f *Forge) CreateRepo(ctx context.Context, repo ccci.RepoRef) (path string, err error) {
	return f.create(ctx, repo, func(string) error { return nil })
}

// ImportRepo makes a repository with all branches and tags of the git repository
// in dir; its current branch becomes the default one.
func (f *Forge) ImportRepo(ctx context.Context, repo ccci.RepoRef, dir string) (path string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("importing %s: %w", repo, err)
	}
	if _, err := f.git.run(ctx, dir, "rev-parse", "--git-dir"); err != nil {
		return "", ccci.Errorf(ccci.CodeInvalid, "importing %s: %s is not a git repository: %w", repo, dir, err).
			WithHint("name a folder that holds a checkout or a bare repository")
	}
	return f.create(ctx, repo, func(path string) error {
		if _, err := f.git.run(ctx, path, "fetch", "--quiet", "--no-write-fetch-head", "--", dir,
			"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "importing %s from %s: %w", repo, dir, err)
		}
		head, err := f.git.run(ctx, dir, "symbolic-ref", "--quiet", "HEAD")
		if err != nil { // a checkout of no branch: main stays the default
			return nil
		}
		if _, err := f.git.run(ctx, path, "symbolic-ref", "HEAD", head); err != nil {
			return fmt.Errorf("importing %s: setting its default branch: %w", repo, err)
		}
		return nil
	})
}

// create makes a repository that is filled before anybody can see it.
func (f *Forge) create(ctx context.Context, repo ccci.RepoRef, fill func(path string) error) (string, error) {
	if err := errors.Join(checkName("an owner", repo.Owner), checkName("a repository", repo.Name)); err != nil {
		return "", err
	}
	path := f.path(repo)
	err := f.db.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO repos (owner, name, created) VALUES (?, ?, ?)`,
			repo.Owner, repo.Name, f.opts.Now().UnixNano())
		if sqlitefile.IsUnique(err) {
			return ccci.Errorf(ccci.CodeConflict, "the repository %s exists already", repo)
		}
		if err != nil {
			return fmt.Errorf("making the repository %s: %w", repo, err)
		}
		// The write lock is held, so an unfinished one was left by a crash.
		unfinished := filepath.Join(filepath.Dir(path), ".new-"+repo.Name)
		if err := os.RemoveAll(unfinished); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "making the repository %s: %w", repo, err)
		}
		if err := f.git.init(ctx, unfinished); err != nil {
			return err
		}
		if err := fill(unfinished); err != nil {
			os.RemoveAll(unfinished)
			return err
		}
		if err := os.Rename(unfinished, path); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "making the repository %s: %w", repo, err).
				WithHint("%s is there already, and not known to this forge; move it away and import it", path)
		}
		return nil
	})
	return path, err
}

// Repos returns all repositories, ordered by name.
func (f *Forge) Repos(ctx context.Context) ([]ccci.RepoRef, error) {
	repos, err := collect(ctx, f.db.Read, func(r *sql.Rows) (repo ccci.RepoRef, err error) {
		return repo, r.Scan(&repo.Owner, &repo.Name)
	}, `SELECT owner, name FROM repos ORDER BY owner, name`)
	if err != nil {
		return nil, f.db.Explain(fmt.Errorf("listing repositories: %w", err))
	}
	return repos, nil
}

// path is where a repository is. Its names were checked when it was made.
func (f *Forge) path(repo ccci.RepoRef) string {
	return filepath.Join(f.opts.Dir, "git", repo.Owner, repo.Name+".git")
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// knows is ErrNotFound where there is no such repository.
func knows(ctx context.Context, q querier, repo ccci.RepoRef) error {
	var one int
	err := q.QueryRowContext(ctx, `SELECT 1 FROM repos WHERE owner = ? AND name = ?`, repo.Owner, repo.Name).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return notFound("repository", repo)
	}
	return err
}

func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// rowID reads an id that this forge gave out; -1, which no row has, for any other text.
func rowID(id string) int64 {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != id {
		return -1
	}
	return n
}

func notFound(kind string, name any) error {
	return &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("the local forge has no %s %v", kind, name), Err: ccci.ErrNotFound}
}
