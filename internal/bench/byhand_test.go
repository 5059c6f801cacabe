package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/ingress"
)

// operator does by hand what cc-ci does: with docker, restic, git and chromium
// as commands, and HTTP in place of curl. Where there is a choice it takes the
// faster way, so that the comparison is hard on cc-ci:
//
//   - the proxy runs already, as an operator's Traefik does (cc-ci starts its own);
//   - restic works as root on the daemon's own volume folder, without a container;
//   - the restic repository is made beside the first deployment;
//   - the login is tried over HTTP, without a browser;
//   - containers are killed, not waited for, once the services are gone.
//
// endpoint_mode is set by an overlay file, where the kernel needs it.
type operator struct {
	b       *testing.B
	w       *world
	ctx     context.Context
	proxy   *ingress.Ingress
	app     app
	repo    string // of the recipe
	dir     string
	domain  string
	stack   string
	admin   string // password
	vars    []string
	http    *http.Client
	began   time.Time
	phase   time.Time
	phases  []string
	backups string // the restic repository
}

// dnsrr is for kernels without IPVS, as cc-ci chooses by itself.
const dnsrr = `version: "3.8"
services:
  app: {deploy: {endpoint_mode: dnsrr}}
  db: {deploy: {endpoint_mode: dnsrr}}
`

// app is what the script must know of a recipe with the services app and db.
type app struct {
	recipe  string
	vars    []string // of its env file and its abra.sh
	secrets []string // besides admin_password
	image   string   // of the new version

	healthy func(*operator) bool     // once the first version serves
	seed    func(*operator, string)  // the first marker
	change  func(*operator, string)  // another one
	read    func(*operator) string   // the marker that is there, "" where it cannot be read
	serves  func(*operator) bool     // whether the new version answers
	check   func(*operator)          // its own questions
	login   func(*operator)          // through the form
	hook    string                   // of the database: it takes backup, clean and restore
	stored  func(*operator) []string // what is backed up, once the hook has run
	volumes []string                 // what is restored
	whole   string                   // the one of them that is stored as a whole, if any
}

const patience = 3 * time.Minute

// newProxy starts the operator's proxy, once for all lives.
func newProxy(b *testing.B, w *world, domain string) *ingress.Ingress {
	p, err := ingress.Ensure(b.Context(), ingress.Options{Docker: w.docker, Box: w.box, Domain: domain, StateDir: filepath.Join(w.dir, "proxy")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	// Where a container has just left the network the daemon is still taking it off the node.
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	err = await(ctx, 200*time.Millisecond, func() (bool, error) {
		err := w.docker.NetworkConnect(ctx, network, p.Container(), nil)
		if cerrdefs.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// newOperator prepares what a host has before an app is made: the proxy knows
// the name. (Traefik reads it from the labels; this proxy is told.)
func newOperator(b *testing.B, w *world, proxy *ingress.Ingress, parent, repo string, a app) *operator {
	domain := "hand-" + strings.ToLower(rand.Text()[:6]) + "." + parent
	o := &operator{b: b, w: w, proxy: proxy, app: a, repo: repo, domain: domain, stack: recipe.StackName(domain), admin: rand.Text()}
	o.dir = b.TempDir()
	o.backups = filepath.Join(o.dir, "restic")
	o.vars = append(os.Environ(), "STACK_NAME="+o.stack, "DOMAIN="+domain, "LETS_ENCRYPT_ENV=production", "EXTRA_DOMAINS=",
		"SECRET_ADMIN_PASSWORD_VERSION=v1", "RESTIC_REPOSITORY="+o.backups, "RESTIC_PASSWORD=by-hand")
	o.vars = append(o.vars, a.vars...)
	for _, secret := range a.secrets {
		o.vars = append(o.vars, "SECRET_"+strings.ToUpper(secret)+"_VERSION=v1")
	}
	tree, err := recipe.Open(repo, "")
	if err != nil {
		b.Fatal(err)
	}
	rendered, err := tree.Render(recipe.RenderOptions{Domain: domain})
	if err != nil {
		b.Fatal(err)
	}
	if err := proxy.Route(b.Context(), rendered); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		o.ctx = context.WithoutCancel(b.Context())
		o.teardown()
		if err := proxy.Unroute(o.ctx, o.stack); err != nil {
			b.Error(err)
		}
	})
	jar, _ := cookiejar.New(nil) // without options it cannot fail
	o.http = &http.Client{
		Timeout: 10 * time.Second, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: proxy.CAs()},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", proxy.Addr())
			},
		},
	}
	return o
}

