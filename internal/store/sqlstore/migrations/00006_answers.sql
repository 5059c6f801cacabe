-- A run that came to no answer, as one in which the infrastructure failed, displaces no verdict
-- (ccci.Speaker). Until now the latest run spoke, whatever it said.

-- +goose Up
ALTER TABLE verdicts ADD COLUMN answers INTEGER NOT NULL DEFAULT 1; -- 0: the run came to no answer; 1 counts before 0
UPDATE verdicts SET answers = 0 WHERE run_id IN (SELECT id FROM runs WHERE status IN ('errored', 'inconclusive'));
-- A badge is one seek here. verdicts_latest stays for histories, which have all runs.
CREATE INDEX verdicts_answers ON verdicts (recipe, subject, answers, since, run_id);

-- +goose Down
DROP INDEX verdicts_answers;
ALTER TABLE verdicts DROP COLUMN answers;
