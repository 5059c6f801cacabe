// Command await asks whether something answers, once or until it does, and can
// then become another program. It is the health check and the start gate of
// images that hold no shell tools:
//
//	await http://127.0.0.1:8090/api/health
//	await -for 60s tcp://db:5432 -- miniflux
//
// It exits 0 when the target answers, 1 when it does not, 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	attempt = 3 * time.Second        // longest single try
	pause   = 200 * time.Millisecond // between tries
)

func main() {
	limit := flag.Duration("for", 0, "keep asking for this long; 0 asks once")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: await [-for DURATION] http://HOST:PORT/PATH | tcp://HOST:PORT [-- PROGRAM ARG...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	target, rest := flag.Arg(0), flag.Args()[1:]
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	if err := await(target, *limit); err != nil {
		fmt.Fprintf(os.Stderr, "await: %v\n", err)
		os.Exit(1)
	}
	if len(rest) == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "await: becoming %s: %v\n", rest[0], become(rest))
	os.Exit(1)
}

// await tries target until it answers or limit is over.
func await(target string, limit time.Duration) error {
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("reading the target: %w", err)
	}
	deadline := time.Now().Add(limit)
	for {
		err := try(u)
		if err == nil {
			return nil
		}
		if time.Now().Add(pause).After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// try asks once.
func try(u *url.URL) error {
	ctx, cancel := context.WithTimeout(context.Background(), attempt)
	defer cancel()
	switch u.Scheme {
	case "tcp":
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return err
		}
		return conn.Close()
	case "http":
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 400 {
			return fmt.Errorf("%s answers %s", u, resp.Status)
		}
		return nil
	}
	return errors.New("the target must begin with http:// or tcp://")
}

// become replaces this process; it returns only when that is impossible.
func become(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}
