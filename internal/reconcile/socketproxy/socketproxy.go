// Package socketproxy lets Traefik see which services there are, and nothing
// else of Docker.
//
// Whoever can write to Docker's socket is root on the host, and whoever can read from it sees
// every variable of every container. Behind this proxy Docker answers to GET and
// HEAD of the few paths that Traefik's swarm provider asks for, and what describes a
// container (command, environment, mounts, secrets) is taken out of the answers.
package socketproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// allowed are the paths, after the version of the API.
var allowed = regexp.MustCompile(`^(/v1\.[0-9]{1,3})?/(_ping|version|events|services|tasks|networks|nodes(/[a-z0-9]{1,64})?)$`)

// described are the paths whose answers describe containers.
var described = regexp.MustCompile(`/(services|tasks)$`)

// answerLimit bounds an answer that is looked into, in bytes.
const answerLimit = 64 << 20

// Handler returns what answers for the Docker at a Unix socket.
func Handler(socket string, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "docker"})
			// Named by Go's transport it is undone by it, so that the answer can be looked into.
			r.Out.Header.Del("Accept-Encoding")
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
			ResponseHeaderTimeout: 30 * time.Second,
		},
		FlushInterval:  -1, // events are to arrive when they happen
		ModifyResponse: censor,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Warn("asking Docker", "path", r.URL.Path, "error", err)
			refuse(w, http.StatusBadGateway, "Docker does not answer")
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || !allowed.MatchString(r.URL.Path) || r.URL.RawPath != "" ||
			r.Header.Get("Upgrade") != "" {
			log.Warn("refused", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr)
			refuse(w, http.StatusForbidden, "this may not be asked here")
			return
		}
		bare := r.WithContext(r.Context()) // a copy: the body of a request is its server's
		bare.Body, bare.ContentLength = http.NoBody, 0
		proxy.ServeHTTP(w, bare)
	})
}

// refuse answers as Docker does.
func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// censor takes out of an answer what describes containers.
func censor(res *http.Response) error {
	if res.StatusCode != http.StatusOK || !described.MatchString(res.Request.URL.Path) || res.Request.Method == http.MethodHead {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, answerLimit+1))
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if len(text) > answerLimit {
		return fmt.Errorf("its answer has more than %d bytes", answerLimit)
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for _, object := range list {
		for _, key := range []string{"Spec", "PreviousSpec"} {
			if err := strip(object, key); err != nil {
				return err
			}
		}
	}
	if text, err = json.Marshal(list); err != nil {
		return err
	}
	res.Body = io.NopCloser(bytes.NewReader(text))
	res.ContentLength = int64(len(text))
	res.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// strip removes ContainerSpec from a specification, be it a service's or a task's.
func strip(object map[string]json.RawMessage, key string) error {
	if object[key] == nil {
		return nil
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(object[key], &spec); err != nil || spec == nil {
		return err
	}
	if err := strip(spec, "TaskTemplate"); err != nil {
		return err
	}
	delete(spec, "ContainerSpec")
	text, err := json.Marshal(spec)
	object[key] = text
	return err
}

// Serve answers at an address until ctx ends.
func Serve(ctx context.Context, listen, socket string, log *slog.Logger) error {
	server := &http.Server{Addr: listen, Handler: Handler(socket, log), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
