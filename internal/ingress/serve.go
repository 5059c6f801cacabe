package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/recipe-maintainers/cc-ci/internal/quota"
)

// Serve is the command "cc-ci ingress serve", run in the ingress's container. It
// returns after ctx ended and open requests had up to 5 s to finish.
func Serve(ctx context.Context, args []string) error {
	s := server{
		logger:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
		resolver: net.DefaultResolver,
	}
	flags := flag.NewFlagSet("ingress serve", flag.ContinueOnError)
	flags.StringVar(&s.conf, "conf", "/conf", "directory with tls.pem and routes/")
	flags.StringVar(&s.socket, "socket", "/run/cc-ci/"+socketFile, "Unix socket for the host side")
	flags.StringVar(&s.httpAddr, "http", ":8080", "address of the entry point web")
	flags.StringVar(&s.httpsAddr, "https", ":8443", "address of the entry point web-secure")
	flags.IntVar(&s.published, "https-port", 443, "port by which clients reach web-secure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return s.run(ctx)
}

// server is the container side.
type server struct {
	conf, socket        string
	httpAddr, httpsAddr string
	published           int
	logger              *slog.Logger
	resolver            resolver

	reloading   sync.Mutex
	proxies     *proxies
	routes      atomic.Pointer[table]
	certificate atomic.Pointer[tls.Certificate]
}

func (s *server) run(ctx context.Context) error {
	s.proxies = newProxies(s.resolver, s.logger)
	if err := s.reload(); err != nil {
		return fmt.Errorf("starting the ingress: %w", err)
	}
	if err := os.Remove(s.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("starting the ingress: %w", err)
	}
	errs := slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug)
	connections, requests := quota.New(mostConnections, connectionsPer), quota.New(mostRequests, requestsPer)
	secure := bounded(requests, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.routes.Load().ServeHTTP(w, r) }))
	servers := []struct {
		network, addr string
		http          *http.Server
	}{
		{"tcp", s.httpAddr, &http.Server{Handler: redirectToHTTPS(s.published)}},
		{"tcp", s.httpsAddr, &http.Server{Handler: secure, TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
		}}},
		// The socket comes last: who can talk to it knows that the others listen.
		{"unix", s.socket, &http.Server{Handler: s.control()}},
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, each := range servers {
		each.http.ReadHeaderTimeout = 30 * time.Second
		each.http.MaxHeaderBytes = 64 << 10
		each.http.IdleTimeout = 3 * time.Minute
		each.http.ErrorLog = errs
		listener, err := net.Listen(each.network, each.addr)
		if err != nil {
			return fmt.Errorf("starting the ingress: %w", err)
		}
		if tcp, ok := listener.(*net.TCPListener); ok { // not who holds the Unix socket
			listener = connections.Listen(tcp)
		}
		group.Go(func() error {
			err := serveOn(each.http, listener)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
		group.Go(func() error {
			<-ctx.Done()
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if each.http.Shutdown(grace) != nil {
				return each.http.Close()
			}
			return nil
		})
	}
	s.logger.Info("ingress listens", "https", s.httpsAddr, "http", s.httpAddr)
	return group.Wait()
}

// What the clients of both entry points hold at a time, in sum and by address. Apps are clients too, on the
// networks of their runs. HTTP/2 has many requests on one connection, and a connection may
// have none. On the ports of the host, all of its users may have one address: Docker's.
const (
	mostConnections, connectionsPer = 2048, 256
	mostRequests, requestsPer       = 2048, 512
)

// bounded answers 503 to a request beyond the quota. One that became another protocol counts
// until that ends.
func bounded(q *quota.Quota, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := quota.Client(quota.Peer(r.RemoteAddr))
		if !q.Enter(who, 1) {
			quota.Busy(w, "too many requests at a time; try again in a few seconds", "5")
			return
		}
		defer q.Leave(who, 1)
		next.ServeHTTP(w, r)
	})
}

func serveOn(srv *http.Server, l net.Listener) error {
	if srv.TLSConfig != nil {
		return srv.ServeTLS(l, "", "")
	}
	return srv.Serve(l)
}

// control is what the host side may ask.
func (s *server) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d routes\n", len(*s.routes.Load()))
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		if err := s.reload(); err != nil {
			s.logger.ErrorContext(r.Context(), "routes not loaded", "error", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.logger.InfoContext(r.Context(), "routes loaded", "routes", len(*s.routes.Load()))
	})
	return mux
}

// reload reads certificate and routes. On an error the old ones stay.
func (s *server) reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	name := filepath.Join(s.conf, tlsFile)
	pair, err := tls.LoadX509KeyPair(name, name)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	routers, err := readRoutes(filepath.Join(s.conf, "routes"))
	if err != nil {
		return err
	}
	t, err := newTable(routers, s.proxies.handler)
	if err != nil {
		return err
	}
	s.certificate.Store(&pair)
	s.routes.Store(&t)
	s.proxies.forget()
	return nil
}