// life is the whole script. It returns how long it took.
func (o *operator) life() time.Duration {
	ctx, cancel := context.WithTimeout(o.b.Context(), 2*patience)
	defer cancel()
	o.ctx = ctx
	o.began = time.Now()
	o.phase = o.began
	o.install()
	o.upgrade()
	snapshot := o.backup()
	o.restore(snapshot)
	o.check()
	o.teardown()
	o.done("teardown")
	return time.Since(o.began)
}

func (o *operator) install() {
	repository := make(chan error, 1)
	go func() {
		out, err := o.command("", "restic", "init").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("restic init: %w: %s", err, out)
		}
		repository <- err
	}()
	o.run("", "git", "clone", "--quiet", o.repo, o.path("tree"))
	o.git("checkout", "--quiet", examples.Versions(o.app.recipe)[0])
	o.write("dnsrr.yml", dnsrr)
	for _, secret := range o.app.secrets {
		o.run(rand.Text(), "docker", "secret", "create", o.stack+"_"+secret+"_v1", "-")
	}
	o.run(o.admin, "docker", "secret", "create", o.stack+"_admin_password_v1", "-")
	o.deploy()
	o.until("the app answers", func() bool { return o.app.healthy(o) })
	o.app.seed(o, "A")
	o.screenshot("install")
	if err := <-repository; err != nil {
		o.b.Fatal(err)
	}
	o.done("install")
}

func (o *operator) upgrade() {
	branch, err := examples.UpgradeBranch(o.app.recipe)
	if err != nil {
		o.b.Fatal(err)
	}
	o.git("checkout", "--quiet", branch)
	o.deploy()
	o.until("the new version serves alone", func() bool {
		if !o.app.serves(o) {
			return false
		}
		// All that lives of the app is one task of the new image.
		tasks := strings.Fields(o.run("", "docker", "ps", "--filter", "label=com.docker.swarm.service.name="+o.stack+"_app", "--format", "{{.Image}}"))
		return len(tasks) == 1 && tasks[0] == o.app.image
	})
	o.mustRead("A")
	o.screenshot("upgrade")
	o.done("upgrade")
}

func (o *operator) backup() (snapshot string) {
	db := o.container("db")
	o.run("", "docker", "exec", db, o.app.hook, "backup")
	stored := o.app.stored(o)
	o.run("", o.w.restic, append([]string{"--no-cache", "backup", "--quiet", "--host", "by-hand"}, stored...)...)
	o.run("", "docker", "exec", db, o.app.hook, "clean")
	files := o.run("", o.w.restic, "--no-cache", "ls", "latest")
	for _, path := range stored {
		if !strings.Contains(files, path) {
			o.b.Fatalf("the snapshot lacks %s:\n%s", path, files)
		}
	}
	o.done("backup")
	return "latest"
}

func (o *operator) restore(snapshot string) {
	o.app.change(o, "B")
	o.mustRead("B")
	args := []string{"--no-cache", "restore", snapshot, "--quiet", "--target", "/"}
	for _, volume := range o.app.volumes {
		args = append(args, "--include", o.volume(volume))
	}
	if o.app.whole != "" { // restic stumbles over symbolic links that are there
		o.run("", "find", o.volume(o.app.whole), "-mindepth", "1", "-delete")
	}
	o.run("", o.w.restic, args...)
	o.run("", "docker", "exec", o.container("db"), o.app.hook, "restore")
	o.until("swarm has ended the update", func() bool {
		state := o.run("", "docker", "service", "inspect", "--format", "{{.UpdateStatus.State}}", o.stack+"_app")
		if strings.Contains(state, "rollback") || strings.Contains(state, "paused") {
			o.b.Fatalf("the update ended as %s", state)
		}
		return strings.TrimSpace(state) == "completed"
	})
	o.until("the old data is there", func() bool { return o.app.read(o) == "A" })
	o.done("restore")
}

func (o *operator) check() {
	o.app.check(o)
	o.app.login(o)
	o.screenshot("final")
	for _, service := range []string{"app", "db"} {
		if strings.Contains(o.run("", "docker", "service", "logs", o.stack+"_"+service), o.admin) {
			o.b.Fatal("the password is in the log")
		}
	}
	o.done("checks")
}

// teardown is legal twice.
func (o *operator) teardown() {
	o.run("", "docker", "stack", "rm", o.stack)
	label := "label=com.docker.stack.namespace=" + o.stack
	o.until("docker lists nothing", func() bool {
		if ids := strings.Fields(o.run("", "docker", "ps", "--all", "--quiet", "--filter", label)); len(ids) > 0 {
			o.try(append([]string{"docker", "rm", "--force", "--volumes"}, ids...)...)
		}
		var left int
		for _, kind := range []string{"volume", "network", "config"} {
			if ids := strings.Fields(o.run("", "docker", kind, "ls", "--quiet", "--filter", label)); len(ids) > 0 {
				o.try(append([]string{"docker", kind, "rm"}, ids...)...)
				left += len(ids)
			}
		}
		if ids := strings.Fields(o.run("", "docker", "secret", "ls", "--quiet", "--filter", "name="+o.stack+"_")); len(ids) > 0 {
			o.try(append([]string{"docker", "secret", "rm"}, ids...)...)
			left += len(ids)
		}
		return left == 0 && len(strings.Fields(o.run("", "docker", "ps", "--all", "--quiet", "--filter", label))) == 0
	})
}

