package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Cursor implements [ccci.Store].
func (s *Store) Cursor(ctx context.Context, forge string, repo ccci.RepoRef) (ccci.Cursor, error) {
	var cursor ccci.Cursor
	err := s.db.Read.QueryRowContext(ctx, `SELECT position FROM cursors WHERE forge = ? AND owner = ? AND name = ?`,
		forge, repo.Owner, repo.Name).Scan(&cursor)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", s.db.Explain(fmt.Errorf("reading the cursor of %s on %s: %w", repo, forge, err))
	}
	return cursor, nil
}

// SaveCursor implements [ccci.Store].
func (s *Store) SaveCursor(ctx context.Context, forge string, repo ccci.RepoRef, cursor ccci.Cursor) error {
	_, err := s.db.Write.ExecContext(ctx, `INSERT INTO cursors (forge, owner, name, position) VALUES (?, ?, ?, ?)
		ON CONFLICT (forge, owner, name) DO UPDATE SET position = excluded.position`,
		forge, repo.Owner, repo.Name, cursor)
	if err != nil {
		return s.db.Explain(fmt.Errorf("saving the cursor of %s on %s: %w", repo, forge, err))
	}
	return nil
}

// content is the part of a message whose change raises its version.
type content struct {
	Body   string            `json:"body"`
	Commit ccci.Commit       `json:"commit"`
	Status ccci.CommitStatus `json:"status"`
}

// SaveMessage implements [ccci.Store]. A message without Updated gets the
// present time.
func (s *Store) SaveMessage(ctx context.Context, msg ccci.Message) error {
	if msg.Key == "" || (msg.Kind != ccci.MessageComment && msg.Kind != ccci.MessageStatus) {
		return ccci.Errorf(ccci.CodeInvalid, "saving message %q: it has no key, or %q is not a kind", msg.Key, msg.Kind)
	}
	data, err := json.Marshal(content{msg.Body, msg.Commit, msg.Status})
	if err != nil {
		return fmt.Errorf("saving message %s: %w", msg.Key, err)
	}
	if msg.Updated.IsZero() {
		msg.Updated = s.now()
	}
	// One statement: two writers of a key cannot lose a version.
	_, err = s.db.Write.ExecContext(ctx, `INSERT INTO messages
			(message_key, kind, pr_owner, pr_name, pr_number, content, posted, version, sent, attempts, not_before, last_error, updated)
		VALUES (?, ?, ?, ?, ?, ?, ?, 1, 0, 0, ?, '', ?)
		ON CONFLICT (message_key) DO UPDATE SET content = excluded.content, version = messages.version + 1,
			attempts = 0, not_before = 0, updated = excluded.updated
		WHERE messages.content <> excluded.content`,
		msg.Key, msg.Kind, msg.PR.Repo.Owner, msg.PR.Repo.Name, msg.PR.Number, string(data), msg.Posted,
		nanos(msg.NotBefore), nanos(msg.Updated))
	if err != nil {
		return s.db.Explain(fmt.Errorf("saving message %s: %w", msg.Key, err))
	}
	return nil
}

// PendingMessages implements [ccci.Store].
func (s *Store) PendingMessages(ctx context.Context, now time.Time, limit int) ([]ccci.Message, error) {
	msgs, err := s.pendingMessages(ctx, now, limit)
	if err != nil {
		return nil, s.db.Explain(fmt.Errorf("listing messages to be sent: %w", err))
	}
	return msgs, nil
}

func (s *Store) pendingMessages(ctx context.Context, now time.Time, limit int) ([]ccci.Message, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT message_key, kind, pr_owner, pr_name, pr_number, content, posted,
			version, sent, attempts, not_before, last_error, updated
		FROM messages WHERE version > sent AND not_before <= ? ORDER BY attempts, updated, message_key LIMIT ?`,
		now.UnixNano(), max(limit, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var msgs []ccci.Message
	for rows.Next() {
		var m ccci.Message
		var data string
		var notBefore, updated int64
		if err := rows.Scan(&m.Key, &m.Kind, &m.PR.Repo.Owner, &m.PR.Repo.Name, &m.PR.Number, &data, &m.Posted,
			&m.Version, &m.Sent, &m.Attempts, &notBefore, &m.LastError, &updated); err != nil {
			return nil, err
		}
		var c content
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			return nil, fmt.Errorf("reading message %s: %w", m.Key, err)
		}
		m.Body, m.Commit, m.Status = c.Body, c.Commit, c.Status
		m.NotBefore, m.Updated = moment(notBefore), moment(updated)
		msgs = append(msgs, m)
	}
	return msgs, rows.Err()
}

// MarkSent implements [ccci.Store].
func (s *Store) MarkSent(ctx context.Context, key string, version int, posted ccci.CommentID) error {
	return s.mark(ctx, key, `UPDATE messages SET
		sent = CASE WHEN ? > version THEN version WHEN ? > sent THEN ? ELSE sent END,
		posted = CASE WHEN ? = '' THEN posted ELSE ? END,
		attempts = 0, not_before = 0, last_error = ''
		WHERE message_key = ?`, version, version, version, posted, posted, key)
}

// MarkFailed implements [ccci.Store].
func (s *Store) MarkFailed(ctx context.Context, key string, notBefore time.Time, cause string) error {
	return s.mark(ctx, key, `UPDATE messages SET attempts = attempts + 1, not_before = ?, last_error = ?
		WHERE message_key = ?`, nanos(notBefore), cause, key)
}

func (s *Store) mark(ctx context.Context, key, statement string, args ...any) error {
	res, err := s.db.Write.ExecContext(ctx, statement, args...)
	if err != nil {
		return s.db.Explain(fmt.Errorf("marking message %s: %w", key, err))
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return s.db.Explain(err)
	}
	return &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("there is no message %s", key), Err: ccci.ErrNotFound}
}
