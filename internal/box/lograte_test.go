package box

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What a log driver writes is counted over the files that it replaces, and what was there before is not.
func TestN3_LogRates(t *testing.T) {
	dir := t.TempDir()
	path := func(id string) string { return filepath.Join(dir, id, id+"-json.log") }
	write := func(path string, n int) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			_, err = f.Write(make([]byte, n))
			f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"quiet", "loud", "cut"} {
		if err := os.Mkdir(filepath.Join(dir, id), 0o700); err != nil {
			t.Fatal(err)
		}
		write(path(id), 1<<20)
	}
	local := filepath.Join(dir, "local", "local-logs", "container.log")
	if err := os.MkdirAll(filepath.Dir(local), 0o700); err != nil {
		t.Fatal(err)
	}
	write(local, 100)

	const pieces, size = 5, 100 << 10
	var out bytes.Buffer
	read := make(chan error)
	const window = time.Second
	started := time.Now()
	go func() {
		read <- logRates(t.Context(), dir, []string{"quiet", "loud", "cut", "local", "gone"}, window, &out)
	}()
	cut := 1 << 20
	for tick := time.NewTicker(window / 2 / pieces); time.Since(started) < window/2; <-tick.C {
		write(path("loud"), size)
		write(local, size)
		next := filepath.Join(dir, "next") // replaced at once, so that the first reading finds a log
		write(next, 0)
		if err := os.Rename(next, path("loud")); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path("cut"), 0); err != nil {
			t.Fatal(err)
		}
		cut -= size // what was written between two readings is seen only if it is less than before
		write(path("cut"), cut)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	rates := map[string]int{}
	for line := range bytes.Lines(out.Bytes()) {
		var rate int
		var id string
		if _, err := fmt.Sscanf(string(line), "log %d %s", &rate, &id); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		rates[id] = rate
	}
	if len(rates) != 4 || rates["quiet"] != 0 {
		t.Fatalf("%v", rates)
	}
	for _, id := range []string{"loud", "local"} {
		if rates[id] < size || rates[id] > (pieces+2)*size {
			t.Errorf("%s: %d bytes per second", id, rates[id])
		}
	}
	if rates["cut"] < size/2 {
		t.Errorf("cut: %d bytes per second", rates["cut"])
	}
}
