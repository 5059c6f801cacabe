package github

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

var live = flag.Bool("live", false, "play the behaviour table against GitHub itself (needs GITHUB_TOKEN; GITHUB_LIVE_PR=OWNER/REPO#NUMBER for writes)")

func TestBehaviour(t *testing.T) {
	for _, b := range githubfake.Behaviours {
		t.Run(b.Name, func(t *testing.T) {
			s := newFake(t, githubfake.Options{})
			if _, err := s.CreateRepo(repo, false); err != nil {
				t.Fatal(err)
			}
			pr := s.OpenIssue(repo, "an issue", "ada")
			s.Comment(pr, "ada", "hello")
			scene := githubfake.Scene{Repo: repo.String(), N: "1"}
			if b.Prepare != nil {
				b.Prepare(s, scene)
			}
			play(t, b, s.APIURL+scene.At(b.Request.Path), s.Token("cc-ci"))
		})
	}
}

func TestBehaviourLive(t *testing.T) {
	token := os.Getenv("GITHUB_TOKEN")
	if !*live || token == "" {
		t.Skip("this asks GitHub itself: run it with -live and a token in GITHUB_TOKEN")
	}
	for _, b := range githubfake.Behaviours {
		t.Run(b.Name, func(t *testing.T) {
			path := b.Live
			if path == "" {
				t.Skip("this cannot be provoked on GitHub without doing harm")
			}
			if strings.Contains(path, "{PR}") {
				repo, number, ok := strings.Cut(os.Getenv("GITHUB_LIVE_PR"), "#")
				if !ok {
					t.Skip("this needs a pull request to write on: GITHUB_LIVE_PR=OWNER/REPO#NUMBER")
				}
				path = strings.ReplaceAll(path, "{PR}", "repos/"+repo+"/issues/"+number)
			}
			play(t, b, "https://api.github.com/"+path, token)
		})
	}
}

// play makes the request and compares the answer with the table.
func play(t *testing.T, b githubfake.Behaviour, url, token string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(etag string) (*http.Response, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), b.Request.Method, url, strings.NewReader(b.Request.Body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
		if etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, text
	}
	resp, text := ask("")
	if b.Request.Again {
		left := resp.Header.Get("X-RateLimit-Used")
		resp, text = ask(resp.Header.Get("ETag"))
		if used := resp.Header.Get("X-RateLimit-Used"); used != left {
			t.Errorf("an answer of 304 cost points: %s were used before and %s after", left, used)
		}
	}
	if resp.StatusCode != b.Status {
		t.Fatalf("%s %s: %s, want %d\n%.500s", b.Request.Method, url, resp.Status, b.Status, text)
	}
	for name, want := range b.Header {
		if values := resp.Header.Values(name); len(values) == 0 || !strings.Contains(values[0], want) {
			t.Errorf("%s is %q, want %q in it", name, values, want)
		}
	}
	var body struct{ Message string }
	if b.Message != "" && (json.Unmarshal(bytes.TrimSpace(text), &body) != nil || !strings.Contains(body.Message, b.Message)) {
		t.Errorf("the answer is %.500q, want the message %q", text, b.Message)
	}
}
