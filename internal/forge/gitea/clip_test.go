package gitea

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func clip(t *testing.T, text string, keep int) string {
	t.Helper()
	out, err := io.ReadAll(iotest.OneByteReader(newClipped(strings.NewReader(text), keep)))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestClipped(t *testing.T) {
	for _, same := range []string{`null`, `[]`, `{"a":"b\\","c":"\"","d":1e3,"e":["\u003c\ud83d\ude00","ü"]}`, `{"a":"` + strings.Repeat("x", 100+4*tailKept) + `"}`} {
		if got := clip(t, same, 100); got != same {
			t.Errorf("%.40s became %.40s", same, got)
		}
	}
	for name, unit := range map[string]string{"plain": "x", "escaped": `\u003c`, "quotes": `\"`, "backslashes": `\\`, "emoji": "😀"} {
		for shift := range 7 {
			begin := strings.Repeat("a", 50+shift)
			got := clip(t, `{"a":"`+begin+strings.Repeat(unit, 20_000)+`the end"}`, 100)
			var out struct{ A string }
			if err := json.Unmarshal([]byte(got), &out); err != nil || len(out.A) > 100+tailKept+20 ||
				!strings.HasPrefix(out.A, begin) || !strings.HasSuffix(out.A, "the end") || !strings.Contains(out.A, "\n…\n") {
				t.Fatalf("%s: %v, %d bytes: %.80q", name, err, len(out.A), out.A)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(newClipped(io.MultiReader(strings.NewReader(`{"a":"x`), iotest.ErrReader(broken)), 100)); !errors.Is(err, broken) {
		t.Errorf("what breaks off ends with %v", err)
	}
}

// What JSON holds is the same after it, however the text is made.
func FuzzClipped(f *testing.F) {
	for _, seed := range []string{`{"a":"b\\"}`, `["\u003c","\ud83d\ude00"]`, `"`, `{"a":"\`, `[1,"x"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4*tailKept {
			return
		}
		var want, got any
		errWant := json.Unmarshal([]byte(text), &want)
		errGot := json.Unmarshal([]byte(clip(t, text, 10)), &got)
		if (errWant == nil) != (errGot == nil) || !cmp.Equal(want, got) {
			t.Errorf("%q: %v, %v; want %v, %v", text, got, errGot, want, errWant)
		}
	})
}

// endless is a string of JSON without memory behind it.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= n
	return n, nil
}

func TestClippedKeepsNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	text := io.MultiReader(strings.NewReader(`"`), &endless{64 << 20}, strings.NewReader(`"`))
	n, err := io.Copy(io.Discard, struct{ io.Reader }{newClipped(text, 100)})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; err != nil || n > 2000 || used > 1<<20 {
		t.Errorf("a string of 64 MiB became %d bytes, %v, and took %d KiB", n, err, used>>10)
	}
}
