package githubfake

import (
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// must stops a test that uses the fake wrongly.
func must[T any](v T, ok bool, format string, args ...any) T {
	if !ok {
		panic("githubfake: " + fmt.Sprintf(format, args...))
	}
	return v
}

func (s *Server) account(login, kind string) *account {
	key := strings.ToLower(login)
	if s.users[key] == nil {
		s.users[key] = &account{id: s.id(), login: login, kind: kind}
	}
	return s.users[key]
}

func (s *Server) byID(id int64) *account {
	for _, u := range s.users {
		if u.id == id {
			return u
		}
	}
	return nil
}

func (a *account) user() ccci.User { return ccci.User{ID: fmt.Sprint(a.id), Name: a.login} }

// User returns the account of that name, and makes it where there is none.
func (s *Server) User(login string) ccci.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.account(login, "User").user()
}

// RenameUser gives an account another name; the old one is free then.
func (s *Server) RenameUser(login, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := must(s.users[strings.ToLower(login)], s.users[strings.ToLower(login)] != nil, "no user %q", login)
	delete(s.users, strings.ToLower(login))
	u.login = to
	s.users[strings.ToLower(to)] = u
}

// SetMember makes user a member of org: state is "active", "pending" or "" for not at all.
func (s *Server) SetMember(org, user, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(org, "Organization")
	members := s.orgs[strings.ToLower(org)]
	if members == nil {
		members = map[int64]string{}
		s.orgs[strings.ToLower(org)] = members
	}
	members[s.account(user, "User").id] = state
}

// Token makes a personal access token of a user.
func (s *Server) Token(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := fmt.Sprintf("ghp_%036d", s.id())
	s.tokens[token] = &identity{user: s.account(user, "User")}
	return token
}

// App makes a GitHub App with one installation everywhere.
func (s *Server) App(slug string, key *rsa.PublicKey) (id, installation int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &app{permissions: map[string]any{"members": "read", "pull_requests": "write", "statuses": "write", "checks": "write", "contents": "read"}, id: s.id(), installation: s.id(), slug: slug, bot: s.account(slug+"[bot]", "Bot"), key: key}
	s.apps[slug] = a
	return a.id, a.installation
}

// RevokeTokens makes every token of Apps invalid at once.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.tokens, func(_ string, i *identity) bool { return i.app != nil })
}

func (s *Server) repo(ref ccci.RepoRef) *repository {
	return s.repos[s.names[strings.ToLower(ref.String())]]
}

func (s *Server) knownRepo(ref ccci.RepoRef) *repository {
	r := s.repo(ref)
	return must(r, r != nil, "no repository %s", ref)
}

// RenameRepo gives a repository another name. The old one redirects.
func (s *Server) RenameRepo(ref, to ccci.RepoRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(ref)
	r.owner, r.name = s.account(to.Owner, "User"), to.Name
	s.names[strings.ToLower(to.String())] = r.id
}

// HideActivity makes the record of pushes to a repository unreadable, as that of a
// private fork is.
func (s *Server) HideActivity(ref ccci.RepoRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knownRepo(ref).hidden = true
}

// DropActivity forgets the n newest entries of the record, as when it is behind.
func (s *Server) DropActivity(ref ccci.RepoRef, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(ref)
	r.activities = r.activities[:len(r.activities)-n]
}

// ForgetPush forgets the pushes that led to a commit.
func (s *Server) ForgetPush(ref ccci.RepoRef, to ccci.Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(ref)
	r.activities = slices.DeleteFunc(r.activities, func(a activity) bool { return a.after == string(to) })
}

// DropForced forgets the forced pushes of a pull request's timeline, as when it is behind.
func (s *Server) DropForced(pr ccci.PRRef) { s.changePull(pr, func(p *pull) { p.forced = nil }) }

// AddSuite gives a commit a check suite, made now.
func (s *Server) AddSuite(ref ccci.RepoRef, commit ccci.Commit, branch string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(ref)
	r.suites = append(r.suites, suite{id: s.id(), sha: string(commit), branch: branch, created: s.tick()})
}

// OpenPull opens a pull request from a branch of head (the base itself, or a fork).
func (s *Server) OpenPull(base, head ccci.RepoRef, title, branch, into, author string) ccci.PRRef {
	s.mu.Lock()
	r, h := s.knownRepo(base), s.knownRepo(head)
	sha := h.heads["refs/heads/"+branch]
	must(sha, sha != "", "%s has no branch %q", head, branch)
	p := s.addIssue(r, title, author)
	p.head, p.branch, p.base, p.sha, p.isIssue = h, branch, into, sha, false
	s.mu.Unlock()
	s.publishPull(p)
	return ccci.PRRef{Repo: base, Number: int(p.number)}
}

