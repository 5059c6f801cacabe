package githubfake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (s *Server) userMap(u *account) map[string]any {
	return map[string]any{"id": u.id, "login": u.login, "type": u.kind, "site_admin": false, "url": s.APIURL + "users/" + u.login, "html_url": s.URL + "/" + u.login}
}

func (s *Server) repoMap(r *repository) map[string]any {
	return map[string]any{"id": r.id, "name": r.name, "full_name": r.full(), "owner": s.userMap(r.owner), "private": r.private, "fork": r.parent != nil,
		"clone_url": s.cloneURL(r), "html_url": s.URL + "/" + r.full(), "default_branch": "main", "archived": r.archived, "topics": append([]any{}, r.topics...)}
}

func (s *Server) commentMap(c *comment) map[string]any {
	kind := "pull"
	if c.on.isIssue {
		kind = "issues"
	}
	v := map[string]any{
		"id": c.id, "body": c.body, "user": s.userMap(c.author), "created_at": stamp(c.created), "updated_at": stamp(c.updated),
		"html_url":           fmt.Sprintf("%s/%s/%s/%d#issuecomment-%d", s.URL, c.on.repo.full(), kind, c.on.number, c.id),
		"url":                fmt.Sprintf("%srepos/%s/issues/comments/%d", s.APIURL, c.on.repo.full(), c.id),
		"issue_url":          fmt.Sprintf("%srepos/%s/issues/%d", s.APIURL, c.on.repo.full(), c.on.number),
		"author_association": "NONE", "performed_via_github_app": nil, // private members look like strangers
	}
	if c.minimized {
		v["minimized"] = map[string]any{"reason": "off-topic"}
	}
	if c.viaApp {
		v["performed_via_github_app"] = map[string]any{"id": 7, "name": "somebody's app"}
	}
	return v
}

func (s *Server) pullMap(p *pull) map[string]any {
	state := "closed"
	if p.open {
		state = "open"
	}
	side := func(r *repository, ref, sha string) map[string]any {
		v := map[string]any{"ref": ref, "sha": sha, "label": ref, "repo": nil, "user": nil}
		if r != nil {
			v["repo"], v["user"] = s.repoMap(r), s.userMap(r.owner)
		}
		return v
	}
	v := map[string]any{
		"id": p.id, "number": p.number, "title": p.title, "state": state, "locked": p.locked, "user": s.userMap(p.author),
		"created_at": stamp(p.created), "updated_at": stamp(p.updated), "html_url": fmt.Sprintf("%s/%s/pull/%d", s.URL, p.repo.full(), p.number),
		"head": side(p.head, p.branch, p.sha), "base": side(p.repo, p.base, p.repo.heads["refs/heads/"+p.base]),
		"merged": p.mergedAs != "", "merged_at": nil,
	}
	if p.mergedAs != "" {
		v["merged_at"], v["merge_commit_sha"] = stamp(p.mergedAt), p.mergedAs
	}
	return v
}

func (s *Server) checkMap(c *check) map[string]any {
	v := map[string]any{"id": c.id, "name": c.name, "head_sha": c.sha, "status": c.status, "conclusion": nil, "started_at": stamp(c.started),
		"app": map[string]any{"id": c.app.id, "slug": c.app.slug, "name": c.app.slug}, "output": map[string]any{"title": c.title, "summary": c.title}}
	if c.conclusion != "" {
		v["conclusion"] = c.conclusion
	}
	return v
}

func invalid(resource, field, code, message string) reply {
	return answer(http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest", "status": "422",
		"errors": []any{map[string]any{"resource": resource, "field": field, "code": code, "message": message}}})
}

// BodyLimit is how many characters a comment may have.
const BodyLimit = 65_536

// commentBody reads the one field of a comment that is written.
func (c *call) commentBody() (string, reply) {
	var in struct{ Body string }
	if err := json.Unmarshal(c.body, &in); err != nil {
		return "", refusal(http.StatusBadRequest, "Problems parsing JSON")
	}
	switch n := utf8.RuneCountInString(in.Body); {
	case n == 0:
		return "", invalid("IssueComment", "body", "missing_field", "body is empty")
	case n > BodyLimit:
		return "", invalid("IssueComment", "data", "unprocessable", "Body is too long (maximum is 65536 characters)")
	}
	return in.Body, reply{}
}

