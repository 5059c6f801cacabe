package ingress

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Apps reach the ingress on the networks of their runs, so that what each of their connections can make
// it hold is bounded, and all of them together by the container.
func TestN3_IngressIsBounded(t *testing.T) {
	if r := resources(); r.Memory <= 0 || r.Memory > 1<<30 || r.PidsLimit == nil || *r.PidsLimit <= 0 {
		t.Errorf("the container may take %+v", r)
	}
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
	address := free.Addr().String()
	free.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, []string{"--conf", dir.conf(), "--socket", filepath.Join(dir.run(), socketFile), "--http", address, "--https", "127.0.0.1:0"})
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
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
