-- The last line of defence for "terminal states never move": it holds for every
-- program that opens the file, also for a person with the sqlite3 shell.
-- SQLite's own dialect; PostgreSQL gets a trigger function instead.

-- +goose Up
-- +goose StatementBegin
CREATE TRIGGER runs_terminal_states BEFORE UPDATE OF status ON runs
WHEN NOT (OLD.status = NEW.status OR OLD.status IN ('queued', 'running'))
BEGIN
    SELECT RAISE(ABORT, 'a terminal state never moves');
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER runs_terminal_states;
