package localforge

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const commentColumns = `CAST(c.id AS TEXT), c.owner, c.name, c.number, c.author_id, u.name, c.body, c.edited, c.created`

const commentTables = `comments c JOIN users u ON u.id = c.author_id`

func scanComment(r *sql.Rows) (ccci.Comment, error) {
	var c ccci.Comment
	var created int64
	err := r.Scan(&c.ID, &c.PR.Repo.Owner, &c.PR.Repo.Name, &c.PR.Number, &c.Author.ID, &c.Author.Name, &c.Body, &c.Edited, &created)
	c.Created = time.Unix(0, created).UTC()
	return c, err
}

// AddComment writes a person's comment. It records the head that the pull request's
// branch has at that moment: one transaction reads the branch and writes the
// comment, and comments are put in order by it, so HeadAt is exact. The author's
// account is made where there is none.
func (f *Forge) AddComment(ctx context.Context, pr ccci.PRRef, author, body string) (ccci.CommentID, error) {
	var id ccci.CommentID
	err := f.db.Tx(ctx, func(tx *sql.Tx) error {
		user, err := ensureUser(ctx, tx, author)
		if err != nil {
			return err
		}
		if user.ID == f.self.ID {
			return ccci.Errorf(ccci.CodeRefused, "commenting on %s: %s is the account of cc-ci itself", pr, author)
		}
		id, err = f.insertComment(ctx, tx, pr, user, body, nil)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("commenting on %s: %w", pr, err)
	}
	if f.opts.OnComment != nil {
		f.opts.OnComment(pr.Repo)
	}
	return id, nil
}

func (f *Forge) insertComment(ctx context.Context, tx *sql.Tx, pr ccci.PRRef, author ccci.User, body string, key any) (ccci.CommentID, error) {
	var branch string
	err := tx.QueryRowContext(ctx, `SELECT branch FROM pulls WHERE owner = ? AND name = ? AND number = ?`,
		pr.Repo.Owner, pr.Repo.Name, pr.Number).Scan(&branch)
	if errors.Is(err, sql.ErrNoRows) {
		return "", notFound("pull request", pr)
	}
	if err != nil {
		return "", err
	}
	head, err := f.git.head(ctx, f.path(pr.Repo), branch)
	if err != nil {
		return "", err
	}
	var id ccci.CommentID
	err = tx.QueryRowContext(ctx, `INSERT INTO comments (owner, name, number, author_id, body, edited, head, post_key, created)
		VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?) RETURNING CAST(id AS TEXT)`,
		pr.Repo.Owner, pr.Repo.Name, pr.Number, author.ID, body, head, key, f.opts.Now().UnixNano()).Scan(&id)
	if err != nil {
		return "", err
	}
	if head != "" {
		_, err = tx.ExecContext(ctx, `UPDATE pulls SET last_head = ? WHERE owner = ? AND name = ? AND number = ?`,
			head, pr.Repo.Owner, pr.Repo.Name, pr.Number)
	}
	return id, err
}

// EditUserComment replaces the body of a person's comment, which is then marked as
// edited, and so never a command.
func (f *Forge) EditUserComment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string) error {
	return f.edit(ctx, pr, id, body, false)
}

// EditComment implements [ccci.Forge]. Comments of others are refused.
func (f *Forge) EditComment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string) error {
	return f.edit(ctx, pr, id, body, true)
}

func (f *Forge) edit(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string, own bool) error {
	err := f.db.Tx(ctx, func(tx *sql.Tx) error {
		var author string
		err := tx.QueryRowContext(ctx, `SELECT author_id FROM comments WHERE id = ? AND owner = ? AND name = ? AND number = ?`,
			rowID(string(id)), pr.Repo.Owner, pr.Repo.Name, pr.Number).Scan(&author)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("comment", fmt.Sprintf("%s on %s", id, pr))
		}
		if err != nil {
			return err
		}
		if (author == f.self.ID) != own {
			return ccci.Errorf(ccci.CodeRefused, "it was written by somebody else")
		}
		_, err = tx.ExecContext(ctx, `UPDATE comments SET body = ?, edited = 1 WHERE id = ?`, body, rowID(string(id)))
		return err
	})
	if err != nil {
		return fmt.Errorf("editing comment %s on %s: %w", id, pr, err)
	}
	return nil
}

