package main

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// trial is one fault on a chain: a pull request and a cc-ci of its own.
type trial struct {
	*chain
	pull   int
	commit string
	builds int // before it
}

// try starts cc-ci and opens a pull request for one fault.
func (c *chain) try(t *testing.T, branch string) *trial {
	t.Helper()
	mine := *c
	mine.t = t
	tr := &trial{chain: &mine, pull: mine.freshPull(branch), builds: len(mine.runs())}
	tr.commit = tr.head(tr.pull)
	tr.start()
	return tr
}

// wish asks for a test.
func (tr *trial) wish() {
	tr.t.Helper()
	tr.gitea.Comment(tr.t, tr.repo, tr.pull, "ada", "!testme")
}

// reaches waits until people are told that the recipe is tested.
func (tr *trial) reaches() {
	tr.t.Helper()
	tr.until("the run", time.Minute, func() bool {
		bodies := tr.ours(tr.pull)
		return len(bodies) == 1 && strings.Contains(bodies[0], " running: ")
	})
}

// says waits for a line in cc-ci's log.
func (tr *trial) says(text string) {
	tr.t.Helper()
	tr.until("cc-ci says "+text, 2*time.Minute, func() bool { return strings.Contains(tr.serve.out.String(), text) })
}

// once checks that the wish came to one comment with the right verdict on the
// right commit by one build, and ends cc-ci.
func (tr *trial) once() {
	tr.t.Helper()
	tr.until("the verdict on the commit", 3*time.Minute, func() bool { return tr.state(tr.commit) == "success" })
	tr.until("the verdict in the comment", time.Minute, func() bool {
		bodies := tr.ours(tr.pull)
		return len(bodies) > 0 && strings.Contains(bodies[len(bodies)-1], " passed: ")
	})
	if bodies := tr.ours(tr.pull); len(bodies) != 1 {
		tr.t.Errorf("%d comments about one wish:\n%s", len(bodies), strings.Join(bodies, "\n---\n"))
	}
	if got := len(tr.runs()) - tr.builds; got != 1 {
		tr.t.Errorf("%d builds for one wish", got)
	}
	r := tr.result(tr.pull)
	if r.Status != ccci.StatusPassed || string(r.Commit) != tr.commit || r.Teardown == nil || !r.Teardown.Clean {
		tr.t.Errorf("%s of %s, teardown %+v", r.Status, r.Commit, r.Teardown)
	}
	tr.serve.cmd.Process.Signal(syscall.SIGINT)
	tr.serve.wait(tr.t, time.Minute)
	nothingLeftOf(tr.t, r.RunID)
}

// U14, A11: Gitea is killed at several steps of the chain, and comes back: one wish,
// one comment, the right verdict.
func TestU14_ChainSurvivesGiteaKilled(t *testing.T) {
	together(t)
	survives(t, giteaKills)
}

// U14, A11: so are Drone and cc-ci itself.
func TestU14_ChainSurvivesDroneAndItselfKilled(t *testing.T) {
	together(t)
	survives(t, engineKills)
}

func survives(t *testing.T, kills map[string]func(*trial)) {
	t.Helper()
	c := startChain(t, "canary-good", nil)
	for _, what := range slices.Sorted(maps.Keys(kills)) {
		name := strings.ReplaceAll(what, " ", "-")
		t.Run(name, func(t *testing.T) {
			tr := c.try(t, "kill-"+name)
			kills[what](tr)
			tr.once()
		})
	}
}

var (
	giteaKills = map[string]func(*trial){
		"Gitea before the comment is read": func(tr *trial) {
			tr.wish()
			tr.gitea.Kill()
			tr.says("reading comments")
			tr.gitea.Restart(tr.t)
		},
		"Gitea while the recipe is tested": func(tr *trial) {
			tr.wish()
			tr.reaches()
			tr.gitea.Kill()
			tr.says("run ended")
			tr.gitea.Restart(tr.t)
		},
	}
	engineKills = map[string]func(*trial){
		"Drone before the build": func(tr *trial) {
			tr.drone.Stop()
			tr.wish()
			tr.says("starting a run")
			tr.drone.StartAgain()
		},
		"Drone while the recipe is tested": func(tr *trial) {
			tr.wish()
			tr.reaches()
			tr.drone.Stop()
			tr.drone.StartAgain()
		},
		"cc-ci while the recipe is tested": func(tr *trial) {
			tr.wish()
			tr.reaches()
			tr.serve.cmd.Process.Signal(syscall.SIGKILL)
			tr.serve.wait(tr.t, time.Minute)
			tr.start()
		},
	}
)

// fault is what a bad network makes of a request; next asks the real server.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// badNetwork is a proxy in front of a server that spoils one request in six.
func badNetwork(t *testing.T, target string, spoil fault) (address string, spoiled *atomic.Int64) {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	next := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	spoiled = &atomic.Int64{}
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(1, 2))
	unlucky := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(6) == 0
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") && unlucky() {
			spoiled.Add(1)
			spoil(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL, spoiled
}

// U14, N2: the network between cc-ci, Gitea and Drone spoils one request in six.
func TestU14_ChainWithBadRequests(t *testing.T) {
	together(t)
	onABadNetwork(t, badRequests)
}

// U14, N2: or the answer.
func TestU14_ChainWithBadAnswers(t *testing.T) {
	together(t)
	onABadNetwork(t, badAnswers)
}

func onABadNetwork(t *testing.T, faults map[string]fault) {
	t.Helper()
	c := startChain(t, "canary-good", nil)
	for name, spoil := range faults {
		name = strings.ReplaceAll(name, " ", "-")
		t.Run(name, func(t *testing.T) {
			forge, spoiledForge := badNetwork(t, c.gitea.URL, spoil)
			engine, spoiledEngine := badNetwork(t, c.drone.URL, spoil)
			c.configure(forge, engine)
			tr := c.try(t, "network-"+name)
			tr.wish()
			tr.once()
			if spoiledForge.Load() < 3 || spoiledEngine.Load() < 3 {
				t.Errorf("%d and %d requests were spoiled: this proves nothing", spoiledForge.Load(), spoiledEngine.Load())
			}
		})
	}
}

// What may happen to a request, and to an answer.
var (
	badRequests = map[string]fault{
		"drops requests": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { hangUp(w) },
		"doubles requests": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			body, _ := io.ReadAll(r.Body)
			if r.Method != http.MethodPost { // two equal POSTs are two wishes to any server
				again := r.Clone(r.Context())
				again.Body = io.NopCloser(bytes.NewReader(body))
				next.ServeHTTP(httptest.NewRecorder(), again)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			next.ServeHTTP(w, r)
		},
		"is slow": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			select {
			case <-time.After(2 * time.Second):
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		},
	}
	badAnswers = map[string]fault{
		"loses answers": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(httptest.NewRecorder(), r) // it was done, and nobody hears of it
			hangUp(w)
		},
		"cuts answers": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			for k, v := range whole.Header() {
				w.Header()[k] = v
			}
			w.Header().Del("Content-Length")
			w.WriteHeader(whole.Code)
			w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
			http.NewResponseController(w).Flush()
			hangUp(w)
		},
		"answers HTML": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html><body>We will be back soon</body></html>")
		},
	}
)
