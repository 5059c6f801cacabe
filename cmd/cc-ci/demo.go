package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/internal/browser"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/demoimages"
	"github.com/recipe-maintainers/cc-ci/tests"
)

type demoCmd struct {
	Once   bool   `help:"End when the run has ended, with its exit code."`
	Out    string `type:"path" placeholder:"DIR" help:"Leave result.json, comment.md, badge.svg and overview.png there."`
	Recipe string `enum:"pocketbase,miniflux,wordpress" default:"pocketbase" help:"pocketbase, miniflux or wordpress."`
	Listen string `default:"127.0.0.1:0" placeholder:"ADDRESS" help:"Address of the dashboard; port 0 takes a free one."`
}

// demo is one demonstration while it lasts.
type demo struct {
	*demoCmd
	a      *app
	dir    string
	server *server
	pr     ccci.PRRef
	made   []string // references of images that the daemon had not
	// afterwards delivers the end of a server that was left running.
	afterwards chan error
}

func (c *demoCmd) Run(a *app) (err error) {
	if c.Out != "" {
		if err := os.MkdirAll(c.Out, 0o755); err != nil {
			return ccci.Errorf(ccci.CodeInvalid, "making the output folder: %w", err).WithHint("name one that you may write to with --out")
		}
	}
	ctx, life := a.begin()
	defer life.stop()
	dir, err := os.MkdirTemp("", "cc-ci-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for the demonstration: %w", err)
	}
	defer os.RemoveAll(dir)
	d := &demo{demoCmd: c, a: a, dir: dir}
	defer func() {
		d.sayf("cleaning up")
		if cleanErr := d.close(context.WithoutCancel(ctx)); err == nil && cleanErr != nil {
			err = cleanErr
		}
		d.sayf("nothing of the demonstration is left")
	}()
	run, err := d.play(ctx)
	if err != nil {
		return orInterrupted(life, err)
	}
	if !c.Once {
		if c.Out == "" {
			d.sayf("the dashboard stays at %s until you press Ctrl-C", d.server.cfg.URL)
		}
		<-ctx.Done()
		return life.exit()
	}
	return statusCode(run.Status)
}

func (d *demo) sayf(format string, args ...any) {
	fmt.Fprintf(d.a.stdout, format+"\n", args...)
}

// play makes everything ready, asks for a run, and follows it to its end.
func (d *demo) play(ctx context.Context) (run ccci.Run, err error) {
	cfg, configPath, err := d.config()
	if err != nil {
		return run, err
	}
	log := d.a.logger(cfg)
	say := func(line string) { d.sayf("%s", line) }
	if d.server, err = newServer(ctx, cfg, log, serverOptions{ConfigPath: configPath, Install: true, Say: say}); err != nil {
		return run, err
	}
	if err := d.buildImages(ctx, say); err != nil {
		return run, err
	}
	if err := d.openPullRequest(ctx); err != nil {
		return run, err
	}
	serving, stop := context.WithCancelCause(ctx)
	served := make(chan error, 1)
	go func() {
		err := d.server.Run(serving)
		stop(errors.Join(errors.New("the server ended"), err))
		served <- err
	}()
	defer func() {
		if d.Once || err != nil || ctx.Err() != nil {
			stop(nil)
			err = errors.Join(err, <-served)
			return
		}
		go func() { <-ctx.Done(); stop(nil) }()
		d.afterwards = served
	}()
	d.sayf("dashboard:    %s", d.server.cfg.URL)
	d.sayf("pull request: %s", d.pullURL())
	d.sayf("commenting !testme")
	if _, err := d.server.forge.AddComment(ctx, d.pr, cfg.Forge.User, "!testme"); err != nil {
		return run, err
	}
	if run, err = d.follow(serving); err != nil {
		return run, err
	}
	d.sayf("")
	_, level := ccci.LevelWords(run.Level, run.Stages)
	d.sayf("%s %s: %s (%s)", d.Recipe, run.Status, level, d.runURL(run.ID))
	if run.Cause != "" {
		d.sayf("cause: %s", run.Cause)
	}
	return run, d.leave(serving, run)
}

