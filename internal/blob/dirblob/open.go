package dirblob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// verifiedFor is how long a file that was verified, and not written to since, is
	// taken for sound.
	verifiedFor = 10 * time.Minute
	// verifiedMost bounds the files that are remembered.
	verifiedMost = 4096
	// verifiers bounds the files that are read for it at a time.
	verifiers = 2
)

// identity tells the content of a file from every other: the kernel changes one of
// them with each write, and Put never writes to a file that has a name.
type identity struct {
	device, inode uint64
	size          int64
	modified      syscall.Timespec
	changed       syscall.Timespec
}

func identify(f *os.File) (identity, error) {
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, errors.New("the file system does not tell files apart")
	}
	return identity{uint64(s.Dev), s.Ino, s.Size, s.Mtim, s.Ctim}, nil
}

// soundness remembers which files were verified.
type soundness struct {
	turns chan struct{}

	mu    sync.Mutex
	known map[identity]time.Time // when it was verified
}

func newSoundness() *soundness {
	return &soundness{turns: make(chan struct{}, verifiers), known: map[identity]time.Time{}}
}

func (s *soundness) has(id identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	when, ok := s.known[id]
	return ok && time.Since(when) < verifiedFor
}

func (s *soundness) add(id identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= verifiedMost {
		for other := range s.known { // any one will do
			delete(s.known, other)
			break
		}
	}
	s.known[id] = time.Now()
}

// Open implements [ccci.BlobOpener].
func (r *Reader) Open(ctx context.Context, key string) (io.ReadSeekCloser, ccci.BlobInfo, error) {
	f, info, err := r.find(key)
	if err != nil {
		return nil, ccci.BlobInfo{}, err
	}
	if err := r.verify(ctx, f, info); err != nil {
		f.Close()
		return nil, ccci.BlobInfo{}, err
	}
	return part{io.NewSectionReader(f, int64(headerSize), info.Size), f}, info, nil
}

// part is what stands behind the header.
type part struct {
	*io.SectionReader
	file *os.File
}

func (p part) Close() error { return p.file.Close() }

// verify reads a file through, unless that was done a short while ago. f stays where it is.
func (r *Reader) verify(ctx context.Context, f *os.File, info ccci.BlobInfo) error {
	id, err := identify(f)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "reading %s: %w", info.Key, err)
	}
	if r.sound.has(id) {
		return nil
	}
	select {
	case r.sound.turns <- struct{}{}:
		defer func() { <-r.sound.turns }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.sound.has(id) { // another reader was faster
		return nil
	}
	sum := sha256.New()
	size, err := io.Copy(sum, &ctxReader{ctx, io.NewSectionReader(f, int64(headerSize), id.size)})
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "reading %s: %w", info.Key, err)
	}
	if size != info.Size || "sha256:"+hex.EncodeToString(sum.Sum(nil)) != info.Digest {
		return corrupt(info.Key, f)
	}
	r.sound.add(id)
	return nil
}

func corrupt(key string, f *os.File) error {
	return ccci.Errorf(ccci.CodeInfra, "reading %s: %w", key, ccci.ErrCorrupt).
		WithHint("the disk or somebody changed %s; restore it, or run the test again", f.Name())
}
