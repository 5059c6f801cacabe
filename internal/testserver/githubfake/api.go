package githubfake

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// call is one request of the API, with s.mu held.
type call struct {
	s    *Server
	r    *http.Request
	who  *identity
	body []byte
	repo *repository
	pull *pull // of {issue_number} or {pull_number}
}

// handlers are known by GitHub's own names of the operations.
var handlers = map[string]func(*call) reply{
	"users/get-authenticated":                    (*call).self,
	"users/get-by-id":                            (*call).userByID,
	"users/get-by-username":                      (*call).userByLogin,
	"apps/get-authenticated":                     (*call).appItself,
	"apps/create-installation-access-token":      (*call).installationToken,
	"orgs/get-membership-for-user":               (*call).membership,
	"orgs/check-membership-for-user":             (*call).isMember,
	"orgs/get-membership-for-authenticated-user": (*call).ownMembership,
	"issues/list-comments-for-repo":              (*call).listComments,
	"issues/get-comment":                         (*call).oneComment,
	"issues/update-comment":                      (*call).editComment,
	"issues/list-comments":                       (*call).listThread,
	"issues/create-comment":                      (*call).postComment,
	"issues/list-events-for-timeline":            (*call).timeline,
	"pulls/list":                                 (*call).listPulls,
	"pulls/get":                                  (*call).onePull,
	"git/get-commit":                             (*call).gitCommit,
	"repos/list-activities":                      (*call).listActivity,
	"checks/list-suites-for-ref":                 (*call).listSuites,
	"checks/list-for-ref":                        (*call).listChecks,
	"checks/create":                              (*call).makeCheck,
	"checks/update":                              (*call).changeCheck,
	"repos/create-commit-status":                 (*call).setStatus,
	"repos/get":                                  (*call).oneRepo,
	"repos/list-for-org":                         (*call).listRepos,
	"teams/list-repos-in-org":                    (*call).listRepos,
	"apps/list-webhook-deliveries":               (*call).listDeliveries,
}

// handle runs the handler of an operation.
func (s *Server) handle(op int, r *http.Request, who *identity, body []byte) reply {
	parts := strings.Split(r.URL.Path, "/")
	for i, name := range strings.Split(s.spec.Operations[op].Path, "/") {
		if strings.HasPrefix(name, "{") {
			r.SetPathValue(strings.Trim(name, "{}"), parts[i])
		}
	}
	c := &call{s: s, r: r, who: who, body: body}
	if refused := c.find(); refused.status != 0 {
		return refused
	}
	return handlers[s.spec.Operations[op].ID](c)
}

// find looks up what the path names.
func (c *call) find() reply {
	owner := c.r.PathValue("owner")
	if owner == "" {
		return reply{}
	}
	c.repo = c.s.repos[c.s.names[strings.ToLower(owner+"/"+c.r.PathValue("repo"))]]
	if c.repo == nil || c.repo.private && c.repo.owner != c.who.user {
		return notFound
	}
	n := c.r.PathValue("issue_number") + c.r.PathValue("pull_number")
	if n == "" {
		return reply{}
	}
	number, err := strconv.Atoi(n)
	c.pull = c.repo.pulls[number]
	switch {
	case err != nil || c.pull == nil:
		return notFound
	case c.pull.deleted:
		return refusal(http.StatusGone, "This issue was deleted")
	}
	return reply{}
}

func (c *call) self() reply {
	if c.who.app != nil {
		return refusal(http.StatusForbidden, "Resource not accessible by integration")
	}
	return answer(http.StatusOK, c.s.shape("private-user", c.s.userMap(c.who.user)))
}

func (c *call) userByID() reply {
	id, _ := strconv.ParseInt(c.r.PathValue("account_id"), 10, 64)
	return c.publicUser(c.s.byID(id))
}

func (c *call) userByLogin() reply {
	return c.publicUser(c.s.users[strings.ToLower(c.r.PathValue("username"))])
}

func (c *call) publicUser(u *account) reply {
	if u == nil {
		return notFound
	}
	return answer(http.StatusOK, c.s.shape("public-user", c.s.userMap(u)))
}

func (c *call) membership() reply {
	org, login := strings.ToLower(c.r.PathValue("org")), strings.ToLower(c.r.PathValue("username"))
	members, known := c.s.orgs[org]
	if !known {
		return notFound
	}
	if c.who.app == nil && members[c.who.user.id] != "active" {
		return refusal(http.StatusForbidden, "You must be a member of %s to see membership information for %s.", org, login)
	}
	u := c.s.users[login]
	if u == nil || members[u.id] == "" {
		return notFound
	}
	return c.membershipOf(org, u, members[u.id])
}

