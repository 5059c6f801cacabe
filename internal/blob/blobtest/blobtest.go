// Package blobtest is the conformance suite of [ccci.Blobs]. Each sentence of the
// port's contract is a sub-test. A new adapter proves itself with one test that
// calls [Run]; see the test of dirblob.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options say what the suite needs to know about an adapter.
type Options struct {
	// Open opens the blobs at place, a directory that is empty at first and different in
	// each sub-test; opening it again gives another handle on the same blobs.
	Open func(t *testing.T, place string) ccci.Blobs
	// OpenReader opens the same blobs for reading only.
	OpenReader func(t *testing.T, place string) ccci.BlobOpener
	// Damage changes the stored bytes of a blob behind the adapter's back.
	// change gets what is stored and returns what shall be stored.
	Damage func(t *testing.T, place, key string, change func([]byte) []byte)
}

// Run runs the whole suite.
func Run(t *testing.T, opts Options) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Options)
	}{
		{"PutGet", testPutGet},
		{"PutReplaces", testReplace},
		{"FailedPutChangesNothing", testFailedPut},
		{"PutEndsWithItsContext", testPutContext},
		{"C20_DamageIsNoticed", testDamage},
		{"BadKeysAreInvalid", testBadKeys},
		{"OddKeysAreValid", testOddKeys},
		{"List", testList},
		{"Delete", testDelete},
		{"C21_ReadersNeverSeeAPart", testConcurrentReplace},
		{"C21_PutRacesDelete", testPutRacesDelete},
		{"C24_ReaderCannotWrite", testReader},
		{"A17_ResultAndArtifactKeys", testRunKeys},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opts) })
	}
}

func digest(data string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(data))) }

func put(t *testing.T, b ccci.Blobs, key, data string) ccci.BlobInfo {
	t.Helper()
	info, err := b.Put(t.Context(), key, strings.NewReader(data))
	if err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
	if info.Key != key || info.Size != int64(len(data)) || info.Digest != digest(data) || info.Modified.IsZero() {
		t.Errorf("Put(%q) of %d bytes = %+v", key, len(data), info)
	}
	return info
}

func get(b ccci.BlobOpener, key string) (string, error) {
	r, info, err := b.Get(context.Background(), key)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil && (info.Key != key || info.Size != int64(len(data)) || info.Digest != digest(string(data))) {
		err = fmt.Errorf("Get(%q) of %d bytes says %+v", key, len(data), info)
	}
	return string(data), err
}

// opened is get by way of Open.
func opened(b ccci.BlobOpener, key string) (string, error) {
	r, info, err := b.Open(context.Background(), key)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil && (info.Key != key || info.Size != int64(len(data)) || info.Digest != digest(string(data))) {
		err = fmt.Errorf("Open(%q) of %d bytes says %+v", key, len(data), info)
	}
	return string(data), err
}

func wantBlob(t *testing.T, b ccci.BlobOpener, key, want string) {
	t.Helper()
	if got, err := get(b, key); err != nil || got != want {
		t.Errorf("blob %q = %.60q (%d bytes), %v; want %.60q", key, got, len(got), err, want)
	}
	if got, err := opened(b, key); err != nil || got != want {
		t.Errorf("blob %q opened = %.60q (%d bytes), %v; want %.60q", key, got, len(got), err, want)
	}
}

func wantNone(t *testing.T, b ccci.BlobOpener, key string) {
	t.Helper()
	if _, err := get(b, key); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("blob %q: %v, want ErrNotFound", key, err)
	}
	if _, err := opened(b, key); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("blob %q opened: %v, want ErrNotFound", key, err)
	}
}

func wantList(t *testing.T, b ccci.BlobOpener, prefix string, want ...string) {
	t.Helper()
	infos, err := b.List(t.Context(), prefix)
	if err != nil {
		t.Errorf("List(%q): %v", prefix, err)
		return
	}
	var got []string
	for _, info := range infos {
		got = append(got, info.Key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List(%q) (-want +got):\n%s", prefix, diff)
	}
}

func testPutGet(t *testing.T, o Options) {
	place := t.TempDir()
	b := o.Open(t, place)
	wantNone(t, b, "a")
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for key, data := range map[string]string{"empty": "", "a": "hello\n\x00\xff", "big/file.bin": big} {
		info := put(t, b, key, data)
		wantBlob(t, b, key, data)
		infos, err := b.List(t.Context(), key)
		if err != nil || len(infos) != 1 || infos[0].Digest != info.Digest || infos[0].Size != info.Size || infos[0].Modified.IsZero() {
			t.Errorf("List(%q) = %+v, %v; want %+v", key, infos, err, info)
		}
		wantBlob(t, o.Open(t, place), key, data) // another process
	}
	r, _, err := b.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, []byte("hello\n\x00\xff")); err != nil {
		t.Error(err)
	}
	whole, _, err := b.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if err := iotest.TestReader(whole, []byte("hello\n\x00\xff")); err != nil { // in any order
		t.Error(err)
	}
}