// OpenBarePull opens a pull request whose head is in no git repository, for
// tests that have many and fetch none.
func (s *Server) OpenBarePull(repo ccci.RepoRef, title, author string) ccci.PRRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(repo)
	p := s.addIssue(r, title, author)
	p.head, p.branch, p.base, p.sha, p.isIssue = r, "update", "main", strings.Repeat("a", 40), false
	return ccci.PRRef{Repo: repo, Number: int(p.number)}
}

// Move pushes to the head of a pull request that is in no git repository.
func (s *Server) Move(pr ccci.PRRef, to ccci.Commit, forced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pullOf(pr)
	now := s.tick()
	a := activity{id: s.id(), before: p.sha, after: string(to), ref: "refs/heads/" + p.branch, kind: "push", at: now, actor: p.author}
	if forced {
		a.kind = "force_push"
		p.forced = append(p.forced, now)
	}
	p.repo.activities = append(p.repo.activities, a)
	p.sha, p.updated = string(to), now
}

// Truth is the head that a pull request had when a comment was written, which
// GitHub itself does not tell.
func (s *Server) Truth(repo ccci.RepoRef, id ccci.CommentID) ccci.Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ccci.Commit(s.knownRepo(repo).comment(string(id)).head)
}

// OpenIssue opens an issue that is no pull request.
func (s *Server) OpenIssue(repo ccci.RepoRef, title, author string) ccci.PRRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ccci.PRRef{Repo: repo, Number: int(s.addIssue(s.knownRepo(repo), title, author).number)}
}

func (s *Server) addIssue(r *repository, title, author string) *pull {
	now := s.tick()
	p := &pull{id: s.id(), number: int64(len(r.pulls) + 1), repo: r, title: title, author: s.account(author, "User"),
		open: true, isIssue: true, created: now, updated: now}
	r.pulls[int(p.number)] = p
	return p
}

func (s *Server) pullOf(pr ccci.PRRef) *pull {
	p := s.knownRepo(pr.Repo).pulls[pr.Number]
	return must(p, p != nil, "no %s", pr)
}

// ClosePull closes a pull request.
func (s *Server) ClosePull(pr ccci.PRRef) { s.changePull(pr, func(p *pull) { p.open = false }) }

// MergePull notes that a pull request was merged as a commit, which a push has brought.
func (s *Server) MergePull(pr ccci.PRRef, as ccci.Commit) {
	s.changePull(pr, func(p *pull) { p.open, p.mergedAs, p.mergedAt = false, string(as), s.tick() })
}

// DeleteIssue makes everything about a pull request 410.
func (s *Server) DeleteIssue(pr ccci.PRRef) { s.changePull(pr, func(p *pull) { p.deleted = true }) }

// Lock locks a pull request's conversation.
func (s *Server) Lock(pr ccci.PRRef) { s.changePull(pr, func(p *pull) { p.locked = true }) }

// DeleteFork makes the head's repository unknown.
func (s *Server) DeleteFork(pr ccci.PRRef) { s.changePull(pr, func(p *pull) { p.head = nil }) }

func (s *Server) changePull(pr ccci.PRRef, change func(*pull)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pullOf(pr)
	change(p)
	p.updated = s.tick()
}

// Comment writes a comment.
func (s *Server) Comment(pr ccci.PRRef, author, body string) ccci.CommentID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ccci.CommentID(fmt.Sprint(s.addComment(s.pullOf(pr), s.account(author, "User"), body).id))
}

func (s *Server) addComment(p *pull, author *account, body string) *comment {
	now := s.tick()
	c := &comment{id: s.id(), on: p, author: author, body: body, created: now, updated: now, head: p.sha}
	p.repo.comments = append(p.repo.comments, c)
	p.updated = now
	return c
}

// ChangeComment edits a comment as somebody with write access can.
func (s *Server) ChangeComment(repo ccci.RepoRef, id ccci.CommentID, body string) {
	s.changeComment(repo, id, func(c *comment) { c.body, c.updated = body, s.tick() })
}

// Minimize hides a comment.
func (s *Server) Minimize(repo ccci.RepoRef, id ccci.CommentID) {
	s.changeComment(repo, id, func(c *comment) { c.minimized = true })
}

