// Package dirblob keeps blobs in a directory: the embedded profile's [ccci.Blobs].
//
// Each blob is one file that begins with a header line holding the digest and the
// size of the rest, so that both are replaced in the same step. The file's name is
// the key with "~blob" appended; the tilde cannot occur in keys, so a blob and a
// folder of the same name do not collide. A segment beyond 200 bytes, which file
// systems refuse, is split into nested folders: "first~/~second~/~rest".
package dirblob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// tmpDir holds unfinished files; no key leads there.
const tmpDir = "~tmp"

// staleAfter is the age at which an unfinished file belongs to nobody any more.
const staleAfter = 24 * time.Hour

// Reader implements [ccci.BlobOpener]. It has no way to write.
type Reader struct {
	root  string
	sound *soundness
}

// Blobs implements [ccci.Blobs].
type Blobs struct{ Reader }

var (
	_ ccci.BlobOpener = (*Reader)(nil)
	_ ccci.Blobs      = (*Blobs)(nil)
)

// Open opens the blobs in dir, and makes the directory where there is none.
func Open(dir string) (*Blobs, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the blobs in %s: %w", dir, err)
	}
	tmp := filepath.Join(root, tmpDir)
	if err := os.MkdirAll(tmp, 0o750); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "opening the blobs in %s: %w", dir, err).
			WithHint("choose a directory that this user may write to")
	}
	if err := sweep(tmp); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "removing unfinished blobs in %s: %w", tmp, err)
	}
	return &Blobs{Reader{root, newSoundness()}}, nil
}

// OpenReader opens the blobs in dir for reading. A directory that is not there
// holds no blobs.
func OpenReader(dir string) (*Reader, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the blobs in %s: %w", dir, err)
	}
	return &Reader{root, newSoundness()}, nil
}

// sweep removes what crashed writers left.
func sweep(tmp string) error {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue // gone, or being written by another process
		}
		if err := os.Remove(filepath.Join(tmp, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Put implements [ccci.Blobs]. When it returns the blob is on disk, also after a
// power cut.
func (b *Blobs) Put(ctx context.Context, key string, r io.Reader) (ccci.BlobInfo, error) {
	if err := checkKey(key); err != nil {
		return ccci.BlobInfo{}, err
	}
	info, err := b.put(ctx, key, r)
	if err != nil {
		return ccci.BlobInfo{}, fmt.Errorf("storing %s: %w", key, err)
	}
	return info, nil
}

func (b *Blobs) put(ctx context.Context, key string, r io.Reader) (ccci.BlobInfo, error) {
	tmp := filepath.Join(b.root, tmpDir, rand.Text())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return ccci.BlobInfo{}, err
	}
	info, err := fill(ctx, f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(tmp)
		return ccci.BlobInfo{}, err
	}
	info.Key = key
	target := filepath.Join(b.root, fileOf(key))
	for {
		// A Delete may remove the folder, empty as it is, before the file is in it.
		if err = makeFolders(b.root, filepath.Dir(target)); err != nil {
			break
		}
		if err = os.Rename(tmp, target); !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		os.Remove(tmp)
		return ccci.BlobInfo{}, err
	}
	// ErrNotExist: a Delete came right after; what it leaves is right as well.
	if err := syncDir(filepath.Dir(target)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ccci.BlobInfo{}, err
	}
	return info, nil
}

// fill writes the header and r's bytes.
func fill(ctx context.Context, f *os.File, r io.Reader) (ccci.BlobInfo, error) {
	if _, err := f.Write(make([]byte, headerSize)); err != nil { // its place; the digest comes last
		return ccci.BlobInfo{}, err
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum), &ctxReader{ctx, r})
	if err != nil {
		return ccci.BlobInfo{}, err
	}
	info := ccci.BlobInfo{Size: size, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil))}
	if _, err := f.WriteAt(header(info), 0); err != nil {
		return ccci.BlobInfo{}, err
	}
	if err := f.Sync(); err != nil {
		return ccci.BlobInfo{}, err
	}
	stat, err := f.Stat()
	if err != nil {
		return ccci.BlobInfo{}, err
	}
	info.Modified = stat.ModTime().UTC()
	return info, nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// makeFolders is MkdirAll that makes the new folders durable.
func makeFolders(root, dir string) error {
	if dir == root {
		return nil
	}
	err := os.Mkdir(dir, 0o750)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFolders(root, filepath.Dir(dir)); err != nil {
			return err
		}
		return makeFolders(root, dir)
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Delete implements [ccci.Blobs]. Folders that become empty go too.
func (b *Blobs) Delete(_ context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	target := filepath.Join(b.root, fileOf(key))
	if err := os.Remove(target); err != nil && !isAbsent(err) {
		return ccci.Errorf(ccci.CodeInfra, "deleting %s: %w", key, err)
	}
	for dir := filepath.Dir(target); dir != b.root; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // not empty
			break
		}
	}
	return nil
}

// isAbsent reports whether err says that a file is not there; ENOTDIR when not
// even its folder is one.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func checkKey(key string) error {
	if !validKey(key) {
		return ccci.Errorf(ccci.CodeInvalid, "%q cannot be the key of a blob", key).
			WithHint("keys are segments of letters, digits and ._- with slashes between, at most 512 bytes, none of them . or ..")
	}
	return nil
}

func validKey(key string) bool {
	if len(key) > 512 {
		return false
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." || !validRunes(segment) {
			return false
		}
	}
	return true
}

func validRunes(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
