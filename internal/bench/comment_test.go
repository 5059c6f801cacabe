package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/examples"
)

const (
	comments   = 5
	commentBar = time.Second
)

// BenchmarkCommentToHarness measures from the moment in which a person sends
// !testme on the pull request's page until the harness writes its first line: comment
// stored, noticed, authorised, pinned, claimed, queued, process started, machine looked at. The
// reference is the start of a harness alone, by hand on the same machine.
func BenchmarkCommentToHarness(b *testing.B) {
	w := ready(b)
	repo, err := examples.Materialise(filepath.Join(w.dir, "recipes"), "canary-good")
	if err != nil {
		b.Fatal(err)
	}
	config, data := w.config(b, "repos:\n  - repo: coop/canary-good\n")
	s := w.serve(b, config, data)
	branch, err := examples.UpgradeBranch("canary-good")
	if err != nil {
		b.Fatal(err)
	}
	s.cli(b, "forge", "import", repo, "coop/canary-good")
	s.cli(b, "forge", "pr", "coop/canary-good", branch)
	for b.Loop() {
		var ours, theirs []time.Duration
		for range comments {
			ours = append(ours, s.commentToLine(b))
			s.idle(b)
			theirs = append(theirs, s.byHandToLine(b, repo, branch))
		}
		worst := quantile(sorted(ours), 1)
		b.ReportMetric(median(ours).Seconds(), "s/start")
		verdict(b, median(ours) <= commentBar, row{
			figure: fmt.Sprintf("comment to first line of the harness, median of %d", comments), ours: fmt.Sprintf("%s, at most %s", seconds(median(ours)), seconds(worst)),
			reference: fmt.Sprintf("cc-ci run by hand %s", seconds(median(theirs))), ratio: fmt.Sprintf("%.2f", median(ours).Seconds()/median(theirs).Seconds()), bar: "<= " + seconds(commentBar),
		})
	}
}

// service is a cc-ci that serves.
type service struct {
	w            *world
	config, data string
	url          string
	http         *http.Client
}

var serving = regexp.MustCompile(`serving (http://\S+)`)

// serve starts cc-ci serve and ends it with the benchmark.
func (w *world) serve(b *testing.B, config, data string) *service {
	b.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), w.program, "--config", config, "serve")
	stderr, err := os.Create(filepath.Join(w.dir, "serve.log"))
	if err != nil {
		b.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it ends with 143
	})
	jar, _ := cookiejar.New(nil) // without options it cannot fail
	s := &service{w: w, config: config, data: data, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if found := serving.FindStringSubmatch(lines.Text()); found != nil {
			s.url = found[1]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return s
		}
	}
	text, _ := os.ReadFile(stderr.Name())
	b.Fatalf("cc-ci serve ended: %s", text)
	return nil
}

// cli runs a command on the server's data.
func (s *service) cli(b *testing.B, args ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), s.w.program, append([]string{"--config", s.config}, args...)...).CombinedOutput(); err != nil {
		b.Fatalf("cc-ci %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

var formToken = regexp.MustCompile(`name="token"[^>]*value="([^"]+)"`)

// comment writes on the pull request as a person does, on its page. It returns the
// moment before the form was sent.
func (s *service) comment(b *testing.B, body string) time.Time {
	b.Helper()
	page := s.url + "/pulls/coop/canary-good/1"
	answer, err := s.http.Get(page)
	if err != nil {
		b.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		b.Fatal(err)
	}
	token := formToken.FindSubmatch(text)
	if token == nil {
		b.Fatalf("no form on %s (%s)", page, answer.Status)
	}
	sent := time.Now()
	answer, err = s.http.PostForm(page+"/comments", url.Values{"token": {string(token[1])}, "body": {body}})
	if err != nil {
		b.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		b.Fatalf("commenting: %s", answer.Status)
	}
	return sent
}

// commentToLine asks for a run, waits for its log's first line, and cancels it.
func (s *service) commentToLine(b *testing.B) time.Duration {
	b.Helper()
	known := map[string]bool{}
	for _, log := range s.logs(b) {
		known[log] = true
	}
	sent := s.comment(b, "!testme stages=install")
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var took time.Duration
	err := await(ctx, 2*time.Millisecond, func() (bool, error) {
		for _, log := range s.logs(b) {
			text, err := os.ReadFile(log)
			if err == nil && !known[log] && strings.Contains(string(text), ": recipe canary-good at ") {
				took = time.Since(sent)
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		b.Fatalf("waiting for the harness: %v", err)
	}
	s.comment(b, "!cancel")
	return took
}

func (s *service) logs(b *testing.B) []string {
	b.Helper()
	logs, err := filepath.Glob(filepath.Join(s.data, "builds", "*", "log"))
	if err != nil {
		b.Fatal(err)
	}
	return logs
}

// idle waits until no run is unfinished.
func (s *service) idle(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	err := await(ctx, 50*time.Millisecond, func() (bool, error) {
		for _, log := range s.logs(b) {
			text, err := os.ReadFile(log)
			if err != nil || !strings.Contains(string(text), "verdict: ") {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		b.Fatalf("waiting until the run is over: %v", err)
	}
}

// byHandToLine starts a harness on the same machine, until its first line.
func (s *service) byHandToLine(b *testing.B, repo, branch string) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), s.w.program, "--config", s.config, "run", repo, "--head", branch, "--stages", "install", "--out", b.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_, readErr := bufio.NewReader(out).ReadString('\n')
	took := time.Since(began)
	_ = cmd.Process.Signal(syscall.SIGTERM) // it tears down first
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if readErr != nil {
		b.Fatalf("cc-ci run said nothing: %v", readErr)
	}
	return took
}
