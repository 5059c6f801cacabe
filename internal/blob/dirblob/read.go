package dirblob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	suffix      = "~blob"
	longSegment = 200
	headerForm  = "cc-ci-blob 1 %s %020d\n"
	headerSize  = len("cc-ci-blob 1 ") + len("sha256:") + 64 + 1 + 20 + 1
)

func header(info ccci.BlobInfo) []byte { return fmt.Appendf(nil, headerForm, info.Digest, info.Size) }

// fileOf is where a blob is, below the root.
func fileOf(key string) string {
	var parts []string
	for segment := range strings.SplitSeq(key, "/") {
		for len(segment) > longSegment {
			parts = append(parts, segment[:longSegment]+"~")
			segment = "~" + segment[longSegment:] // never "..", whatever the rest is
		}
		parts = append(parts, segment)
	}
	return filepath.FromSlash(strings.Join(parts, "/")) + suffix
}

// keyOf is the reverse of fileOf; false for files that are not blobs.
func keyOf(file string) (string, bool) {
	key, ok := strings.CutSuffix(filepath.ToSlash(file), suffix)
	key = strings.ReplaceAll(key, "~/~", "")
	return key, ok && validKey(key)
}

// open opens a blob and reads its header.
func (r *Reader) open(key string) (*os.File, ccci.BlobInfo, error) {
	f, err := os.Open(filepath.Join(r.root, fileOf(key)))
	if err != nil {
		return nil, ccci.BlobInfo{}, err
	}
	info, err := readHeader(f, key)
	if err != nil {
		f.Close()
		return nil, ccci.BlobInfo{}, err
	}
	return f, info, nil
}

func readHeader(f *os.File, key string) (ccci.BlobInfo, error) {
	info := ccci.BlobInfo{Key: key}
	stat, err := f.Stat()
	if err != nil {
		return info, err
	}
	info.Modified = stat.ModTime().UTC()
	buf := make([]byte, headerSize)
	if _, err := io.ReadFull(f, buf); err == io.EOF || err == io.ErrUnexpectedEOF {
		return info, ccci.ErrCorrupt
	} else if err != nil {
		return info, err
	}
	_, err = fmt.Sscanf(string(buf), headerForm, &info.Digest, &info.Size)
	if err != nil || string(header(info)) != string(buf) || !strings.HasPrefix(info.Digest, "sha256:") {
		return info, ccci.ErrCorrupt
	}
	return info, nil
}

// Get implements [ccci.BlobReader].
func (r *Reader) Get(_ context.Context, key string) (io.ReadCloser, ccci.BlobInfo, error) {
	f, info, err := r.find(key)
	if err != nil {
		return nil, ccci.BlobInfo{}, err
	}
	return &verified{file: f, info: info, sum: sha256.New()}, info, nil
}

// find opens a blob for reading behind its header.
func (r *Reader) find(key string) (*os.File, ccci.BlobInfo, error) {
	if err := checkKey(key); err != nil {
		return nil, ccci.BlobInfo{}, err
	}
	f, info, err := r.open(key)
	if err != nil && isAbsent(err) {
		return nil, ccci.BlobInfo{}, &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("there is no blob %s", key), Err: ccci.ErrNotFound}
	}
	if err != nil {
		return nil, ccci.BlobInfo{}, ccci.Errorf(ccci.CodeInfra, "reading %s: %w", key, err)
	}
	return f, info, nil
}

// verified reads a blob and holds it against its header at the end.
type verified struct {
	file *os.File
	info ccci.BlobInfo
	sum  hash.Hash
	size int64
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	v.sum.Write(p[:n])
	v.size += int64(n)
	if err == io.EOF && (v.size != v.info.Size || "sha256:"+hex.EncodeToString(v.sum.Sum(nil)) != v.info.Digest) {
		err = corrupt(v.info.Key, v.file)
	}
	return n, err
}

func (v *verified) Close() error { return v.file.Close() }

// List implements [ccci.BlobReader]. A prefix that no key can begin with is
// CodeInvalid. It reads the header of each blob it returns, not its bytes, so a
// blob whose header is damaged makes it fail with ErrCorrupt.
func (r *Reader) List(ctx context.Context, prefix string) ([]ccci.BlobInfo, error) {
	// The walk begins in the deepest folder that the prefix names in full.
	folder, rest := "", prefix
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		folder, rest = prefix[:i], prefix[i+1:]
		if err := checkKey(folder); err != nil {
			return nil, err
		}
	}
	if !validRunes(rest) || len(prefix) > 512 {
		return nil, checkKey(prefix + "~")
	}
	dir := r.root
	if folder != "" {
		dir = filepath.Join(r.root, strings.TrimSuffix(fileOf(folder), suffix))
	}
	var infos []ccci.BlobInfo
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if isAbsent(err) { // deleted meanwhile
				return nil
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := filepath.Rel(r.root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if file == tmpDir || !mayHold(file, prefix) {
				return fs.SkipDir
			}
			return nil
		}
		key, ok := keyOf(file)
		if !ok || !strings.HasPrefix(key, prefix) {
			return nil
		}
		f, info, err := r.open(key)
		if err != nil {
			if isAbsent(err) {
				return nil
			}
			return fmt.Errorf("%s: %w", key, err)
		}
		infos = append(infos, info)
		return f.Close()
	})
	if err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("listing blobs below %q: %w", prefix, err)
		}
		return nil, ccci.Errorf(ccci.CodeInfra, "listing blobs below %q: %w", prefix, err)
	}
	slices.SortFunc(infos, func(a, b ccci.BlobInfo) int { return cmp.Compare(a.Key, b.Key) })
	return infos, nil
}

// mayHold reports whether a folder below the root can hold keys with the prefix.
func mayHold(folder, prefix string) bool {
	if folder == "." {
		return true
	}
	path := filepath.ToSlash(folder) + "/"
	path = strings.TrimSuffix(strings.ReplaceAll(path, "~/~", ""), "~/")
	return strings.HasPrefix(path, prefix) || strings.HasPrefix(prefix, path)
}
