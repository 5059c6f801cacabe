package gitea

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
)

// faulty is a proxy in front of a forge. fault, when set, answers in its place, or
// spoils its answer.
type faulty struct {
	*httptest.Server
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request, whole func() *httptest.ResponseRecorder)]
}

func inFrontOf(t testing.TB, target string) *faulty {
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	f := &faulty{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil {
			(*fault)(w, r, func() *httptest.ResponseRecorder {
				rec := httptest.NewRecorder()
				proxy.ServeHTTP(rec, r)
				return rec
			})
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *faulty) set(fault func(http.ResponseWriter, *http.Request, func() *httptest.ResponseRecorder)) {
	f.fault.Store(&fault)
}

type recorder = func() *httptest.ResponseRecorder

var faults = map[string]func(http.ResponseWriter, *http.Request, recorder){
	"dropped before": func(http.ResponseWriter, *http.Request, recorder) { panic(http.ErrAbortHandler) },
	"dropped after":  func(_ http.ResponseWriter, _ *http.Request, whole recorder) { whole(); panic(http.ErrAbortHandler) },
	"500":            func(w http.ResponseWriter, _ *http.Request, _ recorder) { w.WriteHeader(500) },
	"502 after": func(w http.ResponseWriter, _ *http.Request, whole recorder) {
		whole()
		http.Error(w, "bad gateway", 502)
	},
	"404 of the proxy": func(w http.ResponseWriter, _ *http.Request, _ recorder) { http.Error(w, "404 page not found", 404) },
	"a page": func(w http.ResponseWriter, _ *http.Request, _ recorder) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<html>Back soon</html>")
	},
	"a page that calls itself JSON": func(w http.ResponseWriter, _ *http.Request, _ recorder) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "<html>Back soon</html>")
	},
	"truncated": func(w http.ResponseWriter, _ *http.Request, whole recorder) {
		answer := whole().Body.Bytes()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)+1))
		w.Write(answer[:len(answer)/2])
	},
	"cut off and shortened": func(w http.ResponseWriter, _ *http.Request, whole recorder) {
		answer := whole().Body.Bytes()
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer[:len(answer)/2])
	},
	"a redirect": func(w http.ResponseWriter, r *http.Request, _ recorder) { http.Redirect(w, r, "/user/login", 303) },
	"without end": func(w http.ResponseWriter, r *http.Request, _ recorder) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `[{"body":"`)
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
				return
			}
		}
	},
}

