package box

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An app appends to /etc/hosts, which Docker mounts from its own directory. Only the files of the run's
// containers are truncated, each time that they are too large, and each is named once.
func TestN3_GuardTruncatesWhatDockerMounts(t *testing.T) {
	dir := t.TempDir()
	id := func(c string) string { return strings.Repeat(c, 64) }
	describe := func(id string, labels map[string]string) {
		t.Helper()
		text, err := json.Marshal(map[string]any{"ID": id, "Config": map[string]any{"Labels": labels}})
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, id), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, id, "config.v2.json"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fill := func(id, name string, size int) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, id, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(bytes.Repeat([]byte("# line\n"), size/7)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	g, err := newGuard(dir, "r1", &out)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	look := func(want string) {
		t.Helper()
		out.Reset()
		if err := g.look(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
	size := func(id, name string, want int64) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, id, name))
		if err != nil || info.Size() != want {
			t.Errorf("%s of %s: %v, %v, want %d bytes", name, id[:2], info, err, want)
		}
	}

	look("")
	if err := os.Mkdir(filepath.Join(dir, id("a")), 0o700); err != nil { // not described yet
		t.Fatal(err)
	}
	look("")
	describe(id("a"), map[string]string{"cc-ci.run": "r1", "com.docker.swarm.service.name": "s_app"})
	describe(id("b"), map[string]string{"cc-ci.run": "r2", "com.docker.swarm.service.name": "s_app"})
	describe(id("c"), nil)
	describe("not-a-container", map[string]string{"cc-ci.run": "r1"})
	look("") // Docker has not made the files yet
	all := []string{id("a"), id("b"), id("c"), "not-a-container"}
	for _, c := range all {
		fill(c, "hosts", 7<<12)
		fill(c, "other", 7<<20)
	}
	look("")
	for _, c := range all {
		fill(c, "hosts", 7<<20)
	}
	look("over 7368704 1048576 /etc/hosts s_app\n")
	size(id("a"), "hosts", 0)
	size(id("a"), "other", 7<<20)
	for _, c := range all[1:] {
		size(c, "hosts", 7<<20+7<<12)
	}
	fill(id("a"), "hosts", 7<<20)
	look("") // it was named
	size(id("a"), "hosts", 0)
	if err := os.Truncate(filepath.Join(dir, id("a"), "hosts"), 1<<40); err != nil { // a hole takes nothing, but is read
		t.Fatal(err)
	}
	fill(id("a"), "resolv.conf", 7<<20)
	look("over 7340032 1048576 /etc/resolv.conf s_app\n")
	size(id("a"), "hosts", 0)
	size(id("a"), "resolv.conf", 0)

	// The container goes: nothing holds its files.
	if err := os.RemoveAll(filepath.Join(dir, id("a"))); err != nil {
		t.Fatal(err)
	}
	look("")
	if g.containers[id("a")] != nil {
		t.Error("a container that has gone is still looked at")
	}
	// A link in the place of a file, which no app can make, is not followed.
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	describe(id("d"), map[string]string{"cc-ci.run": "r1"})
	if err := os.Symlink(target, filepath.Join(dir, id("d"), "hosts")); err != nil {
		t.Fatal(err)
	}
	look("")
	if info, err := os.Stat(target); err != nil || info.Size() != 2<<20 {
		t.Errorf("the target of a link: %v, %v", info, err)
	}
}

// A run of 20 containers beside 20 of others.
func BenchmarkGuardLook(b *testing.B) {
	dir := b.TempDir()
	for i := range 40 {
		id := fmt.Sprintf("%064x", i)
		if err := os.Mkdir(filepath.Join(dir, id), 0o700); err != nil {
			b.Fatal(err)
		}
		run := []string{"r1", "r2"}[i%2]
		for name, text := range map[string]string{"config.v2.json": `{"Config": {"Labels": {"cc-ci.run": "` + run + `"}}}`, "hosts": "x", "hostname": "x", "resolv.conf": "x"} {
			if err := os.WriteFile(filepath.Join(dir, id, name), []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, past, past); err != nil {
		b.Fatal(err)
	}
	g, err := newGuard(dir, "r1", &bytes.Buffer{})
	if err != nil {
		b.Fatal(err)
	}
	defer g.close()
	for b.Loop() {
		if err := g.look(); err != nil {
			b.Fatal(err)
		}
	}
}
