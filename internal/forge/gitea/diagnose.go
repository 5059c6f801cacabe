package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Diagnose implements [ccci.Diagnoser]: the forge's version, whose token it is, what the
// token lacks, and whether the account is told who is a member.
func (f *Forge) Diagnose(ctx context.Context) []ccci.Diagnosis {
	out := []ccci.Diagnosis{f.diagnoseVersion(ctx)}
	self, err := f.Self(ctx)
	out = append(out, f.found("account", "the token is that of "+self.Name, err), f.diagnoseScopes(ctx))
	if err == nil && f.opts.Org != "" {
		out = append(out, f.found("membership", fmt.Sprintf("%s is a member of %s", self.Name, f.opts.Org), f.ProveMembership(ctx, f.opts.Org)))
	}
	return out
}

// found is an entry that says well, or what err says.
func (f *Forge) found(check, well string, err error) ccci.Diagnosis {
	d := ccci.Diagnosis{Check: f.opts.Name + ": " + check, Message: well}
	if err != nil {
		d.Code, d.Message, d.Hint = ccci.CodeOf(err), err.Error(), ccci.HintOf(err)
	}
	return d
}

// need is a right that a token must carry, and a request that is answered with 403
// where it does not. Nothing is changed by it: no account and no repository can be
// called "-", and the token is looked at before what was named is looked for.
type need struct{ scope, use, method, path string }

var needs = []need{
	{"write:issue", "to comment", http.MethodPatch, "/repos/-/-/issues/comments/0"},
	{"write:repository", "to set commit statuses", http.MethodPost, "/repos/-/-/statuses/" + noCommit},
	{"read:organization", "to ask who is a member", http.MethodGet, "/orgs/-/members/-"},
	{"read:user", "to know itself", http.MethodGet, "/user"},
}

const noCommit = "0000000000000000000000000000000000000000"

// diagnoseScopes says which scopes the token lacks, all at once: a token cannot be
// changed, so that each mistake costs a new one.
func (f *Forge) diagnoseScopes(ctx context.Context) ccci.Diagnosis {
	const check = "rights"
	var all, missing []string
	for _, n := range needs {
		all = append(all, n.scope)
		var in any
		if n.method != http.MethodGet {
			in = struct{}{}
		}
		var answer struct{}
		err := f.send(ctx, n.method, n.path, in, &answer)
		switch {
		case err == nil, errors.Is(err, ccci.ErrNotFound):
		case lacksScope(err):
			missing = append(missing, n.scope+" "+n.use)
		default:
			return f.found(check, "", fmt.Errorf("looking whether the token has %s: %w", n.scope, err))
		}
	}
	if len(missing) == 0 {
		return f.found(check, "the token has the scopes it needs: "+strings.Join(all, ", "), nil)
	}
	return f.found(check, "", ccci.Errorf(ccci.CodeRefused, "the token lacks %s", strings.Join(missing, ", ")).
		WithHint("a token cannot be changed: make another one at %s/user/settings/applications with %s, and put it into the token's file", f.base, strings.Join(all, ", ")))
}

// lacksScope reports whether a refusal is about the token rather than about its account.
func lacksScope(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.Status == http.StatusForbidden && strings.Contains(r.Message, "required scope")
}

// Gitea before this takes a pull request's head over from a push by and by, so that a
// command may meet the commit of before. Everything here was tried with 1.26.
const oldestMajor, oldestMinor = 1, 22

func (f *Forge) diagnoseVersion(ctx context.Context) ccci.Diagnosis {
	var v struct {
		Version string `json:"version"`
	}
	if err := f.get(ctx, "/version", nil, &v); err != nil {
		return f.found("version", "", fmt.Errorf("asking for its version: %w", err))
	}
	d := f.found("version", "it is of version "+v.Version, nil)
	major, minor, known := giteaVersion(v.Version)
	if known && (major < oldestMajor || major == oldestMajor && minor < oldestMinor) {
		d.Code, d.Warning = ccci.CodeInvalid, true
		d.Message += ", where a pull request may show the commit of before for a while after a push"
		d.Hint = fmt.Sprintf("bring it to %d.%d at least", oldestMajor, oldestMinor)
	}
	return d
}

// giteaVersion reads "1.26.0" and Forgejo's "11.0.1+gitea-1.22.0", which names the
// Gitea that it answers like. A build of one's own may be called anything.
func giteaVersion(text string) (major, minor int, ok bool) {
	if _, like, forgejo := strings.Cut(text, "+gitea-"); forgejo {
		text = like
	}
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	minor, worse := strconv.Atoi(parts[1])
	return major, minor, err == nil && worse == nil
}

// Webhooks implements [ccci.WebhookReader]. Only administrators of a repository
// are shown them, and nobody is told by the API how deliveries went.
func (f *Forge) Webhooks(ctx context.Context, repo ccci.RepoRef) ([]ccci.Webhook, error) {
	type hook struct {
		ID     int64    `json:"id"`
		Active bool     `json:"active"`
		Events []string `json:"events"`
		Config struct {
			URL  string `json:"url"`
			Type string `json:"content_type"`
		} `json:"config"`
	}
	rows, _, err := pages[hook](ctx, &f.client, list{path: repoPath(repo, "/hooks"), counted: true, empty: 1})
	if statusOf(err) == http.StatusForbidden {
		return nil, ccci.Errorf(ccci.CodeRefused, "reading the webhooks of %s: %w", repo, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the webhooks of %s: %w", repo, err)
	}
	var out []ccci.Webhook
	for _, h := range rows {
		out = append(out, ccci.Webhook{URL: h.Config.URL, Page: fmt.Sprintf("%s/%s/settings/hooks/%d", f.base, repo, h.ID),
			Active: h.Active, Comments: slices.Contains(h.Events, "pull_request_comment"), JSON: h.Config.Type == "json"})
	}
	return out, nil
}
