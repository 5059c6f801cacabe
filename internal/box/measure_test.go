package box

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A sparse file counts as what is written of it, a file with two names once.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{1}, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	size := func() (n, entries int64) {
		t.Helper()
		var out bytes.Buffer
		if err := measure(t.Context(), []string{dir}, &out); err != nil {
			t.Fatal(err)
		}
		var path string
		if _, err := fmt.Sscan(out.String(), &n, &entries, &path); err != nil || path != dir {
			t.Fatalf("%q: %v", out.String(), err)
		}
		return n, entries
	}
	empty, _ := size()
	write("a", 1<<20)
	if n, entries := size(); n-empty < 1<<20 || n-empty > 2<<20 || entries != 2 {
		t.Errorf("%d bytes, %d entries", n-empty, entries)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sparse"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "sparse"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if n, entries := size(); n-empty > 2<<20 || entries != 4 {
		t.Errorf("with a second name and a sparse file %d bytes, %d entries", n-empty, entries)
	}
	if err := measure(t.Context(), []string{filepath.Join(dir, "none")}, &bytes.Buffer{}); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

// A path that is longer than the kernel takes hides nothing.
func TestN3_MeasureGoesBelowLongPaths(t *testing.T) {
	dir := t.TempDir()
	at, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		name := string(bytes.Repeat([]byte("a"), 200))
		if err := at.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := at.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		at.Close()
		at = next
	}
	defer at.Close()
	if err := at.WriteFile("large", bytes.Repeat([]byte{1}, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := measure(t.Context(), []string{dir}, &out); err != nil {
		t.Fatal(err)
	}
	var n, entries int64
	if _, err := fmt.Sscan(out.String(), &n, &entries); err != nil || n < 3<<20 || entries != 32 {
		t.Errorf("%q: %v", out.String(), err)
	}
}