func (c *call) ownMembership() reply {
	org := strings.ToLower(c.r.PathValue("org"))
	state := c.s.orgs[org][c.who.user.id]
	if state == "" {
		return notFound
	}
	return c.membershipOf(org, c.who.user, state)
}

func (c *call) membershipOf(org string, u *account, state string) reply {
	return answer(http.StatusOK, c.s.shape("org-membership", map[string]any{
		"state": state, "role": "member", "user": c.s.userMap(u),
		"organization": map[string]any{"login": org, "id": c.s.users[org].id},
	}))
}

func (c *call) isMember() reply {
	org, login := strings.ToLower(c.r.PathValue("org")), strings.ToLower(c.r.PathValue("username"))
	members := c.s.orgs[org]
	if members[c.who.user.id] != "active" && c.who.app == nil {
		out := answer(http.StatusFound, nil)
		out.header.Set("Location", c.s.URL+apiPrefix+"/orgs/"+org+"/public_members/"+login)
		return out
	}
	if u := c.s.users[login]; u == nil || members[u.id] != "active" {
		return notFound
	}
	return answer(http.StatusNoContent, nil)
}

func (c *call) listComments() reply {
	list := slices.Clone(c.repo.comments)
	list = slices.DeleteFunc(list, func(x *comment) bool { return x.on.deleted })
	q := c.r.URL.Query()
	if since, err := time.Parse(time.RFC3339, q.Get("since")); err == nil {
		list = slices.DeleteFunc(list, func(x *comment) bool { return x.updated.Before(since) })
	}
	if sort := q.Get("sort"); sort != "" {
		slices.SortFunc(list, func(a, b *comment) int {
			if sort == "updated" {
				return cmp.Or(a.updated.Compare(b.updated), cmp.Compare(a.id, b.id))
			}
			return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id))
		})
		if q.Get("direction") != "asc" { // without sort it would be ignored
			slices.Reverse(list)
		}
	}
	return paged(c, list, c.s.commentMap, "issue-comment")
}

func (c *call) listThread() reply {
	list := slices.DeleteFunc(slices.Clone(c.repo.comments), func(x *comment) bool { return x.on != c.pull })
	return paged(c, list, c.s.commentMap, "issue-comment")
}

func (c *call) oneComment() reply {
	x := c.repo.comment(c.r.PathValue("comment_id"))
	if x == nil || x.on.deleted {
		return notFound
	}
	return answer(http.StatusOK, c.s.shape("issue-comment", c.s.commentMap(x)))
}

func (c *call) timeline() reply {
	type entry struct {
		at   time.Time
		name string
		v    map[string]any
	}
	var entries []entry
	for _, at := range c.pull.forced {
		entries = append(entries, entry{at, "state-change-issue-event", map[string]any{
			"id": 1, "event": "head_ref_force_pushed", "created_at": stamp(at), "actor": c.s.userMap(c.pull.author)}})
	}
	for _, x := range c.repo.comments {
		if x.on == c.pull {
			v := c.s.commentMap(x)
			v["event"], v["actor"] = "commented", c.s.userMap(x.author)
			entries = append(entries, entry{x.created, "timeline-comment-event", v})
		}
	}
	if !c.pull.isIssue {
		entries = append(entries, entry{c.pull.created, "timeline-committed-event", map[string]any{"event": "committed", "sha": c.pull.sha}})
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.at.Compare(b.at) })
	rows, header := page(c, entries)
	out := []any{}
	for _, e := range rows {
		out = append(out, c.s.shape(e.name, e.v))
	}
	return reply{status: http.StatusOK, header: header, body: out}
}

func (c *call) listPulls() reply {
	var list []*pull
	state := cmp.Or(c.r.URL.Query().Get("state"), "open")
	for _, p := range c.repo.pulls {
		if !p.isIssue && !p.deleted && (state == "all" || p.open == (state == "open")) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *pull) int { return cmp.Or(b.updated.Compare(a.updated), cmp.Compare(b.number, a.number)) })
	return paged(c, list, c.s.pullMap, "pull-request-simple")
}

func (c *call) onePull() reply {
	if c.pull.isIssue {
		return notFound
	}
	return answer(http.StatusOK, c.s.shape("pull-request", c.s.pullMap(c.pull)))
}