// PostComment implements [ccci.Forge]. The key stands in a column of its own.
func (f *Forge) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	if key == "" {
		return "", ccci.Errorf(ccci.CodeInvalid, "commenting on %s: the key is empty", pr)
	}
	var id ccci.CommentID
	err := f.db.Tx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT CAST(id AS TEXT) FROM comments WHERE owner = ? AND name = ? AND number = ? AND post_key = ?`,
			pr.Repo.Owner, pr.Repo.Name, pr.Number, key).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			id, err = f.insertComment(ctx, tx, pr, f.self, body, key)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("commenting on %s: %w", pr, err)
	}
	return id, nil
}

// Comments implements [ccci.Forge]. The cursor is the id of the last comment.
func (f *Forge) Comments(ctx context.Context, repo ccci.RepoRef, since ccci.Cursor) ([]ccci.Comment, ccci.Cursor, error) {
	var after int64
	if since != "" {
		var err error
		if after, err = strconv.ParseInt(string(since), 10, 64); err != nil {
			return nil, "", ccci.Errorf(ccci.CodeInvalid, "reading comments of %s: %q is not a cursor of the local forge", repo, since)
		}
	}
	if err := knows(ctx, f.db.Read, repo); err != nil {
		return nil, "", f.db.Explain(fmt.Errorf("reading comments: %w", err))
	}
	comments, err := collect(ctx, f.db.Read, scanComment, `SELECT `+commentColumns+` FROM `+commentTables+`
		WHERE c.owner = ? AND c.name = ? AND c.id > ? ORDER BY c.id`, repo.Owner, repo.Name, after)
	if err != nil {
		return nil, "", f.db.Explain(fmt.Errorf("reading comments of %s: %w", repo, err))
	}
	for i := range comments {
		comments[i].Body = ccci.ShortBody(comments[i].Body)
	}
	if len(comments) > 0 {
		since = ccci.Cursor(comments[len(comments)-1].ID)
	}
	return comments, since, nil
}

// ThreadOf returns all comments on a pull request, those of cc-ci too, oldest first.
func (f *Forge) ThreadOf(ctx context.Context, pr ccci.PRRef) ([]ccci.Comment, error) {
	if _, err := f.PullRequest(ctx, pr); err != nil {
		return nil, err
	}
	comments, err := collect(ctx, f.db.Read, scanComment, `SELECT `+commentColumns+` FROM `+commentTables+`
		WHERE c.owner = ? AND c.name = ? AND c.number = ? ORDER BY c.id`, pr.Repo.Owner, pr.Repo.Name, pr.Number)
	if err != nil {
		return nil, f.db.Explain(fmt.Errorf("reading the comments on %s: %w", pr, err))
	}
	return comments, nil
}

// HeadAt implements [ccci.Forge]. The head was recorded with the comment.
func (f *Forge) HeadAt(ctx context.Context, pr ccci.PRRef, comment ccci.Comment) (ccci.Commit, error) {
	var then ccci.Commit
	var branch string
	err := f.db.Read.QueryRowContext(ctx, `SELECT coalesce(c.head, ''), p.branch FROM pulls p
		LEFT JOIN comments c ON c.owner = p.owner AND c.name = p.name AND c.number = p.number AND c.id = ?
		WHERE p.owner = ? AND p.name = ? AND p.number = ?`,
		rowID(string(comment.ID)), pr.Repo.Owner, pr.Repo.Name, pr.Number).Scan(&then, &branch)
	if errors.Is(err, sql.ErrNoRows) {
		return "", notFound("pull request", pr)
	}
	if err != nil {
		return "", f.db.Explain(fmt.Errorf("reading the head of %s at comment %s: %w", pr, comment.ID, err))
	}
	if then == "" {
		return "", fmt.Errorf("comment %s on %s: %w", comment.ID, pr, ccci.ErrHeadUnknown)
	}
	now, err := f.git.head(ctx, f.path(pr.Repo), branch)
	if err != nil {
		return "", err
	}
	if now != then {
		return then, fmt.Errorf("%s, comment %s: %w", pr, comment.ID, ccci.ErrHeadMoved)
	}
	return then, nil
}
