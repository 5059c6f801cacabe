package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/chromedp/chromedp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// again runs tests of this program in another process.
func again(t *testing.T, pattern string, attr *syscall.SysProcAttr, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run="+pattern, "-test.v", "-test.timeout=5m")
	cmd.Dir = "/"
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME=/tmp", "CI="+os.Getenv("CI"))
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// N3: the same holds for a cc-ci that is not root, as the runner of a host is.
func TestN3_BrowserIsAGuestOfAnyUser(t *testing.T) {
	skipWithoutChromium(t)
	if os.Geteuid() != 0 {
		t.Skip("it has no other user")
	}
	again(t, "^(TestN3_BrowserIsAGuest|TestN3_BrowserSeesNoFileOfTheMachine|TestN3_BrowserLeavesNothing|TestA22_StepsInARealBrowser)$",
		&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1999, Gid: 1999, Groups: []uint32{}}})
}

// N3: and for a unit as nix/modules/runner.nix fences it: no capabilities to come by, and a /proc
// of which a part is covered, so that the kernel refuses another one.
func TestN3_BrowserIsAGuestOfAHardenedUnit(t *testing.T) {
	skipWithoutChromium(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can fence a unit")
	}
	const fences = `mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys &&
		exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --reuid=1999 --regid=1999 --clear-groups \
		/proc/self/fd/3 -test.v -test.timeout=5m '-test.run=^(TestN3_BrowserHasNoPrivileges|TestN3_BrowserSeesNoFileOfTheMachine|TestA22_StepsInARealBrowser)$'`
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", fences)
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{self}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/tmp", "CI=" + os.Getenv("CI")}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

// N3: without user namespaces root still has the others, and leaves root.
func TestN3_BrowserOfRootWithoutUserNamespaces(t *testing.T) {
	skipWithoutChromium(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can do without")
	}
	f := newField(t)
	defer syscall.Umask(syscall.Umask(0o077)) // as strict as any unit's
	b, err := start(t.Context(), options(t, f), false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ids := status(t, b, "Uid")
	if want := strconv.Itoa(guestID); !strings.Contains(ids, want) || strings.Contains(ids, "\t0") {
		t.Errorf("it runs as %q", ids)
	}
	for _, a := range attacks[:6] {
		t.Run(a.name, func(t *testing.T) {
			named := f.serve(t, a)
			page, err := b.Page(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer page.Close()
			if a.leaves {
				f.mustLeave(t, t.Context(), page, named)
			} else {
				f.mustStay(t, t.Context(), page)
			}
			if n := f.hits.Load(); n != 0 {
				t.Errorf("%d connections arrived", n)
			}
		})
	}
}

func options(t *testing.T, f *field) Options {
	t.Helper()
	path, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Path: path, Route: f.route, AnyCertificate: true}
}

// status reads a line of what the kernel says of the browser's first process.
func status(t *testing.T, b *Browser, key string) string {
	t.Helper()
	pid := chromedp.FromContext(b.ctx).Browser.Process().Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimRight(value, "\n")
		}
	}
	t.Fatalf("the kernel says nothing of %s", key)
	return ""
}

