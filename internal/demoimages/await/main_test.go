package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAwait(t *testing.T) {
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/later" && asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if r.URL.Path == "/never" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer srv.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	host := strings.TrimPrefix(srv.URL, "http://")

	cases := []struct {
		name, target string
		limit        time.Duration
		ok           bool
	}{
		{"http", srv.URL + "/", 0, true},
		{"tcp", "tcp://" + host, 0, true},
		{"refused", "tcp://" + closed.Addr().String(), 0, false},
		{"status", srv.URL + "/never", 0, false},
		{"once is once", srv.URL + "/later", 0, false},
		{"until it answers", srv.URL + "/later", time.Minute, true},
		{"gives up", srv.URL + "/never", 300 * time.Millisecond, false},
		{"scheme", "ftp://" + host, 0, false},
	}
	for _, c := range cases {
		if err := await(c.target, c.limit); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestBecomeNamesWhatIsMissing(t *testing.T) {
	if err := become([]string{"no-such-program-anywhere"}); err == nil {
		t.Error("it became something")
	}
}
