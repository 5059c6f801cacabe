package githubfake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Delivery makes the webhook that GitHub sends about a comment; action is created,
// edited or deleted. Its shape is that of the published schema.
func (s *Server) Delivery(repo ccci.RepoRef, id ccci.CommentID, action, key string) (http.Header, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.knownRepo(repo)
	c := r.comment(string(id))
	must(c, c != nil, "no comment %s", id)
	issue := map[string]any{"number": c.on.number, "title": c.on.title, "user": s.userMap(c.on.author), "created_at": stamp(c.on.created),
		"updated_at": stamp(c.on.updated), "state": "open"}
	if !c.on.isIssue {
		page := fmt.Sprintf("%s/%s/pull/%d", s.URL, r.full(), c.on.number)
		issue["pull_request"] = map[string]any{"url": page, "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch"}
	}
	payload := s.shape("webhook-issue-comment-"+action, map[string]any{
		"action": action, "repository": s.repoMap(r), "sender": s.userMap(c.author), "comment": s.commentMap(c), "issue": issue,
	})
	body, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("X-GitHub-Event", "issue_comment")
	h.Set("X-GitHub-Delivery", fmt.Sprintf("72d3162e-cc78-11e3-81ab-%012d", s.id()))
	h.Set("X-Hub-Signature-256", Sign(key, body))
	return h, body
}

// Sign is the signature of a body.
func Sign(key string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
