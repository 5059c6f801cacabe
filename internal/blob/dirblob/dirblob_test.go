package dirblob

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/blobtest"
)

func open(t *testing.T, dir string) *Blobs {
	t.Helper()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	blobtest.Run(t, blobtest.Options{
		Open: func(t *testing.T, place string) ccci.Blobs { return open(t, place) },
		OpenReader: func(t *testing.T, place string) ccci.BlobOpener {
			r, err := OpenReader(place)
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		Damage: func(t *testing.T, place, key string, change func([]byte) []byte) {
			path := filepath.Join(place, fileOf(key))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(data), 0o640); err != nil {
				t.Fatal(err)
			}
		},
	})
}

func TestNothingUnfinishedStays(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	for _, text := range []string{"x", "y"} {
		if _, err := b.Put(t.Context(), "k", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, tmpDir)); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestC20_DamagedSizeIsNoticed(t *testing.T) {
	b := open(t, t.TempDir())
	if _, err := b.Put(t.Context(), "k", strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.root, fileOf("k"))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[headerSize-2] = '6' // the last digit of the size; the digest still fits
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
	r, _, err := b.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, ccci.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestOpenSweepsOnlyWhatIsOld(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	old, young := filepath.Join(dir, tmpDir, "old"), filepath.Join(dir, tmpDir, "young")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, nil, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-2 * staleAfter)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("an old unfinished file stays: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("another process's unfinished file: %v", err)
	}
}

func TestOpenWhereAFileIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || ccci.HintOf(err) == "" {
		t.Errorf("got %v; want an error with a hint", err)
	}
}

func FuzzKeys(f *testing.F) {
	for _, key := range []string{"a", "a/b.json", "../x", "a//b", strings.Repeat("x", 401), "~tmp/x", "a~/b",
		strings.Repeat("0", longSegment) + ".", strings.Repeat("0", longSegment) + "../b"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if checkKey(key) != nil {
			return
		}
		file := fileOf(key)
		if !filepath.IsLocal(file) || strings.HasPrefix(file, tmpDir) {
			t.Errorf("%q leads to %q", key, file)
		}
		for part := range strings.SplitSeq(file, "/") {
			if len(part) > 255 {
				t.Errorf("%q leads to a name of %d bytes", key, len(part))
			}
		}
		if back, ok := keyOf(file); !ok || back != key {
			t.Errorf("%q -> %q -> %q, %t", key, file, back, ok)
		}
	})
}