func testReplace(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	put(t, b, "k", "a long first text")
	old, _, err := b.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	put(t, b, "k", "second")
	wantBlob(t, b, "k", "second")
	wantList(t, b, "", "k")
	if data, err := io.ReadAll(old); err == nil && string(data) != "a long first text" && string(data) != "second" {
		t.Errorf("a reader that was open got a mixture: %q", data)
	}
}

func testFailedPut(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	put(t, b, "k", "before")
	boom := errors.New("boom")
	for _, key := range []string{"k", "new/key"} {
		_, err := b.Put(t.Context(), key, io.MultiReader(strings.NewReader("half of i"), iotest.ErrReader(boom)))
		if !errors.Is(err, boom) {
			t.Errorf("Put(%q) from a failing reader: %v, want its error", key, err)
		}
	}
	wantBlob(t, b, "k", "before")
	wantNone(t, b, "new/key")
	wantList(t, b, "", "k")
}

// endless never ends by itself.
type endless struct{ cancel func() }

func (e endless) Read(p []byte) (int, error) {
	e.cancel()
	return len(p), nil
}

func testPutContext(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := b.Put(ctx, "k", endless{cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	wantNone(t, b, "k")
}

func testDamage(t *testing.T, o Options) {
	const text = "what was put, and nothing else"
	for name, change := range map[string]func([]byte) []byte{
		"one bit at the end": func(d []byte) []byte { d[len(d)-1] ^= 1; return d },
		"one bit in front":   func(d []byte) []byte { d[0] ^= 1; return d },
		"cut off":            func(d []byte) []byte { return d[:len(d)-3] },
		"longer":             func(d []byte) []byte { return append(d, 'x') },
		"empty":              func([]byte) []byte { return nil },
		"zeroes":             func(d []byte) []byte { return make([]byte, len(d)) },
	} {
		t.Run(name, func(t *testing.T) {
			place := t.TempDir()
			b := o.Open(t, place)
			put(t, b, "k", text)
			wantBlob(t, b, "k", text) // what was verified once is not believed when it changes
			o.Damage(t, place, "k", func(d []byte) []byte { return change(bytes.Clone(d)) })
			if data, err := get(b, "k"); !errors.Is(err, ccci.ErrCorrupt) {
				t.Errorf("a damaged blob was read as %q, %v; want ErrCorrupt", data, err)
			}
			if data, err := opened(b, "k"); !errors.Is(err, ccci.ErrCorrupt) {
				t.Errorf("a damaged blob was opened as %q, %v; want ErrCorrupt", data, err)
			}
			put(t, b, "k", text) // and can be replaced
			wantBlob(t, b, "k", text)
		})
	}
}

func testBadKeys(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a b", "a\\b", "a\x00b",
		"é", "a~", "a:b", "a\n", strings.Repeat("a", 513)} {
		_, err := b.Put(t.Context(), key, strings.NewReader("x"))
		_, _, gerr := b.Get(t.Context(), key)
		_, _, oerr := b.Open(t.Context(), key)
		for op, err := range map[string]error{"Put": err, "Get": gerr, "Open": oerr, "Delete": b.Delete(t.Context(), key)} {
			if err == nil || ccci.CodeOf(err) != ccci.CodeInvalid {
				t.Errorf("%s(%q): %v, want an Error with CodeInvalid", op, key, err)
			}
		}
	}
	wantList(t, b, "")
	for _, prefix := range []string{"../", "a//", "/", "a b"} {
		if infos, err := b.List(t.Context(), prefix); len(infos) > 0 || err != nil && ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("List(%q) = %v, %v", prefix, infos, err)
		}
	}
}

