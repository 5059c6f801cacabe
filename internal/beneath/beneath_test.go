package beneath

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is in the place of a file is said, not opened; no link leads out.
func TestN3_NothingButAFileIsOpened(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t,
		os.WriteFile(filepath.Join(outside, "theirs"), []byte("theirs"), 0o644), os.WriteFile(at("file"), []byte("12345"), 0o644),
		os.Mkdir(at("folder"), 0o755), syscall.Mkfifo(at("pipe"), 0o644), os.Symlink("file", at("link")),
		os.Symlink(outside, at("out")), os.Symlink("folder", at("in")), os.WriteFile(at("folder/file"), nil, 0o644),
		os.Symlink(filepath.Join(outside, "made"), at("dangling")),
	)
	for name, want := range map[string]ccci.Code{
		"file": "", "folder/file": "", "folder": ccci.CodeRecipe, ".": ccci.CodeRecipe, "pipe": ccci.CodeRecipe, "link": ccci.CodeRecipe,
		"out/theirs": ccci.CodeRecipe, "in/file": ccci.CodeRecipe, "file/x": ccci.CodeRecipe, "dangling": ccci.CodeRecipe,
		"../x": ccci.CodeInvalid, "..": ccci.CodeInvalid, "/etc/passwd": ccci.CodeInvalid, "a/../b": ccci.CodeInvalid, "": ccci.CodeInvalid,
		strings.Repeat("x", 300): ccci.CodeRecipe,
	} {
		code := func(err error) ccci.Code {
			if err == nil {
				return ""
			}
			return ccci.CodeOf(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := Get(dir, name, 5); code(err) != want {
				t.Errorf("Get %q: %v, want %q", name, err, want)
			}
			if err := Put(dir, name, []byte("54321")); code(err) != want {
				t.Errorf("Put %q: %v, want %q", name, err, want)
			}
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%q: it waits", name)
		}
	}
	if _, err := Get(dir, "file", 4); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := Get(dir, "none", 4); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("no file: %v", err)
	}
	if _, err := Get(dir, "none/x", 4); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Get(filepath.Join(dir, "none"), "x", 4); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("no volume: %v", err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("outside: %v, %v", left, err)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "theirs")); err != nil || string(data) != "theirs" {
		t.Errorf("outside: %q, %v", data, err)
	}
	left, err := filepath.Glob(at(".cc-ci-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestPutKeepsModes(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o640), os.Chmod(filepath.Join(dir, "old"), 0o640))
	for name, want := range map[string]os.FileMode{"old": 0o640, "new": 0o644, "a/b/new": 0o644} {
		must(t, Put(dir, name, []byte("x")))
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want || info.Size() != 1 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// What one process prints, the other one reads.
func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	ask := func(in string, args ...string) (string, error) {
		t.Helper()
		var out bytes.Buffer
		if err := Run(args, strings.NewReader(in), &out); err != nil {
			t.Fatal(err)
		}
		data, err := Read(out.Bytes())
		return string(data), err
	}
	if _, err := ask("\x00text", "put", dir, "file"); err != nil {
		t.Error(err)
	}
	if got, err := ask("", "get", dir, "file", "10"); err != nil || got != "\x00text" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ask("", "get", dir, "none", "10"); ccci.CodeOf(err) != ccci.CodeNotFound || err.Error() != "there is no none" {
		t.Error(err)
	}
	if _, err := ask(strings.Repeat("x", MostPut+1), "put", dir, "large"); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Error(err)
	}
	if err := Run([]string{"get", dir}, nil, &bytes.Buffer{}); err == nil {
		t.Error("no name")
	}
	if _, err := Read([]byte("panic")); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Error(err)
	}
}