// config is the demonstration's own: nothing of another cc-ci is touched.
func (d *demo) config() (config.Config, string, error) {
	testsDir := filepath.Join(d.dir, "tests")
	if err := tests.Materialise(testsDir, d.Recipe); err != nil {
		return config.Config{}, "", err
	}
	path := filepath.Join(d.dir, "cc-ci.yml")
	text := fmt.Sprintf("data: data\ntests: tests\nlisten: %q\ntitle: cc-ci demo\nlog: warn\nrepos:\n  - repo: coop/%s\n", d.Listen, d.Recipe)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return config.Config{}, "", fmt.Errorf("writing the demonstration's configuration: %w", err)
	}
	cfg, err := config.Read(path)
	return cfg, path, err
}

// buildImages makes what is missing and remembers it, to take it away again.
func (d *demo) buildImages(ctx context.Context, say func(string)) error {
	docker := d.server.platform.docker
	if d.server.platform.madeBox {
		d.made = append(d.made, d.server.platform.box)
	}
	for _, ref := range demoimages.References() {
		if _, err := docker.ImageInspect(ctx, ref); client.IsErrNotFound(err) {
			d.made = append(d.made, ref)
		}
	}
	only := map[string][]string{"pocketbase": {"pocketbase"}, "miniflux": {"miniflux", "postgres"}, "wordpress": {"wordpress", "mariadb"}}[d.Recipe]
	return demoimages.Ensure(ctx, docker, demoimages.Options{Only: only, Out: say})
}

// removeImages takes away what buildImages made. The build cache stays on disk,
// so that the next demonstration starts at once. An image that somebody else has
// come to use meanwhile stays too.
func (d *demo) removeImages(ctx context.Context) error {
	var errs []error
	for _, ref := range d.made {
		_, err := d.server.platform.docker.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
		if err != nil && !client.IsErrNotFound(err) && !strings.Contains(err.Error(), "is being used") && !strings.Contains(err.Error(), "is using") {
			errs = append(errs, fmt.Errorf("removing image %s: %w", ref, err))
		}
	}
	d.made = nil
	return errors.Join(errs...)
}

// openPullRequest puts the example recipe on the local forge, with a pull
// request that upgrades it.
func (d *demo) openPullRequest(ctx context.Context) error {
	dir, err := examples.Materialise(filepath.Join(d.dir, "recipes"), d.Recipe)
	if err != nil {
		return err
	}
	repo := ccci.RepoRef{Owner: "coop", Name: d.Recipe}
	if _, err := d.server.forge.ImportRepo(ctx, repo, dir); err != nil {
		return err
	}
	branch, err := examples.UpgradeBranch(d.Recipe)
	if err != nil {
		return err
	}
	pr, err := d.server.forge.OpenPullRequest(ctx, repo, "Upgrade "+d.Recipe, branch, "main", "maintainer")
	d.pr = pr.Ref
	return err
}

// follow shows the run's log as it is written and returns the ended run.
func (d *demo) follow(ctx context.Context) (ccci.Run, error) {
	started := time.Now()
	run, err := d.await(ctx, func(r ccci.Run) bool { return r.Build != "" })
	if err != nil {
		return run, err
	}
	d.sayf("run %s accepted after %.1f s: %s", run.ID, time.Since(started).Seconds(), d.runURL(run.ID))
	log, err := d.server.engine.Logs(ctx, run.Build, 0)
	if err != nil {
		return run, err
	}
	defer log.Close()
	if _, err := io.Copy(newHumanLog(d.a.stdout, d.a.colours(d.a.stdout)), log); err != nil {
		return run, err
	}
	return d.await(ctx, func(r ccci.Run) bool { return r.Status.Terminal() })
}

