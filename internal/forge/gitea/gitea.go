// Package gitea is Gitea and Forgejo as a [ccci.Forge].
//
// It speaks plain requests with a few types of its own, because the published
// client fails on answers of the very servers it is made for (a timeline with a
// label, a version that is no number) and follows redirects where one means "no".
// What an answer has to be before it counts is in client.go, what the head was
// when a comment was written in head.go.
package gitea

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options of [New]. URL and Token are required.
type Options struct {
	// URL is where the forge is, as "https://git.example.org". Plain http is
	// accepted on the loopback alone.
	URL string
	// Name identifies the forge in run keys; "" stands for the host in URL.
	Name string
	// Token needs write:issue, write:repository, read:organization and read:user.
	Token ccci.Secret
	// Org is the organisation whose members may trigger runs; Diagnose proves that
	// it can tell them.
	Org string

	Timeout   time.Duration // of one request; default 20 s
	Settle    time.Duration // how long HeadAt waits for the forge to write down a push; default 5 s
	Transport http.RoundTripper
	Logger    *slog.Logger
	Now       func() time.Time // nil: time.Now
}

// Forge implements [ccci.Forge].
type Forge struct {
	opts Options
	log  *slog.Logger
	client

	mu   sync.Mutex
	self ccci.User

	posting keyed // one comment is posted at a time on each pull request
}

var (
	_ ccci.Forge            = (*Forge)(nil)
	_ ccci.Diagnoser        = (*Forge)(nil)
	_ ccci.RepositoryReader = (*Forge)(nil)
	_ ccci.WebhookReader    = (*Forge)(nil)
)

// New makes an adapter. It asks the forge nothing, so that it works while that is away.
func New(opts Options) (*Forge, error) {
	base, err := baseURL(opts.URL)
	if err != nil {
		return nil, err
	}
	if opts.Token.Reveal() == "" || strings.ContainsAny(opts.Token.Reveal(), "\r\n") {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up %s: it needs a token, of one line", base.Host).
			WithHint("make one for cc-ci's account with the scopes write:issue, write:repository, read:organization and read:user")
	}
	opts.Name = cmp.Or(opts.Name, base.Host)
	opts.Timeout = cmp.Or(opts.Timeout, 20*time.Second)
	opts.Settle = cmp.Or(opts.Settle, 5*time.Second)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 16
		opts.Transport = transport
	}
	return &Forge{
		opts: opts, log: opts.Logger.With("part", "forge", "forge", opts.Name),
		client: client{base: base, token: opts.Token, timeout: opts.Timeout, now: opts.Now, http: &http.Client{
			Transport: opts.Transport,
			// A redirect is an answer. Followed, it would take the token elsewhere, and
			// turn "you may not know" into a list of who is known to all.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}},
	}, nil
}

func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up a forge: its address is not a plain one").WithHint("write it as https://git.example.org")
	}
	if u.Scheme == "http" && !ccci.Loopback(u.Hostname()) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "setting up %s: over plain http everybody on the way would read the token", u.Host).
			WithHint("write https://")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// Name implements [ccci.Forge].
func (f *Forge) Name() string { return f.opts.Name }

type account struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

func (a account) user() ccci.User {
	return ccci.User{ID: strconv.FormatInt(a.ID, 10), Name: a.Login}
}

// Self implements [ccci.Forge]. It is asked once.
func (f *Forge) Self(ctx context.Context) (ccci.User, error) {
	f.mu.Lock()
	self := f.self
	f.mu.Unlock()
	if self.ID != "" {
		return self, nil
	}
	var a account
	if err := f.get(ctx, "/user", nil, &a); err != nil {
		return ccci.User{}, fmt.Errorf("asking %s who cc-ci is: %w", f.opts.Name, err)
	}
	if a.ID <= 0 || a.Login == "" {
		return ccci.User{}, fmt.Errorf("asking %s who cc-ci is: the answer names nobody", f.opts.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.self = a.user()
	return f.self, nil
}

// Repository implements [ccci.RepositoryReader].
func (f *Forge) Repository(ctx context.Context, repo ccci.RepoRef) (ccci.Repository, error) {
	var r struct {
		Branch      string `json:"default_branch"`
		Archived    bool   `json:"archived"`
		Pulls       *bool  `json:"has_pull_requests"`
		Permissions *struct {
			Push bool `json:"push"`
		} `json:"permissions"`
	}
	if err := f.get(ctx, repoPath(repo, ""), nil, &r); err != nil {
		return ccci.Repository{}, fmt.Errorf("reading %s: %w", repo, err)
	}
	out := ccci.Repository{Ref: repo, Branch: r.Branch, CloneURL: f.cloneURL(repo), ReadOnly: r.Permissions != nil && !r.Permissions.Push}
	switch {
	case r.Archived:
		out.Closed = "it is archived"
	case r.Pulls != nil && !*r.Pulls:
		out.Closed = "pull requests are switched off"
	}
	return out, nil
}

// cloneURL is made of the address that cc-ci was given: what the forge calls itself
// may not be reachable from here, and is nothing to send a token to.
func (f *Forge) cloneURL(repo ccci.RepoRef) string {
	return f.base.String() + "/" + url.PathEscape(repo.Owner) + "/" + url.PathEscape(repo.Name) + ".git"
}

func repoPath(repo ccci.RepoRef, format string, args ...any) string {
	return "/repos/" + url.PathEscape(repo.Owner) + "/" + url.PathEscape(repo.Name) + fmt.Sprintf(format, args...)
}

// keyed is a lock for each key.
type keyed struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for the key's turn; the function that it returns gives it back.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		before, busy := k.held[key]
		if !busy {
			if k.held == nil {
				k.held = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			k.held[key] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				delete(k.held, key)
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
