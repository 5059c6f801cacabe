// Package socketproxy lets Traefik see which services there are, and nothing
// else of Docker.
//
// Whoever can write to Docker's socket is root on the host, and whoever can read from it sees
// every variable of every container. Behind this proxy Docker answers to GET and
// HEAD of the few paths that Traefik's swarm provider asks for, and what describes a
// container (command, environment, mounts, secrets) is taken out of the answers.
//
// It listens at a Unix socket alone, in a volume that it shares with Traefik. An address
// or a name could be taken over by an app in one of Traefik's networks.
package socketproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"time"
)

// allowed are the paths, after the version of the API.
var allowed = regexp.MustCompile(`^(/v1\.[0-9]{1,3})?/(_ping|version|events|services|tasks|networks|nodes(/[a-z0-9]{1,64})?)$`)

// described are the paths whose answers describe containers.
var described = regexp.MustCompile(`/(services|tasks)$`)

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
		ModifyResponse: func(res *http.Response) error { return censor(res, log) },
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Warn("asking Docker", "path", r.URL.Path, "error", err)
			refuse(w, http.StatusBadGateway, "Docker does not answer")
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || !allowed.MatchString(r.URL.Path) || r.URL.RawPath != "" ||
			r.Header.Get("Upgrade") != "" {
			log.Warn("refused", "method", r.Method, "path", r.URL.Path)
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

// Serve answers at the Unix socket listen until ctx ends. Only the owner may connect. A
// socket that is there already is replaced in one step: while an update replaces this process,
// the new one has taken the path before the old one ends, and the old one leaves it alone.
func Serve(ctx context.Context, listen, socket string, log *slog.Logger) error {
	listener, err := open(listen)
	if err != nil {
		return fmt.Errorf("listening at %s: %w", listen, err)
	}
	server := &http.Server{Handler: Handler(socket, log), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// open listens at a path, whatever is there.
func open(path string) (*net.UnixListener, error) {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(next, 0o600), os.Rename(next, path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
