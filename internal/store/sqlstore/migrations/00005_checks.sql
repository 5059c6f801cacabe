-- What the checks of each run said, for their history (N14, P17). Runs that ended before this have
-- none until the server reads them from the stored results.

-- +goose Up
CREATE TABLE checks (
    run_id   TEXT NOT NULL REFERENCES runs (id),
    position INTEGER NOT NULL, -- in the order in which they were asked
    name     TEXT NOT NULL,
    status   TEXT NOT NULL,
    duration BIGINT NOT NULL,  -- nanoseconds
    PRIMARY KEY (run_id, position)
);
CREATE INDEX runs_by_commit ON runs (recipe, commit_id, id);

-- +goose Down
DROP INDEX runs_by_commit;
DROP TABLE checks;
