package nix

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// narHash returns the hash of a file tree as nix writes it: SHA-256 over the tree's Nix
// archive (Dolstra, The Purely Functional Software Deployment Model, figure 5.2).
// Strings are a length of eight bytes, little-endian, their bytes, and zeros up to the
// next multiple of eight. Of a file's mode only the owner's right to execute counts.
func narHash(path string) (string, error) {
	sum := sha256.New()
	w := narWriter{bufio.NewWriterSize(sum, 1<<16)}
	w.str("nix-archive-1")
	if err := w.node(path); err != nil {
		return "", err
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return "sha256-" + base64.StdEncoding.EncodeToString(sum.Sum(nil)), nil
}

// narWriter writes to a hash, which never fails: its own errors come with Flush.
type narWriter struct{ *bufio.Writer }

func (w narWriter) str(words ...string) {
	for _, s := range words {
		w.length(int64(len(s)))
		_, _ = w.WriteString(s)
		w.pad(int64(len(s)))
	}
}

func (w narWriter) length(n int64) { _ = binary.Write(w, binary.LittleEndian, n) }

func (w narWriter) pad(n int64) { _, _ = w.Write(make([]byte, (8-n%8)%8)) }

func (w narWriter) node(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	w.str("(", "type")
	switch mode := info.Mode(); {
	case mode.IsDir():
		w.str("directory")
		entries, err := os.ReadDir(path) // sorted by bytes, as the archive must be
		if err != nil {
			return err
		}
		for _, e := range entries {
			w.str("entry", "(", "name", e.Name(), "node")
			if err := w.node(filepath.Join(path, e.Name())); err != nil {
				return err
			}
			w.str(")")
		}
	case mode.Type() == os.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		w.str("symlink", "target", target)
	case mode.IsRegular():
		w.str("regular")
		if mode&0o100 != 0 {
			w.str("executable", "")
		}
		w.str("contents")
		if err := w.contents(path, info.Size()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither file, folder nor link: no archive can hold it", path)
	}
	w.str(")")
	return nil
}

func (w narWriter) contents(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w.length(size)
	n, err := io.Copy(w, f)
	if err == nil && n != size {
		err = fmt.Errorf("%s changed while it was read", path)
	}
	w.pad(size)
	return err
}

func TestNARHash(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree", "a-b", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"tree/a/eight":   {"12345678", 0o644}, // needs no padding
		"tree/a/nine":    {"123456789", 0o600},
		"tree/a.b":       {"", 0o644}, // sorts between a-b and a
		"tree/a-b/run":   {"#!/bin/sh\n", 0o755},
		"tree/a-b/group": {"only the owner's right counts", 0o654},
		"tree/Z":         {strings.Repeat("long", 100_000), 0o444},
		"tree/ümlaut":    {"x", 0o644},
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere/at all", filepath.Join(dir, "tree", "link")); err != nil {
		t.Fatal(err)
	}

	hash := func(path string) string {
		t.Helper()
		h, err := narHash(path)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	// What nix says of a folder with nothing in it, wherever it runs.
	if got := hash(filepath.Join(dir, "tree", "a-b", "empty")); got != "sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=" {
		t.Errorf("an empty folder: %s", got)
	}
	nix := program(t, "nix-hash")
	for _, path := range []string{"tree", "tree/a", "tree/a-b", "tree/Z", "tree/a-b/run", "tree/link"} {
		path = filepath.Join(dir, path)
		out, err := exec.Command(nix, "--type", "sha256", "--base32", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		sri, err := exec.Command(nix, "--to-base16", "--type", "sha256", strings.TrimSpace(string(out))).Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(hash(path), "sha256-"))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(sri)); fmt.Sprintf("%x", got) != want {
			t.Errorf("%s: %x, nix says %s", path, got, want)
		}
	}
	if _, err := narHash(filepath.Join(dir, "missing")); err == nil {
		t.Error("a tree that is not there has a hash")
	}
}
