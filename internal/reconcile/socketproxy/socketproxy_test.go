package socketproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A25: what Traefik asks for is answered, without what is nobody's business; all else is refused before Docker
// hears of it.
func TestA25_WhatIsAnswered(t *testing.T) {
	asked := make(chan string, 10)
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan struct{})
	docker := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.String()
		switch {
		case strings.HasSuffix(r.URL.Path, "/services"):
			io.WriteString(w, `[{"ID":"s","Spec":{"Name":"app","Labels":{"traefik.enable":"true"},"TaskTemplate":{"ContainerSpec":{"Env":["PASSWORD=geheim"]},"Networks":[{"Target":"n"}]}},"PreviousSpec":{"TaskTemplate":{"ContainerSpec":{"Env":["PASSWORD=geheim"]}}}},{"ID":"t","Spec":null}]`)
		case strings.HasSuffix(r.URL.Path, "/tasks"):
			io.WriteString(w, `[{"ID":"t","Spec":{"ContainerSpec":{"Env":["PASSWORD=geheim"]}},"Status":{"State":"running"}}]`)
		case strings.HasSuffix(r.URL.Path, "/events"):
			io.WriteString(w, "first\n")
			w.(http.Flusher).Flush()
			<-next
		default:
			io.WriteString(w, "[]")
		}
	})}
	go docker.Serve(listener)
	t.Cleanup(func() { docker.Close() })
	server := httptest.NewServer(Handler(socket, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, server.URL+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for _, path := range []string{"/_ping", "/v1.41/version", "/v1.41/networks?filters=x", "/v1.41/nodes/abc1", "/v1.41/services", "/v1.41/tasks?filters=%7B%7D"} {
		status, text := ask("GET", path)
		if status != 200 || <-asked != "GET "+path || strings.Contains(text, "geheim") {
			t.Errorf("%s: %d %s", path, status, text)
		}
		if strings.Contains(path, "services") && !(strings.Contains(text, `"traefik.enable":"true"`) && strings.Contains(text, `"Target":"n"`)) {
			t.Errorf("services are %s", text)
		}
		if strings.Contains(path, "tasks") && !strings.Contains(text, `"State":"running"`) {
			t.Errorf("tasks are %s", text)
		}
	}
	for _, what := range []string{
		"POST /v1.41/services/create", "DELETE /v1.41/services/x", "POST /_ping", "PUT /v1.41/services", "GET /v1.41/secrets", "GET /v1.41/configs", "GET /containers/json",
		"GET /v1.41/containers/x/logs", "GET /v1.41/services/x", "GET /v1.41/services/x/logs", "GET /v1.41/swarm/unlockkey", "GET /v1.41/nodes/../secrets",
		"GET /v1.41/nodes%2F..%2Fsecrets", "GET //services", "GET /v1.41/services/", "GET /v1.41/info", "GET /images/x/get", "GET /", "GET /v1.41/nodes/x%00",
	} {
		method, path, _ := strings.Cut(what, " ")
		if status, text := ask(method, path); status != 403 || !strings.Contains(text, `"message"`) {
			t.Errorf("%s: %d %s", what, status, text)
		}
	}
	if len(asked) > 0 {
		t.Errorf("Docker was asked %s", <-asked)
	}
	res, err := http.Get(server.URL + "/v1.41/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != "first\n" {
		t.Errorf("an event arrives as %q, %v", line, err)
	}
	close(next)
	docker.Close()
	if status, _ := ask("GET", "/v1.41/services"); status != http.StatusBadGateway {
		t.Errorf("without Docker: %d", status)
	}
}

// One app cannot stop the routes of all: an answer may be as large as it likes, and only a service whose own
// labels are too large is left out of it.
func TestN3_LargeAnswersStopNoRoute(t *testing.T) {
	docker := listen(t, func(w http.ResponseWriter, r *http.Request) {
		fill := strings.Repeat("x", 1<<20)
		io.WriteString(w, `[{"ID":"first","Spec":{"Labels":{"traefik.enable":"true","other":"y"}}}`)
		for i := range 66 {
			fmt.Fprintf(w, `,{"ID":"big%d","Spec":{"Labels":{"traefik.enable":"true"},"TaskTemplate":{"ContainerSpec":{"Env":["A=%s"]}}}}`, i, fill)
		}
		fmt.Fprintf(w, `,{"ID":"greedy","Spec":{"Labels":{"traefik.x":"%s"}}}`, fill)
		io.WriteString(w, `,{"ID":"last","Spec":{"Labels":{"Traefik.enable":"true"}}}]`)
	})
	var log strings.Builder
	server := httptest.NewServer(Handler(docker, slog.New(slog.NewTextHandler(&log, nil))))
	defer server.Close()
	res, err := http.Get(server.URL + "/v1.41/services")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", res.Status, err)
	}
	var services []struct {
		ID   string
		Spec struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(text, &services); err != nil {
		t.Fatalf("%v in %.200q", err, text)
	}
	if n := len(services); n != 68 || services[0].ID != "first" || services[n-1].ID != "last" || len(text) > 1<<20 {
		t.Errorf("there are %d services in %d bytes", n, len(text))
	}
	if l := services[0].Spec.Labels; len(l) != 1 || l["traefik.enable"] != "true" {
		t.Errorf("the labels are %v", l)
	}
	if !strings.Contains(log.String(), "greedy") {
		t.Errorf("the log has %q", &log)
	}
}

// A service with a label at which Traefik's parser panics is left out: the others keep their routes, and
// get new ones.
func TestN3_LabelsThatEndTraefiksReading(t *testing.T) {
	docker := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `[{"ID":"first","Spec":{"Labels":{"traefik.enable":"true"}}},
			{"ID":"hostile","Spec":{"Labels":{"traefik.enable":"true","Traefik.http.middlewares.m.headers.customrequestheaders.a]":"1"}}},
			{"ID":"last","Spec":{"Labels":{"traefik.http.routers.a.tls.domains[0].main":"x","other.a]":"1"}}}]`)
	})
	var log strings.Builder
	server := httptest.NewServer(Handler(docker, slog.New(slog.NewTextHandler(&log, nil))))
	defer server.Close()
	res, err := http.Get(server.URL + "/v1.41/services")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(text), "first") || !strings.Contains(string(text), "domains[0].main") || strings.Contains(string(text), "a]") || strings.Contains(string(text), "hostile") {
		t.Errorf("%s, %v", text, err)
	}
	if !strings.Contains(log.String(), "hostile") || !strings.Contains(log.String(), "customrequestheaders") {
		t.Errorf("the log has %q", &log)
	}
}

