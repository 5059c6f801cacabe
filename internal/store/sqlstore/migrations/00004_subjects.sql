-- What each verdict is about (ccci.Run.SpeaksFor). Until now the newest whole run spoke for its
-- recipe, whatever it tested: those of pull requests speak for these alone.

-- +goose Up
CREATE TABLE verdicts (
    run_id  TEXT NOT NULL REFERENCES runs (id),
    recipe  TEXT NOT NULL,
    subject TEXT NOT NULL,   -- 'recipe', 'pr/N' or 'branch/NAME'
    since   BIGINT NOT NULL, -- nanoseconds since 1970; the latest one counts
    PRIMARY KEY (run_id, subject)
);
-- A badge is one seek here.
CREATE INDEX verdicts_latest ON verdicts (recipe, subject, since, run_id);
INSERT INTO verdicts (run_id, recipe, subject, since)
    SELECT id, recipe, 'pr/' || pr_number, created FROM runs WHERE speaks = 1 AND pr_number > 0;
INSERT INTO verdicts (run_id, recipe, subject, since)
    SELECT id, recipe, 'recipe', created FROM runs WHERE speaks = 1 AND json_extract(data, '$.trigger') = 'sweep';
DROP INDEX runs_speaking;
ALTER TABLE runs DROP COLUMN speaks;

-- +goose Down
ALTER TABLE runs ADD COLUMN speaks INTEGER NOT NULL DEFAULT 0; -- 1: a whole run that passed, failed or errored
UPDATE runs SET speaks = 1 WHERE id IN (SELECT run_id FROM verdicts);
CREATE INDEX runs_speaking ON runs (recipe, speaks, id);
DROP TABLE verdicts;