// await waits for the one run of the pull request to be as wanted.
func (d *demo) await(ctx context.Context, wanted func(ccci.Run) bool) (ccci.Run, error) {
	hints, err := d.server.bus.Subscribe(ctx, ccci.TopicRuns)
	if err != nil {
		return ccci.Run{}, err
	}
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		runs, err := d.server.store.FindRuns(ctx, ccci.RunFilter{PR: d.pr, Limit: 1})
		if err != nil {
			return ccci.Run{}, err
		}
		if len(runs) == 1 && wanted(runs[0]) {
			return runs[0], nil
		}
		select {
		case <-ctx.Done():
			return ccci.Run{}, context.Cause(ctx)
		case <-hints:
		case <-look.C:
		}
	}
}

func (d *demo) runURL(id ccci.RunID) string { return d.server.cfg.URL + "/runs/" + string(id) }

func (d *demo) pullURL() string { return pullPage(d.server.cfg, d.pr) }

// leave writes what a person would have seen into the output folder.
func (d *demo) leave(ctx context.Context, run ccci.Run) error {
	if d.Out == "" {
		return nil
	}
	blob, _, err := d.server.blobs.Get(ctx, ccci.ResultKey(run.ID))
	if err != nil {
		return fmt.Errorf("reading the result: %w", err)
	}
	defer blob.Close()
	result, err := io.ReadAll(blob)
	if err != nil {
		return fmt.Errorf("reading the result: %w", err)
	}
	comment, err := d.verdictComment(ctx, run)
	if err != nil {
		return err
	}
	badge := httptest.NewRecorder()
	d.server.dashboard.ServeHTTP(badge, httptest.NewRequest("GET", d.server.cfg.URL+fmt.Sprintf("/badge/%s.svg?pr=%d", d.Recipe, d.pr.Number), nil))
	overview, err := d.picture(ctx)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"result.json": result, "comment.md": []byte(comment), "badge.svg": badge.Body.Bytes(), "overview.png": overview,
	} {
		if err := os.WriteFile(filepath.Join(d.Out, name), content, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	d.sayf("left result.json, comment.md, badge.svg and overview.png in %s", d.Out)
	return nil
}

// verdictComment waits until the bridge has edited its comment to the verdict.
func (d *demo) verdictComment(ctx context.Context, run ccci.Run) (string, error) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		pending, err := d.server.store.PendingMessages(ctx, time.Now().Add(time.Hour), 1)
		if err != nil {
			return "", err
		}
		thread, err := d.server.forge.ThreadOf(ctx, d.pr)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(thread, func(c ccci.Comment) bool { return c.Author.Name == "cc-ci" })
		if len(pending) == 0 && i >= 0 {
			return thread[i].Body + "\n", nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the verdict of run %s in the comment: %w", run.ID, context.Cause(ctx))
		case <-look.C:
		}
	}
}

func (d *demo) picture(ctx context.Context) ([]byte, error) {
	b, err := browser.Start(ctx, browser.Options{Path: d.server.platform.tools.chromium, Route: browser.Only(d.server.cfg.URL)})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	page, err := b.Page(ctx)
	if err != nil {
		return nil, err
	}
	defer page.Close()
	if err := page.Open(ctx, d.server.cfg.URL+"/"); err != nil {
		return nil, fmt.Errorf("opening the dashboard in the browser: %w", err)
	}
	return page.Screenshot(ctx, nil)
}

// close waits for the server's end and removes the images that were built here.
func (d *demo) close(ctx context.Context) error {
	var errs []error
	if d.afterwards != nil {
		errs = append(errs, <-d.afterwards)
	}
	if d.server == nil {
		return nil
	}
	// The proxy uses one of the images: it goes first.
	if d.server.platform != nil && d.server.platform.ingress != nil {
		errs = append(errs, d.server.platform.ingress.Close(ctx), d.removeImages(ctx))
	}
	errs = append(errs, d.server.Close(ctx))
	return errors.Join(errs...)
}
