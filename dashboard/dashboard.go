// Package dashboard shows what cc-ci knows to people and to machines: pages,
// live updates, badges and a JSON feed, over HTTP.
//
// It reads the ports of package ccci and writes nothing but comments on the
// local forge. Everything it serves comes from its own origin: no fonts, no
// scripts and no images from elsewhere. Every page works without JavaScript;
// with it, pages refresh themselves and a run's log arrives as it is written.
package dashboard

import (
	"context"
	"crypto/rand"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/quota"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
)

// LocalForge is what the pull request pages need of the built-in forge.
// Methods are safe for concurrent use; what is not there is ccci.ErrNotFound.
type LocalForge interface {
	// Repos returns all repositories, ordered by name.
	Repos(ctx context.Context) ([]ccci.RepoRef, error)
	// PullRequests returns those of one repository, newest first.
	PullRequests(ctx context.Context, repo ccci.RepoRef) ([]ccci.PullRequest, error)
	// PullRequest returns one.
	PullRequest(ctx context.Context, pr ccci.PRRef) (ccci.PullRequest, error)
	// ThreadOf returns the comments of a pull request, oldest first.
	ThreadOf(ctx context.Context, pr ccci.PRRef) ([]ccci.Comment, error)
	// AddComment writes a comment in author's name.
	AddComment(ctx context.Context, pr ccci.PRRef, author ccci.User, body string) (ccci.CommentID, error)
	// Statuses returns the statuses of a commit.
	Statuses(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit) ([]ccci.CommitStatus, error)
}

// Config is what a Dashboard is made of. Store and Blobs are required.
type Config struct {
	Store  ccci.Store
	Blobs  ccci.BlobOpener
	Engine runlog.Source // logs of runs; nil: only the logs that were kept as artifacts
	Bus    ccci.Bus      // hints for live updates; nil: pages poll

	// Forge is nil where pull requests live elsewhere. Then there are no pages for them.
	Forge LocalForge
	// User is who writes on the local forge: everybody who reaches these pages
	// does so under this name. With an empty ID the comment box is left out.
	User ccci.User

	// Recipes returns the names of the enrolled recipes; nil stands for none.
	Recipes func() []string
	// Capacity is how many runs the engine works on at a time; 0 stands for 1.
	Capacity int
	// Held says in one sentence why no queued run starts, or ""; nil: nothing does.
	Held func() string
	// Version of cc-ci, shown in the footer.
	Version string
	// Title of the whole site; "" stands for "cc-ci".
	Title string
	// URL is where people reach the dashboard, as "https://ci.example.org". Its
	// host is accepted in requests, and the feed's and badges' links start with
	// it. Without it only local names and IP addresses may write.
	URL string
	// StaleAfter is the age at which a result no longer speaks for its recipe;
	// 0 stands for 60 days.
	StaleAfter time.Duration

	Limits Limits // of what readers may hold at a time

	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // for form tokens; nil: crypto/rand
	Logger *slog.Logger     // nil: discards
}

// Dashboard is an http.Handler. Close ends its live streams, so that a server
// which shuts down need not wait for readers: give it to RegisterOnShutdown.
type Dashboard struct {
	cfg    Config
	base   *url.URL // nil when Config.URL is empty
	log    *slog.Logger
	now    func() time.Time
	pages  map[string]*template.Template
	assets *assets
	tokens *tokens
	hub    *hub
	badges *badgeCache
	facts  *resultCache
	limits Limits

	requests, streams, waiting *quota.Quota // waiting holds bytes of pages
	turns                      *turns
	health                     *storeHealth

	http http.Handler

	stop    context.CancelFunc
	stopped context.Context
	wg      sync.WaitGroup
}