func testOddKeys(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	keys := []string{"-", ".a", "...", "A", "a", "a.blob", "a/b", "a/b/c", "a/b.blob", "_",
		strings.Repeat("x", 512), strings.Repeat("x", 300) + "/" + strings.Repeat("y", 211), strings.Repeat("x", 200), strings.Repeat("x", 200) + "../b", strings.Repeat("x", 200) + ".", strings.Repeat("z/", 255) + "z"}
	for _, key := range keys {
		put(t, b, key, "this is "+key)
	}
	for _, key := range keys {
		wantBlob(t, b, key, "this is "+key)
	}
	if infos, err := b.List(t.Context(), ""); err != nil || len(infos) != len(keys) {
		t.Errorf("List shows %d of %d blobs, %v", len(infos), len(keys), err)
	}
	for _, key := range keys {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
	wantList(t, b, "")
}

func testList(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	wantList(t, b, "")
	for _, key := range []string{"runs/2/log", "runs/1/result.json", "runs/1/shots/a.png", "runs/1.x", "runs/10/log", "other"} {
		put(t, b, key, key)
	}
	wantList(t, b, "", "other", "runs/1.x", "runs/1/result.json", "runs/1/shots/a.png", "runs/10/log", "runs/2/log")
	wantList(t, b, "runs/1", "runs/1.x", "runs/1/result.json", "runs/1/shots/a.png", "runs/10/log")
	wantList(t, b, "runs/1/", "runs/1/result.json", "runs/1/shots/a.png")
	wantList(t, b, "runs/1/s", "runs/1/shots/a.png")
	wantList(t, b, "runs/1/result.json", "runs/1/result.json")
	wantList(t, b, "runs/3/")
	wantList(t, b, "other/")
}

func testDelete(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	for range 2 {
		put(t, b, "a/b", "x")
		put(t, b, "a/c", "y")
		for range 2 { // the second time there is none
			if err := b.Delete(t.Context(), "a/b"); err != nil {
				t.Error(err)
			}
		}
		wantNone(t, b, "a/b")
		wantBlob(t, b, "a/c", "y")
		if err := b.Delete(t.Context(), "a/c"); err != nil {
			t.Error(err)
		}
		wantList(t, b, "")
	}
	if err := b.Delete(t.Context(), "never/there"); err != nil {
		t.Error(err)
	}
}

func testConcurrentReplace(t *testing.T, o Options) {
	place := t.TempDir()
	writers := []ccci.Blobs{o.Open(t, place), o.Open(t, place)}
	reader := o.OpenReader(t, place)
	put(t, writers[0], "k", "0")
	var wg sync.WaitGroup
	for w, b := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for range 25 {
				text := strings.Repeat(fmt.Sprint(w), 1+random.IntN(100_000))
				if _, err := b.Put(t.Context(), "k", strings.NewReader(text)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	for {
		if data, err := get(reader, "k"); err != nil || strings.Trim(data, data[:1]) != "" {
			t.Fatalf("read a mixture of %d bytes, %v", len(data), err)
		}
		select {
		case <-written:
			return
		default:
		}
	}
}

func testPutRacesDelete(t *testing.T, o Options) {
	place := t.TempDir()
	a, b := o.Open(t, place), o.Open(t, place)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 50 {
			if _, err := a.Put(t.Context(), "deep/er/k", strings.NewReader("x")); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 50 {
			if err := b.Delete(t.Context(), "deep/er/k"); err != nil {
				t.Error(err)
			}
			if _, err := b.List(t.Context(), "deep/"); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	put(t, a, "deep/er/k", "last")
	wantBlob(t, b, "deep/er/k", "last")
}

func testReader(t *testing.T, o Options) {
	place := t.TempDir()
	r := o.OpenReader(t, place) // before there is anything
	wantNone(t, r, "k")
	wantList(t, r, "")
	put(t, o.Open(t, place), "k", "x")
	wantBlob(t, r, "k", "x")
	wantList(t, r, "", "k")
	if _, ok := r.(interface {
		Put(context.Context, string, io.Reader) (ccci.BlobInfo, error)
	}); ok {
		t.Error("the read-only view has a method Put")
	}
	if _, ok := r.(interface {
		Delete(context.Context, string) error
	}); ok {
		t.Error("the read-only view has a method Delete")
	}
}

func testRunKeys(t *testing.T, o Options) {
	b := o.Open(t, t.TempDir())
	id := ccci.RunID("260301-120000-abcdef")
	put(t, b, ccci.ResultKey(id), "{}")
	put(t, b, ccci.ArtifactKey(id, "screens/after-upgrade.png"), "png")
	wantList(t, b, ccci.ArtifactKey(id, ""), ccci.ResultKey(id), ccci.ArtifactKey(id, "screens/after-upgrade.png"))
}
