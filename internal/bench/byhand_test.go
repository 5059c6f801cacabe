package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

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
//   - Miniflux's login is tried over HTTP, without a browser;
//   - containers are killed, not waited for, once the services are gone.
//
// endpoint_mode is set by an overlay file, where the kernel needs it.
type operator struct {
	b       *testing.B
	w       *world
	ctx     context.Context
	proxy   *ingress.Ingress
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
	if err := w.docker.NetworkConnect(b.Context(), network, p.Container(), nil); err != nil {
		b.Fatal(err)
	}
	return p
}

// newOperator prepares what a host has before an app is made: the proxy knows
// the name. (Traefik reads it from the labels; this proxy is told.)
func newOperator(b *testing.B, w *world, proxy *ingress.Ingress, parent, repo string) *operator {
	domain := "hand-" + strings.ToLower(rand.Text()[:6]) + "." + parent
	o := &operator{b: b, w: w, proxy: proxy, repo: repo, domain: domain, stack: recipe.StackName(domain), admin: rand.Text()}
	o.dir = b.TempDir()
	o.backups = filepath.Join(o.dir, "restic")
	o.vars = append(os.Environ(), "STACK_NAME="+o.stack, "DOMAIN="+domain, "LETS_ENCRYPT_ENV=production", "ADMIN_USERNAME=admin", "POLLING_FREQUENCY=60",
		"SECRET_DB_PASSWORD_VERSION=v1", "SECRET_ADMIN_PASSWORD_VERSION=v1", "MINIFLUX_CONF_VERSION=v1", "PG_BACKUP_SH_VERSION=v1", "EXTRA_DOMAINS=",
		"RESTIC_REPOSITORY="+o.backups, "RESTIC_PASSWORD=by-hand")
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
	o.git("checkout", "--quiet", examples.Versions("miniflux")[0])
	o.write("dnsrr.yml", dnsrr)
	o.run(rand.Text(), "docker", "secret", "create", o.stack+"_db_password_v1", "-")
	o.run(o.admin, "docker", "secret", "create", o.stack+"_admin_password_v1", "-")
	o.deploy()
	o.until("the app answers", func() bool {
		status, body := o.get("/healthcheck")
		return status == http.StatusOK && strings.Contains(body, "OK")
	})
	o.put(http.MethodPost, "/v1/import", `<?xml version="1.0"?><opml version="2.0"><body><outline text="cc-ci">`+
		`<outline type="rss" title="seed" text="seed" xmlUrl="http://feed.invalid/feed.xml" htmlUrl="http://feed.invalid/"/></outline></body></opml>`)
	o.rename("A")
	o.screenshot("install")
	if err := <-repository; err != nil {
		o.b.Fatal(err)
	}
	o.done("install")
}

func (o *operator) upgrade() {
	branch, err := examples.UpgradeBranch("miniflux")
	if err != nil {
		o.b.Fatal(err)
	}
	o.git("checkout", "--quiet", branch)
	o.deploy()
	o.until("the new version serves alone", func() bool {
		status, body := o.get("/version")
		if status != http.StatusOK || !strings.HasPrefix(body, "2.2.3") {
			return false
		}
		// All that lives of the app is one task of the new image.
		tasks := strings.Fields(o.run("", "docker", "ps", "--filter", "label=com.docker.swarm.service.name="+o.stack+"_app", "--format", "{{.Image}}"))
		return len(tasks) == 1 && strings.HasPrefix(tasks[0], "cc-ci.local/miniflux:2.2.3")
	})
	o.mustRead("A")
	o.screenshot("upgrade")
	o.done("upgrade")
}

func (o *operator) backup() (snapshot string) {
	db := o.container("db")
	o.run("", "docker", "exec", db, "/pg_backup.sh", "backup")
	dump := filepath.Join(o.volume(), "dump", "miniflux.pgdump")
	o.run("", o.w.restic, "--no-cache", "backup", "--quiet", "--host", "by-hand", dump)
	o.run("", "docker", "exec", db, "/pg_backup.sh", "clean")
	if files := o.run("", o.w.restic, "--no-cache", "ls", "latest"); !strings.Contains(files, dump) {
		o.b.Fatalf("the snapshot lacks %s:\n%s", dump, files)
	}
	o.done("backup")
	return "latest"
}

