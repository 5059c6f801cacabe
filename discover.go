package ccci

import "context"

// Discoverer is what a [Forge] may implement besides: it finds repositories
// by itself, as it was told to (by topic, by team, a whole organisation).
type Discoverer interface {
	// Discover returns every repository that is meant now, each once. A
	// part of the list is an error, never a shorter list.
	Discover(ctx context.Context) ([]RepoRef, error)
}

// Repository is what a forge tells about a repository itself.
type Repository struct {
	Ref      RepoRef
	Branch   string // the default one
	CloneURL string // where its default branch and its version tags are fetched from
	// ReadOnly says that cc-ci's account is known to lack the right to write,
	// without which no commit status can be set.
	ReadOnly bool
	// Closed says why nobody can comment on a pull request there, as "it is archived"; "" where one can.
	Closed string
}

// RepositoryReader is what a [Forge] may implement besides.
type RepositoryReader interface {
	// Repository returns what is known, or ErrNotFound when there is none, or
	// none that cc-ci's account may see.
	Repository(ctx context.Context, repo RepoRef) (Repository, error)
}

// Webhook is one that a repository has, as its forge is told to send it.
type Webhook struct {
	URL      string // where it is sent to
	Page     string // where a person sees its settings and its deliveries
	Active   bool
	Comments bool // it tells of comments on pull requests
	JSON     bool // its body is JSON, the one form that is read
}

// WebhookReader is what a [Forge] may implement besides.
type WebhookReader interface {
	// Webhooks returns those of one repository; an organisation's and the whole
	// forge's are not among them. An error of CodeRefused says that
	// cc-ci's account may not see them, which it need not.
	Webhooks(ctx context.Context, repo RepoRef) ([]Webhook, error)
}

// Diagnosis is what somebody found who looked whether one thing works.
type Diagnosis struct {
	// Check names what was looked at, the same in every run: "docker",
	// "git.example.org: membership".
	Check string `json:"check"`
	// Code is "" when all is well. Otherwise it says whose move it is:
	// CodeInvalid the configuration's, CodeRefused whoever grants rights,
	// CodeInfra the machine's or the network's.
	Code Code `json:"code,omitempty"`
	// Warning makes a problem one that does not keep cc-ci from working.
	Warning bool `json:"warning,omitempty"`
	// Message is one sentence without a final full stop: what is well, or what is wrong.
	Message string `json:"message"`
	// Hint is the way out: which right is missing, and where it is granted.
	Hint string `json:"hint,omitempty"`
}

// Diagnoser is what an adapter of any port may implement besides: it looks
// whether it could do its work now, without changing anything.
type Diagnoser interface {
	// Diagnose returns one entry for each thing that it looked at. Trouble is
	// an entry and no error; ctx bounds the time.
	Diagnose(ctx context.Context) []Diagnosis
}
