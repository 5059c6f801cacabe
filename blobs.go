package ccci

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrCorrupt says that stored bytes are not the bytes that were put.
var ErrCorrupt = errors.New("stored data is corrupt")

// BlobInfo describes one blob.
type BlobInfo struct {
	Key      string
	Size     int64  // bytes
	Digest   string // "sha256:" and 64 hexadecimal digits
	Modified time.Time
}

// BlobReader is the read-only view of [Blobs].
type BlobReader interface {
	// Get opens a blob. Its bytes are verified: reading to the end returns
	// ErrCorrupt in place of io.EOF when they are not what was put. ErrNotFound
	// when there is none. The caller closes it.
	Get(ctx context.Context, key string) (io.ReadCloser, BlobInfo, error)
	// List returns the blobs whose key starts with prefix, ordered by key.
	List(ctx context.Context, prefix string) ([]BlobInfo, error)
}

// BlobOpener is [BlobReader] for code that hands blobs on to others.
type BlobOpener interface {
	BlobReader
	// Open is Get for reading any part, in any order. All bytes are verified before it
	// returns, and ErrCorrupt when they are not what was put: none of them is handed out
	// then. What was verified a short while ago and has not been written to since is not
	// read again. The caller closes it.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, BlobInfo, error)
}

// Blobs stores files by key: slash-separated segments of letters, digits and
// ._-, none of them "." or "..", at most 512 bytes. Other keys are an Error
// with CodeInvalid. Safe for concurrent use, also from several processes.
type Blobs interface {
	BlobOpener
	// Put stores r under key, replacing what was there. A reader never sees
	// a part of it; on error nothing changed.
	Put(ctx context.Context, key string, r io.Reader) (BlobInfo, error)
	// Delete removes a blob. Legal when there is none.
	Delete(ctx context.Context, key string) error
}

// ResultKey names the blob that holds a run's Result.
func ResultKey(id RunID) string { return ArtifactKey(id, ResultFile) }

// ReviewKey names the blob that holds a run's [Result] as it is when the review was made: the review,
// and which run it is of. It is there before anything of the recipe is judged or deployed.
func ReviewKey(id RunID) string { return ArtifactKey(id, "review.json") }

// ArtifactKey names one artifact of a run.
func ArtifactKey(id RunID, path string) string { return "runs/" + string(id) + "/" + path }

// ResultFile is the artifact with the [Result]; a run publishes it last.
const ResultFile = "result.json"

// ReproArchive is the artifact from which a run can be repeated (N9).
const ReproArchive = "repro.tar"