// N3: the browser has no right, no new ones to come by, and nobody's user.
func TestN3_BrowserHasNoPrivileges(t *testing.T) {
	skipWithoutChromium(t)
	b := startBrowser(t, Options{})
	for key, want := range map[string]string{
		"CapInh": "\t0000000000000000", "CapPrm": "\t0000000000000000", "CapEff": "\t0000000000000000", "CapBnd": "\t0000000000000000", "CapAmb": "\t0000000000000000",
		"NoNewPrivs": "\t1", "Seccomp": "\t2",
	} {
		if got := status(t, b, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if os.Geteuid() == 0 && !strings.HasPrefix(status(t, b, "Uid"), "\t"+strconv.Itoa(guestID)) {
		t.Errorf("it runs as %q", status(t, b, "Uid"))
	}
	pid := chromedp.FromContext(b.ctx).Browser.Process().Pid
	for _, kind := range []string{"net", "pid", "ipc", "uts", "mnt", "user"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		ours, err2 := os.Readlink("/proc/self/ns/" + kind)
		if err != nil || err2 != nil || theirs == ours {
			t.Errorf("its namespace %s is %q, %v; ours is %q, %v", kind, theirs, err, ours, err2)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Max core file size 0 0", "Max processes 1024 1024", "Max file size 536870912 536870912", "Max data size 4294967296 4294967296"} {
		if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), want) {
			t.Errorf("%q is not among its limits:\n%s", want, limits)
		}
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || strings.Contains(strings.ToLower(string(environ)), "gopath") || strings.Contains(string(environ), "DOCKER") {
		t.Errorf("its environment: %q, %v", environ, err)
	}
}

// A message of DevTools that is too long ends the connection; all others pass as they are.
func TestMessagesOfDevToolsAreBounded(t *testing.T) {
	whole := strings.Repeat(strings.Repeat("x", 1<<20)+"\x00", 40)
	var out bytes.Buffer
	if err := copyMessages(&out, iotest.HalfReader(strings.NewReader(whole))); err != io.EOF || out.String() != whole {
		t.Errorf("%d of %d bytes, %v", out.Len(), len(whole), err)
	}
	out.Reset()
	if err := copyMessages(&out, io.MultiReader(strings.NewReader("a\x00"), endless{})); err != errLongMessage || out.Len() > maxMessage+1<<20 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

// endless has no end and no zero byte.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

// N3: where there are no namespaces, there is no browser: it never runs without.
func TestN3_NoBrowserWithoutNamespaces(t *testing.T) {
	skipWithoutChromium(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can make such a machine")
	}
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	again(t, "^TestNoNamespacesInside$", &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	}, "CC_CI_TEST_WITHOUT_NAMESPACES=1")
}

// TestNoNamespacesInside is the part of the test above that runs as root of a user namespace:
// it forbids more of them, and becomes somebody else.
func TestNoNamespacesInside(t *testing.T) {
	if os.Getenv("CC_CI_TEST_WITHOUT_NAMESPACES") == "" {
		t.Skip("part of TestN3_NoBrowserWithoutNamespaces")
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgroups(nil); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setresuid(1000, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := Start(ctx, Options{})
	if err == nil {
		b.Close()
		t.Fatal("it started")
	}
	if ccci.CodeOf(err) != ccci.CodeInfra || !errors.Is(err, errNoNamespaces) || !strings.Contains(ccci.HintOf(err), "max_user_namespaces") {
		t.Errorf("%v (%s), hint %q", err, ccci.CodeOf(err), ccci.HintOf(err))
	}
}

func TestRoutes(t *testing.T) {
	run := Route(func(host, port string) string {
		if host == runHost && port == "443" {
			return "127.0.0.1:1"
		}
		return ""
	})
	for address, want := range map[string]bool{
		"https://" + runHost: true, "https://" + runHost + ":443/x?y#z": true, "https://" + strings.ToUpper(runHost) + "/": true, "wss://" + runHost + "/": true,
		"http://" + runHost + "/": true, "ws://" + runHost + "/": true, "about:blank": true, "blob:https://" + runHost + "/1-2-3": true,
		"https://" + runHost + ":444/": false, "http://" + runHost + ":8080/": false, "https://" + runHost + "./": false, "https://x." + runHost + "/": false,
		"https://" + otherRun + "/": false, "https://" + runHost + "@127.0.0.1/": false, "https://user@" + runHost + ".evil.example/": false,
		"http://127.0.0.1/": false, "http://[::1]/": false, "file:///etc/passwd": false, "data:text/html,x": false, "chrome://version": false, "chrome-error://chromewebdata/": false,
		"view-source:https://" + runHost + "/": false, "filesystem:https://" + runHost + "/x": false, "javascript:1": false, "blob:null/1-2-3": false, "ftp://" + runHost + "/": false,
		"": false, "https://": false, "//" + runHost + "/": false, "%": false,
	} {
		if got := run.reaches(address); got != want {
			t.Errorf("%q is within reach: %t, want %t", address, got, want)
		}
	}
	for address, addr := range map[string]string{"http://127.0.0.1:8080/x": "127.0.0.1:8080", "https://ci.example.org": "ci.example.org:443", "http://[::1]:1": "[::1]:1", "nothing": ""} {
		host, port, _ := endpoint(address)
		if got := Only(address)(host, port); got != addr {
			t.Errorf("%s leads to %q, want %q", address, got, addr)
		}
		if got := Only(address)("127.0.0.1", "1"); got != "" {
			t.Errorf("%s leads elsewhere: %q", address, got)
		}
	}
}

// A browser that cannot start is a fault of the infrastructure, which is said at once.
func TestBrowserThatCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"ends":              {"#!/bin/sh\necho no display; exit 3\n", 0o755, "no display"},
		"is none":           {"what is this", 0o755, "exec format error"},
		"is not executable": {"#!/bin/sh\n", 0o644, "permission denied"},
		"is killed":         {"#!/bin/sh\nkill -9 -1\n", 0o755, "starting"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/chromium"
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			b, err := Start(ctx, Options{Path: path})
			if err == nil {
				b.Close()
				t.Fatal("it started")
			}
			if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), c.want) || errors.Is(err, errNoNamespaces) || ctx.Err() != nil {
				t.Errorf("%v (%s), %v", err, ccci.CodeOf(err), ctx.Err())
			}
		})
	}
	if _, err := Start(t.Context(), Options{Path: "/nowhere/chromium"}); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("%v", err)
	}
}
