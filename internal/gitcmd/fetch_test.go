package gitcmd

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// source is a repository of somebody else.
type source struct {
	t   *testing.T
	dir string
}

func newSource(t *testing.T) source {
	t.Helper()
	s := source{t, filepath.Join(t.TempDir(), "source.git")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.git("", "init", "--quiet", "--bare", "--initial-branch=main")
	s.git("", "config", "uploadpack.allowAnySHA1InWant", "true")
	s.git("", "config", "http.uploadpack", "true")
	return s
}

// git runs git without any of the protections, with in on its standard input.
func (s source) git(in string, args ...string) string {
	s.t.Helper()
	out, err := s.try(in, args...)
	if err != nil {
		s.t.Fatalf("git %.100q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s source) try(in string, args ...string) ([]byte, error) {
	cmd, err := (*bound)(nil).command(s.t.Context(), append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org"}, args...))
	if err != nil {
		return nil, err
	}
	cmd.Dir, cmd.Stdin = s.dir, strings.NewReader(in)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	return cmd.CombinedOutput()
}

// blob stores text and returns its object.
func (s source) blob(text string) string { return s.git(text, "hash-object", "-w", "--stdin") }

// tree stores a tree of lines as git mktree reads them.
func (s source) tree(lines ...string) string {
	var in string
	for _, line := range lines {
		in += line + "\n"
	}
	return s.git(in, "mktree", "--missing")
}

// commit puts a tree on the branch main and returns the commit.
func (s source) commit(tree string) string {
	c := s.git("one\n", "commit-tree", tree)
	s.git("", "update-ref", "refs/heads/main", c)
	return c
}

// raw stores an object that git would not make.
func (s source) raw(kind, text string) string {
	return s.git(text, "hash-object", "-w", "--literally", "-t", kind, "--stdin")
}

// servers are the ways by which a repository is reached.
func (s source) servers() map[string]string {
	backend := &cgi.Handler{Path: "/usr/lib/git-core/git-http-backend", Dir: s.dir, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(s.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	server := httptest.NewServer(backend)
	s.t.Cleanup(server.Close)
	return map[string]string{"file": s.dir, "http": server.URL + "/" + filepath.Base(s.dir)}
}

func target(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := Run(t.Context(), dir, "init", "--quiet", "--bare", "--template="); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// wantRefused checks that err is a refusal that names a setting, with a way out.
func wantRefused(t *testing.T, err error, words string) {
	t.Helper()
	if ccci.CodeOf(err) != ccci.CodeRefused || err == nil || !strings.Contains(err.Error(), words) || ccci.HintOf(err) == "" {
		t.Errorf("got %v (%s, hint %q), want a refusal that says %q", err, ccci.CodeOf(err), ccci.HintOf(err), words)
	}
}

// noise is text that does not shrink.
func noise(n int, seed uint64) string {
	b := make([]byte, n)
	chacha := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = chacha.Read(b)
	return string(b)
}

// packOf makes a pack file of raw entries.
func packOf(entries ...[]byte) string {
	var b bytes.Buffer
	b.WriteString("PACK\x00\x00\x00\x02")
	_ = binary.Write(&b, binary.BigEndian, uint32(len(entries)))
	for _, e := range entries {
		b.Write(e)
	}
	sum := sha1.Sum(b.Bytes())
	b.Write(sum[:])
	return b.String()
}

// entry is one object of a pack: its kind, its size and, for a delta, what it is based on.
func entry(kind int, size int, base, body string) []byte {
	var b bytes.Buffer
	c := byte(kind<<4) | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		b.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	b.WriteByte(c)
	b.WriteString(base)
	z := zlib.NewWriter(&b)
	_, _ = io.WriteString(z, body)
	_ = z.Close()
	return b.Bytes()
}

func varint(n int) string {
	var b []byte
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return string(append(b, byte(n)))
}

// deltaBomb puts a blob of about size bytes into a repository, in a pack of some KiB.
func (s source) deltaBomb(size int) (object string) {
	const chunk = 0xff_00_00
	base := strings.Repeat("x", chunk)
	baseSum := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00", len(base)) + base))
	whole := sha1.New()
	fmt.Fprintf(whole, "blob %d\x00", size/chunk*chunk)
	delta := varint(chunk) + varint(size/chunk*chunk)
	for range size / chunk {
		delta += "\xc0\xff" // copy 0xff0000 bytes of the base
		_, _ = io.WriteString(whole, base)
	}
	path := filepath.Join(s.dir, "objects/pack/pack-1.pack")
	if err := os.WriteFile(path, []byte(packOf(entry(3, chunk, "", base), entry(7, len(delta), string(baseSum[:]), delta))), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.git("", "index-pack", "--threads=1", path)
	return fmt.Sprintf("%x", whole.Sum(nil))
}

// Each limit of a fetch is kept while it is under way, and named. What is stored by
// then is not much more than the limit.
func TestM2_FetchIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		make   func(source)
		limits Limits
		words  string
		stored int64 // MiB
	}{
		"bytes": {func(s source) {
			var lines []string
			for i := range 8 {
				lines = append(lines, fmt.Sprintf("100644 blob %s\tf%d", s.blob(noise(1<<20, uint64(i))), i))
			}
			s.commit(s.tree(lines...))
		}, Limits{Bytes: 2 << 20}, "larger than 2 MiB (git.fetch_mib)", 3},
		"objects": {func(s source) {
			var in strings.Builder
			for i := range 5000 {
				fmt.Fprintf(&in, "blob\nmark :%d\ndata 4\n%04d\n", i+1, i)
			}
			in.WriteString("commit refs/heads/main\ncommitter t <t@example.org> 1 +0000\ndata 0\n")
			for i := range 5000 {
				fmt.Fprintf(&in, "M 644 :%d d%d/f%d\n", i+1, i%50, i)
			}
			s.git(in.String(), "fast-import", "--quiet")
		}, Limits{Objects: 1000}, "more than 1000 objects (git.objects)", 4},
		"tags": {func(s source) {
			c := s.commit(s.tree())
			var in strings.Builder
			in.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
			for i := range 20_000 {
				fmt.Fprintf(&in, "%s refs/tags/%06d.0.0+1\n", c, i)
			}
			if err := os.WriteFile(filepath.Join(s.dir, "packed-refs"), []byte(in.String()), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, Limits{Refs: 5000}, "more than 5000 tags (git.refs)", 1},
		"unsound": {func(s source) {
			b := s.blob("x")
			s.commit(s.raw("tree", "100644 .GiT\x00"+unhex(b)))
		}, Limits{}, "an object that git does not accept", 1},
		"gitmodules": {func(s source) {
			b := s.blob("[submodule \"x\"]\n\tpath = x\n\turl = -u./evil\n")
			s.commit(s.tree("100644 blob " + b + "\t.gitmodules"))
		}, Limits{}, "an object that git does not accept", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t)
			c.make(s)
			for way, url := range s.servers() {
				dir := target(t)
				begun := time.Now()
				err := Fetch(t.Context(), dir, url, FetchOptions{Refs: []string{"+refs/heads/main:refs/x"}, Tags: true, Limits: c.limits})
				t.Logf("%s: %v after %s, %d bytes stored", way, err, time.Since(begun), sizeOf(t, dir))
				wantRefused(t, err, c.words)
				if stored := sizeOf(t, dir); stored > c.stored<<20 {
					t.Errorf("%s: %d bytes were stored", way, stored)
				}
			}
		})
	}
}

// An object that is long and packs well is either too much for git's memory, or stays
// packed and is refused as a file.
func TestM2_DeltaBomb(t *testing.T) {
	s := newSource(t)
	commit := s.commit(s.tree("100644 blob " + s.deltaBomb(300<<20) + "\tbig"))
	for way, url := range s.servers() {
		dir := target(t)
		err := Fetch(t.Context(), dir, url, FetchOptions{Refs: []string{commit}, Limits: Limits{Memory: 150 << 20}})
		if err == nil {
			err = CheckOut(t.Context(), dir, filepath.Join(dir, "work"), commit, Limits{Memory: 150 << 20})
		}
		t.Logf("%s: %v", way, err)
		wantRefused(t, err, " MiB of ")
		if stored := sizeOf(t, dir); stored > 4<<20 {
			t.Errorf("%s: %d bytes were stored", way, stored)
		}
	}
}

func unhex(object string) string {
	raw, err := hex.DecodeString(object)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// A server that sends nothing, or goes on for ever, is left when the time is over.
func TestM2_FetchEndsInTime(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-hang:
		}
	}))
	defer server.Close()
	defer close(hang)
	begun := time.Now()
	err := Fetch(t.Context(), target(t), server.URL+"/x.git", FetchOptions{Tags: true, Limits: Limits{Time: time.Second}})
	wantRefused(t, err, "longer than 1s to be read (git.time)")
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Fetch(ctx, target(t), server.URL+"/x.git", FetchOptions{Tags: true}); ccci.CodeOf(err) == ccci.CodeRefused || err == nil {
		t.Errorf("cancelled: %v", err)
	}
}

// A server's answer leads git to no other server and to no other protocol, and the token
// goes to nobody but the one that it is for.
func TestM2_FetchGoesNowhereElse(t *testing.T) {
	s := newSource(t)
	s.commit(s.tree("100644 blob " + s.blob("x") + "\tx"))
	genuine := s.servers()["http"]
	var mu sync.Mutex
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("Authorization"))
		http.Redirect(w, r, strings.TrimSuffix(genuine, "/source.git")+r.URL.String(), http.StatusFound)
	}))
	defer elsewhere.Close()
	redirecting := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL+"/source.git/info/refs?service=git-upload-pack", http.StatusFound))
	defer redirecting.Close()
	ask := FetchOptions{Refs: []string{"+refs/heads/main:refs/x"}, Token: ccci.NewSecret("s3cret")}
	if err := Fetch(t.Context(), target(t), elsewhere.URL+"/source.git", ask); err == nil {
		t.Error("a redirect was followed")
	}
	if err := Fetch(t.Context(), target(t), redirecting.URL+"/source.git", ask); err == nil {
		t.Error("a redirect was followed")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || seen[0] != "" {
		t.Errorf("the server without TLS was asked %d times, with %q", len(seen), seen)
	}
	for _, url := range []string{"ext::sh -c true", "ext://x", "foo::http://x", "ftp://127.0.0.1/x", "fd::17"} {
		if got := protocolOf(url); got != "none" {
			t.Errorf("%s may use %s", url, got)
		}
	}
	for url, want := range map[string]string{"/a/b": "file", "a/b:c": "file", "git@host:a/b": "ssh", "HTTPS://x/y": "https", "file:///x": "file"} {
		if got := protocolOf(url); got != want {
			t.Errorf("%s may use %q, want %q", url, got, want)
		}
	}
}

