package githubfake

import (
	"crypto/rsa"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

type account struct {
	id    int64
	login string
	kind  string // User, Organization, Bot
}

type identity struct {
	user    *account
	app     *app // set for an App's tokens
	expires time.Time
	scopes  []string // of a classic token; nil for others
	used    int
	window  time.Time // when the rate limit's hour ends
}

type app struct {
	id, installation int64
	slug             string
	bot              *account
	key              *rsa.PublicKey
	serial           int
	permissions      map[string]any
	deliveries       []any // newest first
}

type repository struct {
	id         int64
	owner      *account
	name       string
	parent     *repository // of a fork
	private    bool
	hidden     bool // its activity is not shown
	archived   bool
	topics     []any
	teams      []string
	pulls      map[int]*pull
	comments   []*comment
	statuses   []status
	checks     []*check
	suites     []suite
	activities []activity
	heads      map[string]string // ref -> commit, as last seen
}

func (r *repository) full() string { return r.owner.login + "/" + r.name }

type pull struct {
	id, number   int64
	repo         *repository // the base
	head         *repository // nil when it was deleted
	title        string
	branch, base string
	sha          string
	author       *account
	open         bool
	deleted      bool
	locked       bool
	isIssue      bool // an issue that is no pull request
	created      time.Time
	updated      time.Time
	forced       []time.Time
	mergedAs     string // the commit on base; "" while it is not merged
	mergedAt     time.Time
}

type comment struct {
	id               int64
	on               *pull
	author           *account
	body             string
	created, updated time.Time
	head             string // of the pull request, when it was written
	minimized        bool
	viaApp           bool
}

type status struct {
	sha string
	ccci.CommitStatus
}

type check struct {
	id         int64
	sha        string
	app        *app
	name       string
	status     string
	conclusion string
	title      string
	started    time.Time
}

type suite struct {
	id      int64
	sha     string
	branch  string
	created time.Time
}

type activity struct {
	id            int64
	before, after string
	ref, kind     string
	at            time.Time
	actor         *account
}
