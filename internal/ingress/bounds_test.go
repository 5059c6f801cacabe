package ingress

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/quota"
)

// serving runs the container's side and returns the address of the entry point web.
func serving(t *testing.T) (address string) {
	t.Helper()
	dir := stateDir(t.TempDir())
	if err := dir.make(); err != nil {
		t.Fatal(err)
	}
	if err := dir.ensureCertificates("ci.localhost", time.Now()); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, []string{"--conf", dir.conf(), "--socket", filepath.Join(dir.run(), socketFile), "--http", address, "--https", "127.0.0.1:0"})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address
}

// Apps reach the ingress on the networks of their runs, so that what each of their connections can make
// it hold is bounded, and all of them together by the container.
func TestN3_IngressIsBounded(t *testing.T) {
	if r := resources(); r.Memory <= 0 || r.Memory > 1<<30 || r.PidsLimit == nil || *r.PidsLimit <= 0 {
		t.Errorf("the container may take %+v", r)
	}
	address := serving(t)
	noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(size int) int {
		req, err := http.NewRequest(http.MethodGet, "http://"+address+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", strings.Repeat("x", size))
		for range 200 {
			res, err := noRedirect.Do(req)
			if err == nil {
				res.Body.Close()
				return res.StatusCode
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("it does not answer")
		return 0
	}
	if status := ask(30 << 10); status != http.StatusMovedPermanently {
		t.Errorf("30 KiB of headers: %d", status)
	}
	if status := ask(200 << 10); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("200 KiB of headers: %d", status)
	}
}

// N3: one address gets so many connections and no more, with or without a request, and others theirs. What it
// gives back it may have again.
func TestN3_ConnectionsOfOneAddressAreBounded(t *testing.T) {
	address := serving(t)
	greedy := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	var first net.Conn
	await(t, func() (err error) { first, err = greedy.Dial("tcp", address); return err })
	defer first.Close()
	const beyond = 10
	closed := make(chan struct{}, connectionsPer+beyond)
	for range connectionsPer - 1 + beyond {
		c, err := greedy.Dial("tcp", address)
		if err != nil { // it was closed before it was known here
			closed <- struct{}{}
			continue
		}
		defer c.Close()
		go func() {
			_, _ = c.Read(make([]byte, 1)) // until it is closed
			closed <- struct{}{}
		}()
	}
	for n := range beyond {
		select {
		case <-closed:
		case <-time.After(20 * time.Second): // less than the time for a header
			t.Fatalf("%d of %d connections beyond the limit are closed", n, beyond)
		}
	}
	ask := func(c net.Conn, err error) error {
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	if err := ask(net.Dial("tcp", address)); err != nil {
		t.Errorf("another address: %v", err)
	}
	if len(closed) > 0 {
		t.Errorf("%d connections within the limit are closed", len(closed))
	}
	if err := ask(greedy.Dial("tcp", address)); err == nil {
		t.Error("one more gets an answer")
	}
	first.Close()
	await(t, func() error { return ask(greedy.Dial("tcp", address)) })
}

// N3: requests are counted too, since HTTP/2 has many on one connection.
func TestN3_RequestsOfOneAddressAreBounded(t *testing.T) {
	q, entered, end := quota.New(5, 2), make(chan struct{}), make(chan struct{})
	h := bounded(q, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-end }))
	ask := func(from string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	answers := make(chan int, 3)
	for _, from := range []string{"10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"} {
		go func() { answers <- ask(from) }()
		<-entered
	}
	if got := ask("10.0.0.1:3"); got != http.StatusServiceUnavailable {
		t.Errorf("a request beyond the limit: %d", got)
	}
	close(end)
	for range 3 {
		if got := <-answers; got != http.StatusOK {
			t.Errorf("a request within it: %d", got)
		}
	}
	go func() { answers <- ask("10.0.0.1:3") }()
	<-entered
	if got := <-answers; got != http.StatusOK {
		t.Errorf("after the others: %d", got)
	}
}

// await calls do until it returns no error.
func await(t *testing.T, do func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