// ViaApp marks a comment as written by an App in its author's name.
func (s *Server) ViaApp(repo ccci.RepoRef, id ccci.CommentID) {
	s.changeComment(repo, id, func(c *comment) { c.viaApp = true })
}

// DeleteComment deletes one.
func (s *Server) DeleteComment(repo ccci.RepoRef, id ccci.CommentID) {
	s.changeComment(repo, id, func(c *comment) {
		r := s.knownRepo(repo)
		r.comments = slices.DeleteFunc(r.comments, func(x *comment) bool { return x == c })
	})
}

func (s *Server) changeComment(repo ccci.RepoRef, id ccci.CommentID, change func(*comment)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.knownRepo(repo).comment(string(id))
	change(must(c, c != nil, "no comment %s", id))
}

func (r *repository) comment(id string) *comment {
	for _, c := range r.comments {
		if fmt.Sprint(c.id) == id {
			return c
		}
	}
	return nil
}

// Thread returns the comments on a pull request, oldest first.
func (s *Server) Thread(pr ccci.PRRef) []ccci.Comment {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pullOf(pr)
	var out []ccci.Comment
	for _, c := range p.repo.comments {
		if c.on == p {
			out = append(out, ccci.Comment{ID: ccci.CommentID(fmt.Sprint(c.id)), PR: pr, Author: c.author.user(), Body: c.body,
				Created: c.created, Edited: !c.created.Equal(c.updated)})
		}
	}
	return out
}

// Statuses returns the last status of each context of a commit, ordered by context.
func (s *Server) Statuses(repo ccci.RepoRef, commit ccci.Commit) []ccci.CommitStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := map[string]ccci.CommitStatus{}
	for _, st := range s.knownRepo(repo).statuses {
		if st.sha == string(commit) {
			last[st.Context] = st.CommitStatus
		}
	}
	var out []ccci.CommitStatus
	for _, context := range slices.Sorted(maps.Keys(last)) {
		out = append(out, last[context])
	}
	return out
}

// CheckRun is a check run as a reader sees it.
type CheckRun struct{ Name, Status, Conclusion, Title string }

// CheckRuns returns a commit's check runs, oldest first.
func (s *Server) CheckRuns(repo ccci.RepoRef, commit ccci.Commit) []CheckRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []CheckRun
	for _, c := range s.knownRepo(repo).checks {
		if c.sha == string(commit) {
			out = append(out, CheckRun{c.name, c.status, c.conclusion, c.title})
		}
	}
	return out
}

// Bot makes an account of an App.
func (s *Server) Bot(login string) ccci.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.account(login, "Bot").user()
}

// SetScopes makes a token a classic one with these scopes; nil: a fine-grained one.
func (s *Server) SetScopes(token string, scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token].scopes = scopes
}

// SetExpiry lets a token end.
func (s *Server) SetExpiry(token string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token].expires = at
}

// SetPermissions changes what an App's installation may.
func (s *Server) SetPermissions(slug string, permissions map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[slug].permissions = permissions
}

// AddDelivery notes a webhook of an App, with the status code that it was answered with.
func (s *Server) AddDelivery(slug string, code int, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.shape("hook-delivery-item", map[string]any{"id": s.id(), "status": status, "status_code": code, "delivered_at": stamp(s.tick()), "event": "issue_comment"})
	s.apps[slug].deliveries = append([]any{d}, s.apps[slug].deliveries...)
}

// Describe sets what a repository is found by.
func (s *Server) Describe(ref ccci.RepoRef, archived bool, topics, teams []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(ref)
	r.archived, r.teams, r.topics = archived, teams, nil
	for _, t := range topics {
		r.topics = append(r.topics, t)
	}
}

// Head is the present head of a pull request.
func (s *Server) Head(pr ccci.PRRef) ccci.Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ccci.Commit(s.pullOf(pr).sha)
}

// Pushes counts the entries of a repository's record of pushes.
func (s *Server) Pushes(repo ccci.RepoRef) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.knownRepo(repo).activities)
}

// PushedAtOrAfter says whether the record has a push at that second or later.
func (s *Server) PushedAtOrAfter(repo ccci.RepoRef, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.knownRepo(repo).activities, func(a activity) bool { return !a.at.Before(at) })
}

// WasHeadAt says whether a push of that very second replaced the commit, or made it the head.
func (s *Server) WasHeadAt(repo ccci.RepoRef, at time.Time, commit ccci.Commit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.knownRepo(repo).activities, func(a activity) bool {
		return a.at.Equal(at) && (a.before == string(commit) || a.after == string(commit))
	})
}