// An answer that breaks off, or is none, is an error for whoever asks.
func TestBrokenAnswers(t *testing.T) {
	for _, text := range []string{"", "[", "{}", `[{"ID":"a"}`, `[{"ID":"a"},`, `[1]`, `[{"Spec":3}`, `[{"ID":"` + strings.Repeat("x", objectLimit+1<<20) + `"}]`} {
		docker := listen(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
		server := httptest.NewServer(Handler(docker, slog.New(slog.DiscardHandler)))
		res, err := http.Get(server.URL + "/v1.41/tasks")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if err == nil {
			t.Errorf("%.40q passes", text)
		}
		server.Close()
	}
	docker := listen(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, " [] ") })
	server := httptest.NewServer(Handler(docker, slog.New(slog.DiscardHandler)))
	defer server.Close()
	res, err := http.Get(server.URL + "/v1.41/tasks")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || strings.TrimSpace(string(text)) != "[]" {
		t.Errorf("an empty list is %q, %v", text, err)
	}
}

// While an update runs there are two: the new one takes the path over, and the end of the old one
// does not take it away. Nobody but the owner may connect.
func TestA25_TheSocketChangesHands(t *testing.T) {
	docker := listen(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "OK") })
	path := filepath.Join(t.TempDir(), "docker.sock")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	answers := func() bool {
		res, err := client.Get("http://docker/_ping")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}
	start := func() (inode uint64, stop func()) {
		before := inodeOf(path)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, path, docker, slog.New(slog.DiscardHandler)) }()
		for inodeOf(path) == before {
			select {
			case err := <-ended:
				t.Fatal(err)
			case <-time.After(time.Millisecond):
			}
		}
		return inodeOf(path), func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	_, stopFirst := start()
	if !answers() {
		t.Error("the first does not answer")
	}
	second, stopSecond := start()
	stopFirst()
	if !answers() || inodeOf(path) != second {
		t.Error("the second does not answer once the first has ended")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	stopSecond()
	_, stopThird := start() // over what a dead one left
	if !answers() {
		t.Error("the third does not answer")
	}
	stopThird()
}

func inodeOf(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// listen serves at a Unix socket and returns its path.
func listen(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return socket
}