// An ordinary repository arrives whole, with all of its tags, over each protocol.
func TestFetchWhole(t *testing.T) {
	s := newSource(t)
	c := s.commit(s.tree("100644 blob " + s.blob("text\n") + "\tx"))
	s.git("", "tag", "1.0.0+1.2.3", c)
	s.git("", "tag", "-a", "-m", "x", "1.1.0+1.2.3", c)
	// What many old repositories have, and does no harm.
	s.git("", "tag", "old", s.raw("commit", "tree "+s.raw("tree", "0100644 x\x00"+unhex(s.blob("x")))+"\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +051800\n\nx\n"))
	for way, url := range s.servers() {
		dir := target(t)
		if err := Fetch(t.Context(), dir, url, FetchOptions{Refs: []string{c, "+refs/heads/main:refs/x"}, Tags: true}); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		out, err := Run(t.Context(), dir, "for-each-ref", "--format=%(refname) %(objecttype)")
		want := "refs/tags/1.0.0+1.2.3 commit\nrefs/tags/1.1.0+1.2.3 tag\nrefs/tags/old commit\nrefs/x commit"
		if err != nil || out != want {
			t.Errorf("%s: %s, %v", way, out, err)
		}
		work := filepath.Join(t.TempDir(), "work")
		if err := CheckOut(t.Context(), dir, work, c, Limits{}); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(work, "x")); err != nil || string(text) != "text\n" {
			t.Errorf("%q, %v", text, err)
		}
	}
}
