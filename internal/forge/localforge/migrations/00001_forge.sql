-- +goose Up
CREATE TABLE users (
    id   INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE members (
    org     TEXT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id),
    PRIMARY KEY (org, user_id)
);
CREATE TABLE repos (
    owner   TEXT NOT NULL,
    name    TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
);
CREATE TABLE pulls (
    owner     TEXT NOT NULL,
    name      TEXT NOT NULL,
    number    INTEGER NOT NULL,
    title     TEXT NOT NULL,
    author_id INTEGER NOT NULL REFERENCES users (id),
    branch    TEXT NOT NULL,
    base      TEXT NOT NULL,
    is_open   INTEGER NOT NULL,
    last_head TEXT NOT NULL, -- the head when it was last seen; counts when the branch is gone
    created   BIGINT NOT NULL,
    PRIMARY KEY (owner, name, number),
    FOREIGN KEY (owner, name) REFERENCES repos (owner, name)
);
-- Ids are given out under the write lock, so they are committed in their order
-- and serve as the cursor.
CREATE TABLE comments (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    owner     TEXT NOT NULL,
    name      TEXT NOT NULL,
    number    INTEGER NOT NULL,
    author_id INTEGER NOT NULL REFERENCES users (id),
    body      TEXT NOT NULL,
    edited    INTEGER NOT NULL,
    head      TEXT NOT NULL, -- the pull request's head when this was written; empty: it had none
    post_key  TEXT,          -- of PostComment
    created   BIGINT NOT NULL,
    UNIQUE (owner, name, number, post_key),
    FOREIGN KEY (owner, name, number) REFERENCES pulls (owner, name, number)
);
CREATE INDEX comments_by_repo ON comments (owner, name, id);
CREATE TABLE statuses (
    owner       TEXT NOT NULL,
    name        TEXT NOT NULL,
    commit_id   TEXT NOT NULL,
    context     TEXT NOT NULL,
    state       TEXT NOT NULL,
    description TEXT NOT NULL,
    url         TEXT NOT NULL,
    PRIMARY KEY (owner, name, commit_id, context),
    FOREIGN KEY (owner, name) REFERENCES repos (owner, name)
);

-- +goose Down
DROP TABLE statuses;
DROP TABLE comments;
DROP TABLE pulls;
DROP TABLE repos;
DROP TABLE members;
DROP TABLE users;