func (o *operator) restore(snapshot string) {
	o.rename("B")
	o.mustRead("B")
	o.run("", o.w.restic, "--no-cache", "restore", snapshot, "--quiet", "--target", "/", "--include", o.volume())
	o.run("", "docker", "exec", o.container("db"), "/pg_backup.sh", "restore")
	o.until("swarm has ended the update", func() bool {
		state := o.run("", "docker", "service", "inspect", "--format", "{{.UpdateStatus.State}}", o.stack+"_app")
		if strings.Contains(state, "rollback") || strings.Contains(state, "paused") {
			o.b.Fatalf("the update ended as %s", state)
		}
		return strings.TrimSpace(state) == "completed"
	})
	o.until("the old data is there", func() bool { return o.title() == "A" })
	o.done("restore")
}

func (o *operator) check() {
	if _, body := o.get("/version"); !strings.HasPrefix(body, "2.2.") {
		o.b.Fatalf("/version says %q", body)
	}
	schema := o.run("", "docker", "exec", o.container("db"), "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username=miniflux", "--dbname=miniflux",
		"--command=SELECT 'migrated' FROM schema_version WHERE version::int >= 99")
	if !strings.Contains(schema, "migrated") {
		o.b.Fatalf("the schema is not migrated: %s", schema)
	}
	if status, _ := o.request(http.MethodGet, "/v1/me", "", "not-the-password"); status != http.StatusUnauthorized {
		o.b.Fatalf("a wrong password gets %d", status)
	}
	o.login()
	o.screenshot("final")
	for _, service := range []string{"app", "db"} {
		if strings.Contains(o.run("", "docker", "service", "logs", o.stack+"_"+service), o.admin) {
			o.b.Fatal("the password is in the log")
		}
	}
	o.done("checks")
}

var csrf = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func (o *operator) login() {
	_, page := o.request(http.MethodGet, "/", "", "")
	token := csrf.FindStringSubmatch(page)
	if token == nil {
		o.b.Fatalf("no form on the first page:\n%.500s", page)
	}
	form := url.Values{"csrf": {token[1]}, "username": {"admin"}, "password": {o.admin}}
	answer, err := o.http.PostForm("https://"+o.domain+"/login", form)
	if err != nil {
		o.b.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusFound {
		o.b.Fatalf("logging in: %s", answer.Status)
	}
	if status, page := o.request(http.MethodGet, "/unread", "", ""); status != http.StatusOK || !strings.Contains(page, `href="/logout"`) {
		o.b.Fatalf("the login did not last: %d", status)
	}
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

func (o *operator) volume() string {
	return strings.TrimSpace(o.run("", "docker", "volume", "inspect", "--format", "{{.Mountpoint}}", o.stack+"_postgres"))
}

// rename gives the one feed another title.
func (o *operator) rename(title string) {
	var feeds []struct{ ID int }
	_, body := o.get("/v1/feeds")
	if err := json.Unmarshal([]byte(body), &feeds); err != nil || len(feeds) != 1 {
		o.b.Fatalf("reading the feeds: %v: %s", err, body)
	}
	o.put(http.MethodPut, fmt.Sprintf("/v1/feeds/%d", feeds[0].ID), fmt.Sprintf(`{"title": %q}`, title))
}

func (o *operator) title() string {
	var feeds []struct{ Title string }
	_, body := o.get("/v1/feeds")
	if json.Unmarshal([]byte(body), &feeds) != nil || len(feeds) != 1 {
		return ""
	}
	return feeds[0].Title
}

func (o *operator) mustRead(title string) {
	if got := o.title(); got != title {
		o.b.Fatalf("the feed's title is %q, want %q", got, title)
	}
}

func (o *operator) get(path string) (int, string) {
	return o.request(http.MethodGet, path, "", o.admin)
}

func (o *operator) put(method, path, body string) {
	if status, answer := o.request(method, path, body, o.admin); status != http.StatusCreated {
		o.b.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
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
	o.run("", o.w.chrome, append(args, "https://"+o.domain+"/")...)
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
