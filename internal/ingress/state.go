package ingress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// stateDir is the directory that host and container share.
//
//	lock              held while an ingress is started or given up
//	users             held, shared, by everyone who uses it
//	ca.key, ca.pem    the authority; the container never sees the key
//	conf/tls.pem      certificate and key, read-only for the container
//	conf/routes/*     one file per stack, read-only for the container
//	run/ingress.sock  made by the container
type stateDir string

func (d stateDir) join(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}
func (d stateDir) lock() string   { return d.join("lock") }
func (d stateDir) users() string  { return d.join("users") }
func (d stateDir) caKey() string  { return d.join("ca.key") }
func (d stateDir) caFile() string { return d.join("ca.pem") }
func (d stateDir) conf() string   { return d.join("conf") }
func (d stateDir) routes() string { return d.join("conf", "routes") }
func (d stateDir) run() string    { return d.join("run") }

const (
	tlsFile    = "tls.pem"
	socketFile = "ingress.sock"
)

func (d stateDir) make() error {
	for _, dir := range []string{string(d), d.conf(), d.routes(), d.run()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// routeFile is where a stack's routers stand. A stack name is not trusted to be
// a file name.
func (d stateDir) routeFile(stack string) (string, error) {
	if stack == "" || len(stack) > 200 || strings.ContainsAny(stack, "/\x00") || strings.HasPrefix(stack, ".") {
		return "", fmt.Errorf("%q is not a stack name", stack)
	}
	return filepath.Join(d.routes(), stack+".json"), nil
}

func (d stateDir) writeRoutes(stack string, routers []Router) error {
	name, err := d.routeFile(stack)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(routers, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(name, data)
}

func (d stateDir) removeRoutes(stack string) (existed bool, err error) {
	name, err := d.routeFile(stack)
	if err != nil {
		return false, err
	}
	err = os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// readRoutes reads all stacks' routers from a routes directory.
func readRoutes(dir string) ([]Router, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []Router
	for _, name := range names {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since Glob
		}
		if err != nil {
			return nil, err
		}
		var routers []Router
		if err := json.Unmarshal(data, &routers); err != nil {
			return nil, fmt.Errorf("reading routes %s: %w", filepath.Base(name), err)
		}
		all = append(all, routers...)
	}
	return all, nil
}

// writeFile replaces a file so that readers see the old or the new one, whole.
func writeFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// reload tells the container to read its files again and waits until it has.
func (d stateDir) reload(ctx context.Context) error {
	return d.control(ctx, http.MethodPost, "/reload")
}

// control sends one request to the container's socket.
func (d stateDir) control(ctx context.Context, method, path string) error {
	c := http.Client{Transport: &http.Transport{DialContext: d.dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, method, "http://ingress"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("talking to the ingress: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("talking to the ingress: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the ingress says: %s", bytes.TrimSpace(body))
	}
	return nil
}

// dial connects to the socket. A socket's path may have 107 bytes, and state
// directories can be deeper; the way through the open directory is short.
func (d stateDir) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	dir, err := os.Open(d.run())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketFile))
}

// isGone reports whether an error of control means that no ingress listens.
func isGone(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

func shortDigest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:12]
}