// Whatever stands between cc-ci and its forge, trouble is an error that may be tried
// again: never "not found", which is final, never a shorter list, never a second comment.
func TestN2_FaultsOnTheWay(t *testing.T) {
	s := gitea(t)
	faulted := ccci.RepoRef{Owner: "faulted", Name: "tiny"}
	work := forgetest.NewWork(t, clean(t, s, faulted))
	work.Commit("main", "compose.yml", "a")
	head := work.Commit("update", "compose.yml", "b")
	s.Collaborator(t, faulted.String(), "ada", "read")
	pr := ccci.PRRef{Repo: faulted, Number: s.OpenPull(t, faulted.String(), "ada", "Update", "update", "main")}
	s.AddMember(t, "coop", bot)
	front := inFrontOf(t, s.URL)
	var log bytes.Buffer
	f := connect(t, s, func(o *Options) {
		o.URL, o.Logger, o.Transport = front.URL, slog.New(slog.NewTextHandler(&log, nil)), &http.Transport{DisableKeepAlives: true}
	})
	if _, err := f.Self(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := commentOn(t, s, f, pr, "ada", "!testme")
	ada := account{s.User(t, "ada"), "ada"}.user()
	calls := map[string]func() error{
		"Comments": func() error {
			_, cursor, err := f.Comments(t.Context(), faulted, "7")
			if err != nil && cursor != "7" {
				t.Errorf("the cursor moved to %q", cursor)
			}
			return err
		},
		"PullRequest": func() error { _, err := f.PullRequest(t.Context(), pr); return err },
		"HeadAt":      func() error { _, err := f.HeadAt(t.Context(), pr, asked); return err },
		"Member": func() error {
			yes, err := f.Member(t.Context(), "coop", ada)
			if yes {
				t.Error("a fault made somebody a member")
			}
			return err
		},
		"PostComment": func() error { _, err := f.PostComment(t.Context(), pr, "run/1", "hello"); return err },
		"SetStatus": func() error {
			return f.SetStatus(t.Context(), faulted, head, ccci.CommitStatus{Context: "cc-ci/testme", State: ccci.StatePending})
		},
	}
	for name, fault := range faults {
		front.set(fault)
		for what, call := range calls {
			err := call()
			if err == nil || errors.Is(err, ccci.ErrNotFound) || errors.Is(err, ccci.ErrHeadUnknown) || ccci.CodeOf(err) != ccci.CodeInfra {
				t.Errorf("%s, %s: %v; want an error that may be tried again", what, name, err)
			}
			if err != nil && strings.Contains(err.Error()+ccci.HintOf(err), f.token.Reveal()) {
				t.Errorf("%s, %s: the token stands in %q", what, name, err)
			}
		}
	}
	front.fault.Store(nil)
	for what, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s, when all is well again: %v", what, err)
		}
	}
	if strings.Contains(log.String(), f.token.Reveal()) {
		t.Error("the token stands in the log")
	}

	// Only the write goes wrong, after the forge has done it.
	for _, name := range []string{"dropped after", "502 after", "truncated", "cut off and shortened"} {
		front.set(func(w http.ResponseWriter, r *http.Request, whole recorder) {
			if r.Method == http.MethodPost {
				faults[name](w, r, whole)
				return
			}
			rec := whole()
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes())
		})
		if _, err := f.PostComment(t.Context(), pr, "lost/"+name, "hello"); err == nil {
			t.Errorf("%s: the post came through", name)
		}
		front.fault.Store(nil)
		if _, err := f.PostComment(t.Context(), pr, "lost/"+name, "hello"); err != nil {
			t.Error(err)
		}
	}
	var thread []row
	if _, err := s.Do("", "GET", fmt.Sprintf("/repos/%s/issues/%d/comments", faulted, pr.Number), nil, &thread); err != nil {
		t.Fatal(err)
	}
	if len(thread) != 6 { // !testme, run/1 and four that were lost on the way
		t.Errorf("readers see %d comments, want 6", len(thread))
	}
}

// A forge that asks to be left alone is.
func TestA4_RetryAfterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, status, after := 0, 429, "90"
		f, err := New(Options{URL: "https://git.example.org", Token: ccci.NewSecret(token), Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			requests++
			rec := httptest.NewRecorder()
			rec.Header().Set("Retry-After", after)
			rec.Header().Set("Content-Type", "application/json")
			rec.WriteHeader(status)
			io.WriteString(rec, "[]")
			return rec.Result(), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		poll := func() error { _, _, err := f.Comments(t.Context(), repo, ""); return err }
		if err := poll(); err == nil {
			t.Fatal("429 is no error")
		}
		var busy *Busy
		if err := poll(); !errors.As(err, &busy) || !busy.Until.Equal(time.Now().Add(90*time.Second)) || requests != 1 {
			t.Errorf("within its 90 seconds: %v after %d requests", err, requests)
		}
		time.Sleep(90 * time.Second)
		status, after = 503, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
		if err := poll(); err == nil || requests != 2 {
			t.Errorf("after 90 seconds: %v after %d requests", err, requests)
		}
		status = 200
		time.Sleep(restLimit) // an hour is more than anybody may ask for
		if err := poll(); err != nil || requests != 3 {
			t.Errorf("after the longest rest: %v after %d requests", err, requests)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestA4_AHangingForgeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := New(Options{URL: "https://git.example.org", Token: ccci.NewSecret(token), Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := f.PullRequest(context.Background(), ccci.PRRef{Repo: repo, Number: 1}); err == nil || errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("it says %v", err)
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