func (c *call) gitCommit() reply {
	sha := c.r.PathValue("commit_sha")
	if !c.s.hasCommit(c.repo, sha) {
		return notFound
	}
	tree, err := c.s.git(c.repo, "rev-parse", sha+"^{tree}")
	if err != nil {
		return refusal(http.StatusInternalServerError, "%v", err)
	}
	return answer(http.StatusOK, c.s.shape("git-commit", map[string]any{"sha": sha, "tree": map[string]any{"sha": tree}, "parents": []any{}}))
}

func (c *call) listActivity() reply {
	if c.repo.hidden {
		return notFound
	}
	ref := c.r.URL.Query().Get("ref")
	list := slices.DeleteFunc(slices.Clone(c.repo.activities), func(a activity) bool { return ref != "" && a.ref != ref })
	slices.Reverse(list)
	start, _ := strconv.Atoi(c.r.URL.Query().Get("after"))
	list = list[min(start, len(list)):]
	size := perPage(c)
	header := http.Header{}
	if len(list) > size {
		list = list[:size]
		q := c.r.URL.Query()
		q.Set("after", strconv.Itoa(start+size))
		header.Set("Link", fmt.Sprintf(`<%s%s%s?%s>; rel="next"`, c.s.URL, apiPrefix, c.r.URL.Path, q.Encode()))
	}
	out := []any{}
	for _, a := range list {
		out = append(out, c.s.shape("activity", map[string]any{"id": a.id, "before": a.before, "after": a.after, "ref": a.ref,
			"timestamp": stamp(a.at), "activity_type": a.kind, "actor": c.s.userMap(a.actor)}))
	}
	return reply{status: http.StatusOK, header: header, body: out}
}

func (c *call) listSuites() reply {
	suites := []any{}
	for _, x := range c.repo.suites {
		if x.sha == c.r.PathValue("ref") {
			suites = append(suites, c.s.shape("check-suite", map[string]any{"id": x.id, "head_sha": x.sha, "head_branch": x.branch, "created_at": stamp(x.created)}))
		}
	}
	return answer(http.StatusOK, map[string]any{"total_count": len(suites), "check_suites": suites})
}

func (c *call) listChecks() reply {
	runs := []any{}
	for _, x := range slices.Backward(c.repo.checks) {
		if x.sha == c.r.PathValue("ref") && (c.r.URL.Query().Get("check_name") == "" || x.name == c.r.URL.Query().Get("check_name")) {
			runs = append(runs, c.s.shape("check-run", c.s.checkMap(x)))
		}
	}
	return answer(http.StatusOK, map[string]any{"total_count": len(runs), "check_runs": runs})
}

func (c *call) oneRepo() reply {
	return answer(http.StatusOK, c.s.shape("full-repository", c.s.repoMap(c.repo)))
}

// listRepos lists those of an organisation, or of a team in it.
func (c *call) listRepos() reply {
	org, team := c.r.PathValue("org"), c.r.PathValue("team_slug")
	var list []*repository
	for _, r := range c.s.repos {
		if strings.EqualFold(r.owner.login, org) && !r.private && (team == "" || slices.Contains(r.teams, team)) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return notFound
	}
	slices.SortFunc(list, func(a, b *repository) int { return cmp.Compare(a.full(), b.full()) })
	return paged(c, list, c.s.repoMap, "minimal-repository")
}

func (c *call) listDeliveries() reply {
	if c.who.app == nil {
		return refusal(http.StatusUnauthorized, "A JSON web token could not be decoded")
	}
	return answer(http.StatusOK, append([]any{}, c.who.app.deliveries...))
}

func perPage(c *call) int {
	n, err := strconv.Atoi(c.r.URL.Query().Get("per_page"))
	if err != nil || n <= 0 {
		return 30
	}
	return min(n, 100)
}

// page cuts one page out of a list, with the Link header to the next one.
func page[T any](c *call, list []T) ([]T, http.Header) {
	number, err := strconv.Atoi(c.r.URL.Query().Get("page"))
	if err != nil || number < 1 {
		number = 1
	}
	size, header := perPage(c), http.Header{}
	start := min((number-1)*size, len(list))
	end := min(start+size, len(list))
	if end < len(list) {
		q := c.r.URL.Query()
		q.Set("page", strconv.Itoa(number+1))
		header.Set("Link", fmt.Sprintf(`<%s%s%s?%s>; rel="next"`, c.s.URL, apiPrefix, c.r.URL.Path, q.Encode()))
	}
	return list[start:end], header
}

func paged[T any](c *call, list []T, render func(T) map[string]any, schema string) reply {
	rows, header := page(c, list)
	out := []any{}
	for _, row := range rows {
		out = append(out, c.s.shape(schema, render(row)))
	}
	return reply{status: http.StatusOK, header: header, body: out}
}
