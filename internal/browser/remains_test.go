package browser

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// N3: service workers and everything else that a page started end with the browser, also when
// this process is killed before it can close it.
func TestN3_BrowserLeavesNothing(t *testing.T) {
	skipWithoutChromium(t)
	t.Run("closed", func(t *testing.T) {
		b := busyBrowser(t)
		r := partsOf(t, b)
		b.Close()
		r.mustGo(t)
	})
	t.Run("killed", func(t *testing.T) {
		home := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestBrowserOfAProcessThatIsKilled$", "-test.timeout=5m")
		cmd.Dir, cmd.Stderr = "/", os.Stderr
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "CI=" + os.Getenv("CI"), "CC_CI_TEST_KILLED=1"}
		stdin, err := cmd.StdinPipe() // its end is that of this process too
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var r remains
		said, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(said, &r)
		}
		if err == nil {
			// Stopped it does not see its pipes end: the kernel has to take it along.
			err = syscall.Kill(r.First, syscall.SIGSTOP)
		}
		if killed := cmd.Process.Kill(); killed != nil {
			t.Error(killed)
		}
		_ = cmd.Wait() // it was killed
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		r.mustGo(t)
		files, err := os.ReadDir(home)
		if err != nil || len(files) > 0 {
			t.Errorf("left in its folder for temporary files: %v, %v", files, err)
		}
	})
}

// TestBrowserOfAProcessThatIsKilled is the process that the test above kills.
func TestBrowserOfAProcessThatIsKilled(t *testing.T) {
	if os.Getenv("CC_CI_TEST_KILLED") == "" {
		t.Skip("part of TestN3_BrowserLeavesNothing")
	}
	r := partsOf(t, busyBrowser(t))
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// busyBrowser is one whose page has a service worker.
func busyBrowser(t *testing.T) *Browser {
	t.Helper()
	f := newField(t)
	f.serve(t, attack{html: `<script>navigator.serviceWorker.register("/service.js?/ping").then(() => navigator.serviceWorker.ready).then(() => fetch("/done"))</script>`})
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	page, err := b.Page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := page.Open(t.Context(), "https://"+runHost+"/"); err != nil {
		t.Fatal(err)
	}
	<-f.done
	return b
}

// remains are what must not be left of a browser.
type remains struct {
	First     int            // its first process
	Processes map[int]string // when each was started, as the kernel counts
	Networks  []string       // their network namespaces
}

// partsOf lists the processes of a browser, those in namespaces of its own sandbox as well.
func partsOf(t *testing.T, b *Browser) remains {
	t.Helper()
	r := remains{First: chromedp.FromContext(b.ctx).Browser.Process().Pid, Processes: map[int]string{}}
	parents := map[int]int{}
	for pid, p := range processes(t) {
		parents[pid] = p.parent
	}
	for pid, p := range processes(t) {
		for up := pid; up > 1; up = parents[up] {
			if up == r.First {
				r.Processes[pid] = p.started
			}
		}
		// The kernel shows those of the sandbox to root alone.
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && r.Processes[pid] != "" && !slices.Contains(r.Networks, ns) {
			r.Networks = append(r.Networks, ns)
		}
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil || len(r.Processes) < 3 || len(r.Networks) == 0 || slices.Contains(r.Networks, ours) {
		t.Fatalf("the browser is %+v, and this process is in the network %s, %v", r, ours, err)
	}
	return r
}

// mustGo waits until nothing is left of a browser.
func (r remains) mustGo(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left = r.left(t); len(left) == 0 {
			return
		}
	}
	t.Errorf("left of the browser: %q", left)
}

func (r remains) left(t *testing.T) (left []string) {
	t.Helper()
	for pid, p := range processes(t) {
		ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if slices.Contains(r.Networks, ns) || r.Processes[pid] == p.started && !p.dead {
			left = append(left, fmt.Sprintf("process %d in the network %s", pid, ns))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range r.Networks {
		if strings.Contains(string(mounts), ns) {
			left = append(left, "a mount of the network "+ns)
		}
	}
	return left
}

type process struct {
	parent  int
	started string
	dead    bool // and not yet waited for
}

// processes lists all that this process sees.
func processes(t *testing.T) map[int]process {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]process{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// Its name is in brackets, and may hold some itself.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 20 {
			t.Fatalf("%s: %s", path, text)
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		all[pid] = process{parent, fields[19], fields[0] == "Z" || fields[0] == "X"}
	}
	return all
}
