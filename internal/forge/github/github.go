// Package github is GitHub (and GitHub Enterprise Server) as a [ccci.Forge].
//
// It is built for polling: every read is conditional with a stable URL, so that
// a repository where nothing happens costs no points of the rate limit, and it
// keeps GitHub's limits by itself. It believes nothing that a pull request's
// author can forge: membership is asked for by numeric id, and the head at the
// time of a comment is proven or refused (head.go).
package github

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options of [New]. Either Token or App is required.
type Options struct {
	// APIURL is "https://api.github.com/" when empty; for an Enterprise Server
	// it is "https://HOST/api/v3/". Plain http is accepted on the loopback alone.
	APIURL string
	// Name identifies the forge in run keys; "" stands for the API's host,
	// "github.com" for GitHub's own.
	Name string

	Token ccci.Secret // a classic or fine-grained personal access token
	App   *App        // a GitHub App's installation

	Find Find // which repositories Discover finds

	// NoCheckRuns keeps an App from setting check runs beside the commit statuses.
	NoCheckRuns bool

	// Ledger remembers which heads pull requests were seen with; nil: in memory, and
	// for the open ones in the cursor of their repository.
	Ledger Ledger
	// LedgerEvery is the least time between two looks at a repository's open pull
	// requests; default 2 min, negative: never. At 300 repositories a look costs
	// 2.5 of the 15 points that GitHub allows a second, and no primary points.
	LedgerEvery time.Duration

	CacheBytes int           // bound of the bodies kept for answers of 304; default 32 MiB
	WriteGap   time.Duration // least time between two writes; default 1 s as GitHub asks, negative: none
	PointsRate float64       // points a second (a read 1, a write 5); default 13 of GitHub's 15, negative: unbounded

	Transport http.RoundTripper // nil: a transport of its own
	Logger    *slog.Logger
	Now       func() time.Time // nil: time.Now
}

// Forge implements [ccci.Forge].
type Forge struct {
	opts   Options
	log    *slog.Logger
	client *gh.Client
	asApp  *gh.Client // authenticates as the App itself; nil with a token
	limits *limits

	posting chan struct{} // one comment is posted at a time

	mu     sync.Mutex
	self   ccci.User
	looked map[ccci.RepoRef]time.Time // when open pull requests were last listed
	open   map[ccci.RepoRef][]int     // the pull requests that were in that list, or in a cursor
	posted map[ccci.CommentID]posted  // own comments, bounded
	unsure map[string]time.Time       // tags of comments that may or may not have been written
	checks map[checkKey]int64         // check runs of this process, bounded
}

var _ ccci.Forge = (*Forge)(nil)

// New makes an adapter. It asks GitHub nothing, so that it works while GitHub is away.
func New(opts Options) (*Forge, error) {
	api, err := apiURL(cmp.Or(opts.APIURL, "https://api.github.com/"))
	if err != nil {
		return nil, err
	}
	if (opts.Token.Reveal() == "") == (opts.App == nil) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up GitHub: it needs either a token or a GitHub App").
			WithHint("docs/forge-github.md says which rights each of them wants")
	}
	if opts.Name == "" {
		opts.Name = cmp.Or(strings.TrimPrefix(api.Host, "api."), "github.com")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Ledger == nil {
		opts.Ledger = NewMemoryLedger()
	}
	if opts.Transport == nil {
		base := http.DefaultTransport.(*http.Transport).Clone()
		base.MaxIdleConnsPerHost = parallel
		opts.Transport = base
	}
	opts.LedgerEvery = cmp.Or(opts.LedgerEvery, 2*time.Minute)
	opts.CacheBytes = cmp.Or(opts.CacheBytes, 32<<20)
	opts.WriteGap = cmp.Or(opts.WriteGap, time.Second)
	opts.PointsRate = cmp.Or(opts.PointsRate, 13)

	f := &Forge{
		opts: opts, log: opts.Logger.With("part", "forge", "forge", opts.Name),
		posting: make(chan struct{}, 1),
		looked:  map[ccci.RepoRef]time.Time{}, open: map[ccci.RepoRef][]int{}, posted: map[ccci.CommentID]posted{},
		unsure: map[string]time.Time{}, checks: map[checkKey]int64{},
	}
	// From the wire upwards: whole answers, limits, the conditional cache, the
	// token, redirects. A token is added above the cache, which keys by it.
	f.limits = newLimits(&whole{next: opts.Transport}, opts.Now, opts.WriteGap, opts.PointsRate)
	cache := newConditional(f.limits, opts.CacheBytes)
	var token tokenSource = fixedToken(opts.Token)
	if opts.App != nil {
		signer, err := newSigner(*opts.App, opts.Now)
		if err != nil {
			return nil, err
		}
		f.asApp = newClient(api, &redirects{api: api, next: &authorized{api: api, token: signer, next: cache}})
		token = &installation{app: *opts.App, client: f.asApp, now: opts.Now}
	}
	f.client = newClient(api, &redirects{api: api, next: &authorized{api: api, token: token, next: cache}})
	return f, nil
}

func apiURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up GitHub: %q is not the address of an API", text).
			WithHint("leave it empty for github.com, or write https://HOST/api/v3/")
	}
	if u.Scheme == "http" && !ccci.Loopback(u.Hostname()) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up GitHub: %q would send the token unencrypted", text).
			WithHint("write https://")
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u, nil
}

func newClient(api *url.URL, transport http.RoundTripper) *gh.Client {
	client := gh.NewClient(&http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	client.BaseURL = api
	client.UserAgent = "cc-ci"
	return client
}

// Name implements [ccci.Forge].
func (f *Forge) Name() string { return f.opts.Name }

// Self implements [ccci.Forge]: the token's user, or the App's bot account.
func (f *Forge) Self(ctx context.Context) (ccci.User, error) {
	f.mu.Lock()
	self := f.self
	f.mu.Unlock()
	if self.ID != "" {
		return self, nil
	}
	login := ""
	if f.asApp != nil {
		app, _, err := f.asApp.Apps.Get(ctx, "")
		if err != nil {
			return ccci.User{}, f.fail("reading the GitHub App", err)
		}
		login = app.GetSlug() + "[bot]"
	}
	user, _, err := f.client.Users.Get(ctx, login)
	if err != nil {
		return ccci.User{}, f.fail("reading the account that cc-ci acts as", err)
	}
	self = userOf(user)
	if self.ID == "" {
		return ccci.User{}, ccci.Errorf(ccci.CodeInfra, "reading the account that cc-ci acts as: GitHub's answer has no id")
	}
	f.mu.Lock()
	f.self = self
	f.mu.Unlock()
	return self, nil
}

func userOf(u *gh.User) ccci.User {
	if u.GetID() <= 0 {
		return ccci.User{}
	}
	return ccci.User{ID: strconv.FormatInt(u.GetID(), 10), Name: u.GetLogin()}
}

// Rate is what GitHub last said about the primary limit.
type Rate struct {
	Limit, Remaining, Used int
	Reset                  time.Time
	BlockedUntil           time.Time // zero when requests are let through
}

// Rate returns what is left of the primary limit; zero before the first answer.
func (f *Forge) Rate() Rate { return f.limits.rate() }

// read asks for JSON. fresh keeps the answer out of the cache: it is for addresses
// that are asked once.
func (f *Forge) read(ctx context.Context, path string, query url.Values, fresh bool, v any) (*gh.Response, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	req, err := f.client.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if fresh {
		req.Header.Set("Cache-Control", "no-store")
	}
	var text bytes.Buffer
	resp, err := f.client.Do(ctx, req, &text)
	if err != nil {
		return resp, err
	}
	// An empty answer of some proxy on the way must not pass for an empty list.
	if body := bytes.TrimSpace(text.Bytes()); len(body) == 0 || string(body) == "null" {
		return nil, fmt.Errorf("GitHub's answer to %s is empty", req.URL.Path)
	} else if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("reading GitHub's answer to %s: %w", req.URL.Path, err)
	}
	return resp, nil
}

func repoPath(repo ccci.RepoRef, format string, args ...any) string {
	return "repos/" + url.PathEscape(repo.Owner) + "/" + url.PathEscape(repo.Name) + fmt.Sprintf(format, args...)
}

// serverTime is GitHub's clock when it answered.
func serverTime(resp *gh.Response) (time.Time, bool) {
	if resp == nil || resp.Response == nil {
		return time.Time{}, false
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	return date.UTC(), err == nil
}

// discard ends a response that nobody reads.
func discard(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}