func (c *call) postComment() reply {
	if c.pull.locked && c.repo.owner != c.who.user {
		return refusal(http.StatusForbidden, "Unable to create comment because issue is locked.")
	}
	body, bad := c.commentBody()
	if bad.status != 0 {
		return bad
	}
	return answer(http.StatusCreated, c.s.shape("issue-comment", c.s.commentMap(c.s.addComment(c.pull, c.who.user, body))))
}

// editComment lets everybody with a token edit, as write access does.
func (c *call) editComment() reply {
	x := c.repo.comment(c.r.PathValue("comment_id"))
	if x == nil || x.on.deleted {
		return notFound
	}
	body, bad := c.commentBody()
	if bad.status != 0 {
		return bad
	}
	x.body, x.updated = body, c.s.tick()
	return answer(http.StatusOK, c.s.shape("issue-comment", c.s.commentMap(x)))
}

func (c *call) setStatus() reply {
	var in struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil {
		return refusal(http.StatusBadRequest, "Problems parsing JSON")
	}
	sha := c.r.PathValue("sha")
	switch {
	case !c.s.hasCommit(c.repo, sha):
		return refusal(http.StatusUnprocessableEntity, "No commit found for SHA: %s", sha)
	case utf8.RuneCountInString(in.Description) > 140:
		return invalid("Status", "description", "custom", "description is too long (maximum is 140 characters)")
	}
	c.repo.statuses = append(c.repo.statuses, status{sha, ccci.CommitStatus{Context: in.Context, State: ccci.StatusState(in.State), Description: in.Description, URL: in.TargetURL}})
	now := stamp(c.s.tick())
	return answer(http.StatusCreated, c.s.shape("status", map[string]any{"id": c.s.id(), "created_at": now, "updated_at": now, "state": in.State, "context": in.Context,
		"description": in.Description, "target_url": in.TargetURL, "creator": c.s.userMap(c.who.user)}))
}

type checkInput struct {
	Name       string
	HeadSHA    string `json:"head_sha"`
	Status     string
	Conclusion string
	Output     struct{ Title string }
}

func (c *call) checkInput() (in checkInput, bad reply) {
	if c.who.app == nil {
		return in, refusal(http.StatusForbidden, "You must authenticate via a GitHub App.")
	}
	if err := json.Unmarshal(c.body, &in); err != nil {
		return in, refusal(http.StatusBadRequest, "Problems parsing JSON")
	}
	return in, reply{}
}

func (c *call) makeCheck() reply {
	in, bad := c.checkInput()
	if bad.status != 0 {
		return bad
	}
	if !c.s.hasCommit(c.repo, in.HeadSHA) {
		return refusal(http.StatusUnprocessableEntity, "No commit found for SHA: %s", in.HeadSHA)
	}
	x := &check{id: c.s.id(), sha: in.HeadSHA, app: c.who.app, name: in.Name, status: in.Status, conclusion: in.Conclusion, title: in.Output.Title, started: c.s.tick()}
	c.repo.checks = append(c.repo.checks, x)
	return answer(http.StatusCreated, c.s.shape("check-run", c.s.checkMap(x)))
}

func (c *call) changeCheck() reply {
	in, bad := c.checkInput()
	if bad.status != 0 {
		return bad
	}
	for _, x := range c.repo.checks {
		if strconv.FormatInt(x.id, 10) == c.r.PathValue("check_run_id") {
			x.status, x.conclusion, x.title = in.Status, in.Conclusion, in.Output.Title
			return answer(http.StatusOK, c.s.shape("check-run", c.s.checkMap(x)))
		}
	}
	return notFound
}

func (c *call) appItself() reply {
	if c.who.app == nil {
		return refusal(http.StatusUnauthorized, "A JSON web token could not be decoded")
	}
	a := c.who.app
	return answer(http.StatusOK, c.s.shape("integration", map[string]any{"id": a.id, "slug": a.slug, "name": a.slug, "owner": c.s.userMap(a.bot)}))
}

// tokenLife is how long an installation token lives.
const tokenLife = time.Hour

func (c *call) installationToken() reply {
	a := c.who.app
	if a == nil || strconv.FormatInt(a.installation, 10) != c.r.PathValue("installation_id") {
		return notFound
	}
	a.serial++
	token := fmt.Sprintf("ghs_%d_%d", a.id, a.serial)
	c.s.tokens[token] = &identity{user: a.bot, app: a, expires: c.s.now.Add(tokenLife)}
	return answer(http.StatusCreated, c.s.shape("installation-token", map[string]any{"token": token, "expires_at": stamp(c.s.now.Add(tokenLife)),
		"permissions": a.permissions}))
}
