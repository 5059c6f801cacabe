package localforge

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const pullColumns = `p.owner, p.name, p.number, p.title, p.author_id, u.name, p.branch, p.base, p.is_open, p.last_head`

const pullTables = `pulls p JOIN users u ON u.id = p.author_id`

func scanPull(r interface{ Scan(...any) error }) (ccci.PullRequest, error) {
	var p ccci.PullRequest
	err := r.Scan(&p.Ref.Repo.Owner, &p.Ref.Repo.Name, &p.Ref.Number, &p.Title, &p.Author.ID, &p.Author.Name,
		&p.Branch, &p.Base, &p.Open, &p.Head)
	return p, err
}

// OpenPullRequest opens a pull request from branch into base, both of repo. The
// author's account is made where there is none. Both branches must exist, and
// no other open pull request may have the branch.
func (f *Forge) OpenPullRequest(ctx context.Context, repo ccci.RepoRef, title, branch, base, author string) (ccci.PullRequest, error) {
	if title == "" || branch == base {
		return ccci.PullRequest{}, ccci.Errorf(ccci.CodeInvalid, "opening a pull request on %s: it needs a title and two different branches", repo)
	}
	var pr ccci.PRRef
	err := f.db.Tx(ctx, func(tx *sql.Tx) error {
		if err := knows(ctx, tx, repo); err != nil {
			return err
		}
		var head ccci.Commit
		for _, name := range []string{base, branch} {
			var err error
			if head, err = f.git.head(ctx, f.path(repo), name); err != nil {
				return err
			}
			if head == "" {
				return f.noBranch(ctx, repo, name)
			}
		}
		var other int
		err := tx.QueryRowContext(ctx, `SELECT number FROM pulls WHERE owner = ? AND name = ? AND branch = ? AND is_open = 1`,
			repo.Owner, repo.Name, branch).Scan(&other)
		if err == nil {
			return ccci.Errorf(ccci.CodeConflict, "the branch %s of %s has the open pull request %d already", branch, repo, other)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		user, err := ensureUser(ctx, tx, author)
		if err != nil {
			return err
		}
		pr.Repo = repo
		return tx.QueryRowContext(ctx, `INSERT INTO pulls (owner, name, number, title, author_id, branch, base, is_open, last_head, created)
			SELECT ?, ?, coalesce(max(number), 0) + 1, ?, ?, ?, ?, 1, ?, ? FROM pulls WHERE owner = ? AND name = ? RETURNING number`,
			repo.Owner, repo.Name, title, user.ID, branch, base, head, f.opts.Now().UnixNano(), repo.Owner, repo.Name).Scan(&pr.Number)
	})
	if err != nil {
		return ccci.PullRequest{}, err
	}
	return f.PullRequest(ctx, pr)
}

// noBranch names the branches that there are beside the one that is not.
func (f *Forge) noBranch(ctx context.Context, repo ccci.RepoRef, name string) error {
	const shown = 10
	out, err := f.git.run(ctx, f.path(repo), "for-each-ref", fmt.Sprintf("--count=%d", shown+1), "--format=%(refname:short)", "refs/heads/")
	if err != nil {
		return err
	}
	branches := strings.Fields(out)
	has := "none"
	if len(branches) > shown {
		branches[shown] = "…"
	}
	if len(branches) > 0 {
		has = strings.Join(branches, ", ")
	}
	return ccci.Errorf(ccci.CodeNotFound, "opening a pull request on %s: it has no branch %q", repo, name).
		WithHint("its branches: %s; push a new one to %s", has, f.path(repo))
}

// ClosePullRequest closes a pull request. Legal twice.
func (f *Forge) ClosePullRequest(ctx context.Context, pr ccci.PRRef) error {
	return f.db.Tx(ctx, func(tx *sql.Tx) error {
		p, err := f.pull(ctx, tx, pr) // its head is kept: the branch is often deleted next
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE pulls SET is_open = 0, last_head = ? WHERE owner = ? AND name = ? AND number = ?`,
			p.Head, pr.Repo.Owner, pr.Repo.Name, pr.Number)
		return err
	})
}

// PullRequest implements [ccci.Forge]. Where the branch is gone, Head is the last
// one that was seen.
func (f *Forge) PullRequest(ctx context.Context, pr ccci.PRRef) (ccci.PullRequest, error) {
	p, err := f.pull(ctx, f.db.Read, pr)
	if err != nil {
		return ccci.PullRequest{}, f.db.Explain(err)
	}
	return p, nil
}

func (f *Forge) pull(ctx context.Context, q querier, pr ccci.PRRef) (ccci.PullRequest, error) {
	p, err := scanPull(q.QueryRowContext(ctx, `SELECT `+pullColumns+` FROM `+pullTables+`
		WHERE p.owner = ? AND p.name = ? AND p.number = ?`, pr.Repo.Owner, pr.Repo.Name, pr.Number))
	if errors.Is(err, sql.ErrNoRows) {
		return ccci.PullRequest{}, notFound("pull request", pr)
	}
	if err != nil {
		return ccci.PullRequest{}, fmt.Errorf("reading the pull request %s: %w", pr, err)
	}
	return f.complete(ctx, p)
}

// complete adds what is not in the database.
func (f *Forge) complete(ctx context.Context, p ccci.PullRequest) (ccci.PullRequest, error) {
	p.CloneURL = f.path(p.Ref.Repo)
	if f.opts.PullURL != nil {
		p.URL = f.opts.PullURL(p.Ref)
	}
	head, err := f.git.head(ctx, p.CloneURL, p.Branch)
	if err != nil {
		return ccci.PullRequest{}, err
	}
	if head != "" {
		p.Head = head
	}
	return p, nil
}

// PullRequests returns a repository's pull requests, open and closed, newest first.
func (f *Forge) PullRequests(ctx context.Context, repo ccci.RepoRef) ([]ccci.PullRequest, error) {
	pulls, err := f.pullRequests(ctx, repo)
	if err != nil {
		return nil, f.db.Explain(fmt.Errorf("listing the pull requests of %s: %w", repo, err))
	}
	return pulls, nil
}

func (f *Forge) pullRequests(ctx context.Context, repo ccci.RepoRef) ([]ccci.PullRequest, error) {
	if err := knows(ctx, f.db.Read, repo); err != nil {
		return nil, err
	}
	pulls, err := collect(ctx, f.db.Read, func(r *sql.Rows) (ccci.PullRequest, error) { return scanPull(r) },
		`SELECT `+pullColumns+` FROM `+pullTables+` WHERE p.owner = ? AND p.name = ? ORDER BY p.number DESC`, repo.Owner, repo.Name)
	if err != nil {
		return nil, err
	}
	for i := range pulls {
		if pulls[i], err = f.complete(ctx, pulls[i]); err != nil {
			return nil, err
		}
	}
	return pulls, nil
}

// SetStatus implements [ccci.Forge]. It is as strict as real forges are.
func (f *Forge) SetStatus(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit, status ccci.CommitStatus) error {
	switch status.State {
	case ccci.StatePending, ccci.StateSuccess, ccci.StateFailure, ccci.StateError:
	default:
		return ccci.Errorf(ccci.CodeInvalid, "setting a status of %s: %q is not a state", commit.Short(), status.State)
	}
	if n := len([]rune(status.Description)); n > 140 || status.Context == "" {
		return ccci.Errorf(ccci.CodeInvalid, "setting a status of %s: it needs a context, and a description of at most 140 characters (it has %d)", commit.Short(), n)
	}
	if err := knows(ctx, f.db.Read, repo); err != nil {
		return f.db.Explain(err)
	}
	if ok, err := f.git.has(ctx, f.path(repo), commit); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "setting a status of %s: %w", commit.Short(), err)
	} else if !ok {
		return notFound("commit", fmt.Sprintf("%q in %s", commit, repo))
	}
	_, err := f.db.Write.ExecContext(ctx, `INSERT INTO statuses (owner, name, commit_id, context, state, description, url)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (owner, name, commit_id, context)
		DO UPDATE SET state = excluded.state, description = excluded.description, url = excluded.url`,
		repo.Owner, repo.Name, commit, status.Context, status.State, status.Description, status.URL)
	if err != nil {
		return f.db.Explain(fmt.Errorf("setting a status of %s: %w", commit.Short(), err))
	}
	return nil
}

// Statuses returns a commit's statuses, ordered by context.
func (f *Forge) Statuses(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit) ([]ccci.CommitStatus, error) {
	statuses, err := collect(ctx, f.db.Read, func(r *sql.Rows) (s ccci.CommitStatus, err error) {
		return s, r.Scan(&s.Context, &s.State, &s.Description, &s.URL)
	}, `SELECT context, state, description, url FROM statuses WHERE owner = ? AND name = ? AND commit_id = ? ORDER BY context`,
		repo.Owner, repo.Name, commit)
	if err != nil {
		return nil, f.db.Explain(fmt.Errorf("listing the statuses of %s: %w", commit.Short(), err))
	}
	return statuses, nil
}
