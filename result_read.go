package ccci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ResultLimit bounds what is read of a result, in bytes. A result of a large recipe has 100 KiB; the
// harness writes half of the limit at most.
const ResultLimit = 4 << 20

// ReadResult reads what the harness of a run's build found. A result that is missing or
// cannot be used is a problem in words and no error; an error is worth another try.
func ReadResult(ctx context.Context, blobs BlobReader, run Run, build Build) (result *Result, problem string, err error) {
	return readRecord(ctx, blobs, ResultKey(run.ID), run, build)
}

// ReadReview reads what a run's build changes that can run code or raise privilege, while it is under
// way. The result has the review and no verdict; it is nil as long as there is none.
func ReadReview(ctx context.Context, blobs BlobReader, run Run, build Build) (*Result, error) {
	result, _, err := readRecord(ctx, blobs, ReviewKey(run.ID), run, build)
	if result == nil || result.Review == nil {
		return nil, err
	}
	return &Result{Review: result.Review}, nil
}

func readRecord(ctx context.Context, blobs BlobReader, key string, run Run, build Build) (result *Result, problem string, err error) {
	r, _, err := blobs.Get(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, "it left no result", nil
	case errors.Is(err, ErrCorrupt):
		return nil, "its result is corrupt", nil
	case err != nil:
		return nil, "", fmt.Errorf("opening the result of run %s: %w", run.ID, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, ResultLimit+1))
	switch {
	case errors.Is(err, ErrCorrupt):
		return nil, "its result is corrupt", nil
	case err != nil:
		return nil, "", fmt.Errorf("reading the result of run %s: %w", run.ID, err)
	case len(data) > ResultLimit:
		return nil, "its result is too large", nil
	}
	result = &Result{}
	if err := json.Unmarshal(data, result); err != nil {
		return nil, "its result does not parse: " + err.Error(), nil
	}
	switch {
	case result.RunID != run.ID || result.Recipe != run.Recipe || result.Commit != run.Commit:
		return nil, fmt.Sprintf("its result is about run %s, %s at %s", result.RunID, result.Recipe, result.Commit.Short()), nil
	case max(result.Attempt, 1) != max(build.Attempt, 1):
		return nil, fmt.Sprintf("its result is of attempt %d and not of %d", max(result.Attempt, 1), build.Attempt), nil
	case result.Schema != ResultSchema:
		return nil, fmt.Sprintf("its result has schema %d and not %d", result.Schema, ResultSchema), nil
	}
	return result, "", nil
}
