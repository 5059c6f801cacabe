-- Tables are written so that PostgreSQL takes them too; there TEXT keys need
-- COLLATE "C", because run ids are ordered byte by byte.

-- +goose Up
CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    run_key    TEXT NOT NULL UNIQUE,
    recipe     TEXT NOT NULL,
    pr_owner   TEXT NOT NULL,
    pr_name    TEXT NOT NULL,
    pr_number  INTEGER NOT NULL,
    commit_id  TEXT NOT NULL,
    created    BIGINT NOT NULL,  -- nanoseconds since 1970
    status     TEXT NOT NULL,
    speaks     INTEGER NOT NULL, -- 1: a whole run that passed, failed or errored
    data       TEXT NOT NULL     -- the run as JSON; the columns above have the last word
);
-- A badge is one seek in each of the first two.
CREATE INDEX runs_by_recipe ON runs (recipe, id);
CREATE INDEX runs_speaking ON runs (recipe, speaks, id);
CREATE INDEX runs_by_pr ON runs (pr_owner, pr_name, pr_number, id);
CREATE INDEX runs_by_status ON runs (status, id);

CREATE TABLE cursors (
    forge    TEXT NOT NULL,
    owner    TEXT NOT NULL,
    name     TEXT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (forge, owner, name)
);

CREATE TABLE messages (
    message_key TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    pr_owner    TEXT NOT NULL,
    pr_name     TEXT NOT NULL,
    pr_number   INTEGER NOT NULL,
    content     TEXT NOT NULL,    -- body, commit and status as JSON; compared as text
    posted      TEXT NOT NULL,
    version     INTEGER NOT NULL,
    sent        INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    not_before  BIGINT NOT NULL,  -- nanoseconds since 1970; 0: at once
    last_error  TEXT NOT NULL,
    updated     BIGINT NOT NULL
);
CREATE INDEX messages_pending ON messages (updated) WHERE version > sent;

-- +goose Down
DROP TABLE messages;
DROP TABLE cursors;
DROP TABLE runs;