func (o *operator) deploy() {
	o.runIn(o.path("tree"), "docker", "stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", "compose.yml", "-c", o.path("dnsrr.yml"), o.stack)
}

func (o *operator) container(service string) string {
	return strings.TrimSpace(o.run("", "docker", "ps", "--quiet", "--filter", "label=com.docker.swarm.service.name="+o.stack+"_"+service))
}

func (o *operator) volume(name string) string {
	return strings.TrimSpace(o.run("", "docker", "volume", "inspect", "--format", "{{.Mountpoint}}", o.stack+"_"+name))
}

func (o *operator) mustRead(title string) {
	if got := o.app.read(o); got != title {
		o.b.Fatalf("the title that is there is %q, want %q", got, title)
	}
}

func (o *operator) get(path string) (int, string) {
	return o.request(http.MethodGet, path, "", o.admin)
}

func (o *operator) put(method, path, body, password string) {
	if status, answer := o.request(method, path, body, password); status != http.StatusCreated && status != http.StatusOK {
		o.b.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
}

// post sends a form and returns the status and where it leads to.
func (o *operator) post(path string, form url.Values) (status int, location, page string) {
	answer, err := o.http.PostForm("https://"+o.domain+path, form)
	if err != nil {
		o.b.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		o.b.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Location"), string(text)
}

// request returns status 0 where nobody answers.
func (o *operator) request(method, path, body, password string) (int, string) {
	req, err := http.NewRequestWithContext(o.ctx, method, "https://"+o.domain+path, strings.NewReader(body))
	if err != nil {
		o.b.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("admin", password)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	answer, err := o.http.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}

func (o *operator) screenshot(name string) {
	png := o.path(name + ".png")
	args := []string{"--headless", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,800", "--ignore-certificate-errors",
		"--user-data-dir=" + o.path("profile"), "--host-resolver-rules=MAP " + o.domain + " " + o.proxy.Addr(), "--screenshot=" + png}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox")
	}
	args = append(args, "https://"+o.domain+"/")
	o.until("chromium takes a picture", func() bool {
		out, err := o.command("", o.w.chrome, args...).CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("ERR_NETWORK_CHANGED")) { // another program's interface: once more
			o.b.Fatalf("by hand: chromium: %v: %s", err, out)
		}
		return err == nil
	})
	if info, err := os.Stat(png); err != nil || info.Size() < 1000 {
		o.b.Fatalf("no picture of the page: %v", err)
	}
}

// until looks every 200 ms.
func (o *operator) until(what string, holds func() bool) {
	ctx, cancel := context.WithTimeout(o.ctx, patience)
	defer cancel()
	if err := await(ctx, 200*time.Millisecond, func() (bool, error) { return holds(), nil }); err != nil {
		o.b.Fatalf("by hand: waiting until %s: %v", what, err)
	}
}

func (o *operator) path(name string) string { return filepath.Join(o.dir, name) }

func (o *operator) write(name, text string) {
	if err := os.WriteFile(o.path(name), []byte(text), 0o644); err != nil {
		o.b.Fatal(err)
	}
}

func (o *operator) git(args ...string) {
	o.run("", "git", append([]string{"-C", o.path("tree")}, args...)...)
}

func (o *operator) command(stdin, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(o.ctx, name, args...)
	cmd.Env = o.vars
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

func (o *operator) run(stdin, name string, args ...string) string {
	return o.finish(o.command(stdin, name, args...))
}

func (o *operator) runIn(dir, name string, args ...string) {
	cmd := o.command("", name, args...)
	cmd.Dir = dir
	o.finish(cmd)
}

// try runs what may be too early; the caller looks again.
func (o *operator) try(args ...string) { _ = o.command("", args[0], args[1:]...).Run() }

func (o *operator) finish(cmd *exec.Cmd) string {
	o.b.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		o.b.Fatalf("by hand: %s: %v: %s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return stdout.String()
}

// done ends a phase.
func (o *operator) done(name string) {
	now := time.Now()
	o.phases = append(o.phases, fmt.Sprintf("%s %.1f", name, now.Sub(o.phase).Seconds()))
	o.phase = now
}