// New makes a Dashboard and starts to listen on the bus. The caller closes it.
func New(cfg Config) (*Dashboard, error) {
	if cfg.Store == nil || cfg.Blobs == nil {
		return nil, errors.New("making the dashboard: a store and blobs are required")
	}
	if cfg.Recipes == nil {
		cfg.Recipes = func() []string { return nil }
	}
	if cfg.Title == "" {
		cfg.Title = "cc-ci"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.StaleAfter <= 0 {
		cfg.StaleAfter = 60 * 24 * time.Hour
	}
	cfg.Capacity = max(cfg.Capacity, 1)

	d := &Dashboard{cfg: cfg, log: cfg.Logger, now: cfg.Now}
	if cfg.URL != "" {
		u, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
		if err != nil || u.Host == "" || u.Path != "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the dashboard: %q is not its address", cfg.URL).
				WithHint("write https:// and the host name, as https://ci.example.org")
		}
		d.base = u
	}
	var err error
	if d.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if d.pages, err = d.parsePages(); err != nil {
		return nil, err
	}
	if d.tokens, err = newTokens(cfg.Rand, d.base != nil && d.base.Scheme == "https"); err != nil {
		return nil, err
	}
	d.hub = newHub()
	d.facts = newResultCache(cfg.Blobs)
	d.badges = newBadgeCache(d.drawBadge, cfg.Now)
	d.limits = cfg.Limits.orDefault()
	d.requests, d.streams = quota.New(d.limits.Requests, d.limits.PerAddress), quota.New(d.limits.Streams, d.limits.StreamsPer)
	d.waiting, d.turns = quota.New(pageBytes, pageBytesPerAddress), newTurns(drawers)
	d.health = newStoreHealth(d.askStore, cfg.Now)
	d.http = d.routes()
	d.stopped, d.stop = context.WithCancel(context.Background())
	if cfg.Bus != nil {
		for _, topic := range []string{ccci.TopicRuns, ccci.TopicForge} {
			hints := d.subscribe(topic) // before New returns, so that no later hint is missed
			d.wg.Go(func() { d.follow(topic, hints) })
		}
	}
	return d, nil
}

// Close ends live streams and the listening on the bus. Legal twice.
func (d *Dashboard) Close() error {
	d.stop()
	d.wg.Wait()
	return nil
}

// ServeHTTP answers one request.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.http.ServeHTTP(w, r) }

func (d *Dashboard) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, d.page(h))
	}
	handle("GET /{$}", d.overview)
	handle("GET /recipes/{recipe}", d.recipe)
	handle("GET /recipe/{recipe}", d.oldRecipe)
	handle("GET /runs", d.history)
	handle("GET /runs/{id}", d.run)
	handle("GET /runs/{id}/log", d.rawLog)
	handle("GET /runs/{id}/events", d.runEvents)
	handle("GET /runs/{id}/files/{path...}", d.file)
	handle("GET /queue", d.queue)
	handle("GET /events", d.events)
	handle("GET /badge/{file}", d.badge)
	handle("GET /feed.json", d.feed)
	handle("GET /healthz", d.healthz)
	handle("GET /static/{file}", d.static)
	handle("GET /favicon.ico", d.favicon)
	handle("GET /robots.txt", d.robots)
	if d.cfg.Forge != nil {
		handle("GET /pulls", d.pulls)
		handle("GET /pulls/{owner}/{name}/{number}", d.pull)
		handle("POST /pulls/{owner}/{name}/{number}/comments", d.comment)
	}
	handle("/", d.nowhere)
	return d.limit(d.guard(mux))
}

// follow hands hints of one topic to live pages and to the badge cache. A
// subscription that breaks is taken up again after a while: hints may be lost,
// and pages poll besides.
func (d *Dashboard) follow(topic string, hints <-chan string) {
	for {
		if hints != nil {
			for message := range hints {
				d.hint(topic, message)
			}
		}
		if d.wait(d.stopped, 2*time.Second) != nil {
			return
		}
		hints = d.subscribe(topic)
	}
}

// subscribe returns nil when the bus does not take it.
func (d *Dashboard) subscribe(topic string) <-chan string {
	hints, err := d.cfg.Bus.Subscribe(d.stopped, topic)
	if err != nil {
		d.log.Warn("following the bus", "topic", topic, "error", err)
		return nil
	}
	return hints
}

func (d *Dashboard) hint(topic, message string) {
	if topic == ccci.TopicRuns {
		if run, err := d.cfg.Store.FindRun(d.stopped, ccci.RunID(message)); err == nil {
			d.badges.forget(run.Recipe)
		}
	}
	d.hub.publish(hint{topic: topic, message: message})
}
