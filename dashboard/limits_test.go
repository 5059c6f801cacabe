package dashboard

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// A line of any length costs little, and what follows it is where it was.
func TestFollowerBoundsLines(t *testing.T) {
	rec := httptest.NewRecorder()
	s, err := openStream(rec)
	if err != nil {
		t.Fatal(err)
	}
	f := &runFollower{s: s}
	text := "one\n" + strings.Repeat("x", 3<<20) + "\ntwo\nrest"
	for rest := []byte(text); len(rest) > 0; {
		n := min(len(rest), 10_007)
		if err := f.feed(rest[:n]); err != nil {
			t.Fatal(err)
		}
		if rest = rest[n:]; len(f.rest) > longLine {
			t.Fatalf("%d bytes are held", len(f.rest))
		}
	}
	if f.offset != int64(len(text)-len("rest")) {
		t.Errorf("offset %d", f.offset)
	}
	if err := f.finish(); err != nil || f.offset != int64(len(text)) {
		t.Errorf("offset %d, %v", f.offset, err)
	}
	body := rec.Body.String()
	if len(body) > 8<<10 || !strings.Contains(body, `"one"`) || !strings.Contains(body, `"two"`) || !strings.Contains(body, `["rest"]`) || !strings.Contains(body, " …") {
		t.Errorf("%d bytes: %.300s", len(body), body)
	}
}
