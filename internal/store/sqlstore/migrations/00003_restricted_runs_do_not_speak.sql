-- A run from a base that was asked for does not speak for its recipe. Those that ended
-- before this was so have to be silent too.

-- +goose Up
UPDATE runs SET speaks = 0 WHERE speaks = 1 AND coalesce(json_extract(data, '$.options.from'), '') <> '';

-- +goose Down
UPDATE runs SET speaks = 1 WHERE speaks = 0 AND status IN ('passed', 'failed', 'errored')
    AND coalesce(json_extract(data, '$.options.from'), '') <> ''
    AND json_extract(data, '$.options.stages') IS NULL AND json_extract(data, '$.options.quick') IS NULL;
