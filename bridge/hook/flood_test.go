package hook_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/race"
)

const serverVar = "CC_CI_TEST_HOOK_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverVar) != "" {
		serveAlone()
		return
	}
	os.Exit(m.Run())
}

// serveAlone is a process of its own with nothing in it but the endpoint, so that
// its memory can be measured. It ends when its standard input does.
func serveAlone() {
	n := 0
	h, err := hook.New(hook.Options{
		Publish: func(context.Context, string, ccci.RepoRef) error { n++; return nil },
		Sources: []hook.Source{{Name: "gitea", Signatures: []string{"X-Signature"}, Verify: verify}},
	})
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	server.Close()
}

// alone is such a process.
type alone struct {
	t    *testing.T
	addr string
	pid  int
}

func startAlone(t *testing.T) *alone {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVar+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &alone{t, strings.TrimSpace(addr), cmd.Process.Pid}
}

// proc reads a number of /proc/PID/status, in kB.
func (a *alone) proc(name string) int {
	a.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				a.t.Fatal(err)
			}
			return n
		}
	}
	a.t.Fatalf("no %s in %s", name, text)
	return 0
}

// cpu is the processor time that the process has used.
func (a *alone) cpu() time.Duration {
	a.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.pid))
	if err != nil {
		a.t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// pelt sends refused requests on one connection until ctx ends, many at a time.
func (a *alone) pelt(ctx context.Context, count *atomic.Int64) error {
	const batch = 100
	conn, err := net.Dial("tcp", a.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	one := "POST /hook/gitea HTTP/1.1\r\nHost: ci.example.org\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	many := []byte(strings.Repeat(one, batch))
	in := bufio.NewReaderSize(conn, 64<<10)
	for ctx.Err() == nil {
		if _, err := conn.Write(many); err != nil {
			return err
		}
		for range batch {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode != http.StatusUnauthorized {
				return fmt.Errorf("answered %s", res.Status)
			}
		}
		count.Add(batch)
	}
	return nil
}

// heave sends bodies of 30 MB until ctx ends: with and without a length, signed and not.
func (a *alone) heave(ctx context.Context, i int, bodies, bytesSent *atomic.Int64) {
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	for ; ctx.Err() == nil; i++ {
		conn, err := net.Dial("tcp", a.addr)
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		head := "POST /hook/gitea HTTP/1.1\r\nHost: ci.example.org\r\nContent-Type: application/json\r\n"
		if i%3 != 0 {
			head += "X-Signature: " + forged + "\r\n"
		}
		if i%2 == 0 {
			fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n", head, 30<<20)
		} else {
			fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n", head)
		}
		for sent := 0; sent < 30<<20 && err == nil; sent += len(chunk) {
			if i%2 == 1 {
				fmt.Fprintf(conn, "%x\r\n", len(chunk))
			}
			_, err = conn.Write(chunk)
			if i%2 == 1 {
				fmt.Fprint(conn, "\r\n")
			}
			bytesSent.Add(int64(len(chunk)))
		}
		bodies.Add(1)
		stop()
		conn.Close()
	}
}

// The endpoint under a flood: refusals are cheap, bodies of 30 MB do not fill the memory,
// and a real delivery is answered within a second.
func TestA5_Flood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds of both processors")
	}
	if race.Detector {
		t.Skip("the race detector costs more than what is measured: .ci/test runs this once more without it")
	}
	a := startAlone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var refused, bodies, sent atomic.Int64
	var all sync.WaitGroup
	used, began := a.cpu(), time.Now()
	for range 4 {
		all.Go(func() {
			if err := a.pelt(ctx, &refused); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 8 {
		all.Go(func() { a.heave(ctx, i, &bodies, &sent) })
	}
	var slowest time.Duration
	for i := 0; ctx.Err() == nil; i++ {
		body := []byte(`{"repo":"coop/wiki","event":"comment"}`)
		start := time.Now()
		r, err := http.NewRequest("POST", "http://"+a.addr+"/hook/gitea", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Signature", sign(body))
		r.Header.Set("X-Delivery", strconv.Itoa(i))
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusAccepted {
			t.Errorf("a real delivery: %s", res.Status)
		}
		slowest = max(slowest, time.Since(start))
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	all.Wait()
	took, used := time.Since(began), a.cpu()-used
	wall := float64(refused.Load()) / took.Seconds()
	perCPU := float64(refused.Load()) / used.Seconds()
	peak := a.proc("VmHWM") >> 10
	t.Logf("%.0f refusals/s (%.0f per second of the server's processor time), %d bodies of 30 MB begun (%d MB sent), peak memory %d MB, slowest real delivery %s",
		wall, perCPU, bodies.Load(), sent.Load()>>20, peak, slowest)
	if slowest > time.Second {
		t.Errorf("a real delivery took %s", slowest)
	}
	if peak >= 60 {
		t.Errorf("the process took %d MB", peak)
	}
	// A machine that is busy with other things gives the server a part of its time only.
	if wall < 15_000 && perCPU < 15_000 {
		t.Errorf("%.0f refusals/s, %.0f per second of processor time", wall, perCPU)
	}
}

// BenchmarkRefusal is a refused request over loopback, alone.
func BenchmarkRefusal(b *testing.B) {
	h, err := hook.New(hook.Options{Publish: func(context.Context, string, ccci.RepoRef) error { return nil },
		Sources: []hook.Source{{Name: "gitea", Signatures: []string{"X-Signature"}, Verify: verify}}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	a := &alone{addr: l.Addr().String()}
	b.ResetTimer()
	var count atomic.Int64
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.pelt(ctx, &count) }()
	start := time.Now()
	for count.Load() < int64(b.N) {
		select {
		case err := <-ended:
			b.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	b.ReportMetric(float64(count.Load())/time.Since(start).Seconds(), "refusals/s")
}
