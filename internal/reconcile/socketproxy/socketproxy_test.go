package socketproxy

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
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
