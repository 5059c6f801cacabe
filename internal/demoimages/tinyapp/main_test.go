package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func do(t *testing.T, h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// The canaries of backup and restore rest on this: a file that is put back
// under a running tinyapp changes nothing until it is loaded.
func TestAnswersFromMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	a, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	if w := do(t, a.routes(), "GET", "/data", ""); w.Code != 404 {
		t.Errorf("empty: %d", w.Code)
	}
	if w := do(t, a.routes(), "PUT", "/data", "first"); w.Code != 204 {
		t.Fatalf("PUT: %d %s", w.Code, w.Body)
	}
	if err := os.WriteFile(file, []byte("behind its back"), 0o644); err != nil {
		t.Fatal(err)
	}
	if w := do(t, a.routes(), "GET", "/data", ""); w.Body.String() != "first" {
		t.Errorf("GET: %q, want what is in memory", w.Body)
	}
	again, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	if w := do(t, again.routes(), "GET", "/data", ""); w.Body.String() != "behind its back" {
		t.Errorf("after a restart: %q", w.Body)
	}
}

func TestPageEscapesAndTheFormStores(t *testing.T) {
	a, err := open(filepath.Join(t.TempDir(), "value"))
	if err != nil {
		t.Fatal(err)
	}
	if w := do(t, a.routes(), "POST", "/data", "value=%3Cb%3Ex"); w.Code != 303 {
		t.Fatalf("POST: %d", w.Code)
	}
	if w := do(t, a.routes(), "GET", "/", ""); !strings.Contains(w.Body.String(), "&lt;b&gt;x") {
		t.Errorf("page: %s", w.Body)
	}
}

func TestHealth(t *testing.T) {
	a := &app{}
	if w := do(t, a.routes(), "GET", "/health", ""); w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
	t.Setenv("TINYAPP_HEALTH", "never")
	if w := do(t, a.routes(), "GET", "/health", ""); w.Code != 503 {
		t.Errorf("never: got %d", w.Code)
	}
}

func TestUnknownCommand(t *testing.T) {
	if err := run([]string{"dmup"}); err == nil {
		t.Error("it was accepted")
	}
	if err := run([]string{"print", filepath.Join(t.TempDir(), "no")}); err == nil {
		t.Error("printing nothing is no error")
	}
}

// The canary of flaky checks rests on this.
func TestUnstableAtFirst(t *testing.T) {
	a := &app{unstable: 2}
	for i, want := range []int{500, 500, 200, 200} {
		if w := do(t, a.routes(), "GET", "/unstable", ""); w.Code != want {
			t.Errorf("request %d: %d, want %d", i+1, w.Code, want)
		}
	}
}
