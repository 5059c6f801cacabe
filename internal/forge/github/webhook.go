package github

import (
	"encoding/json"
	"net/http"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ParseWebhook verifies a delivery and says which repository has a new comment on
// a pull request. It is a hint, nothing more: the comment itself is read from
// the API, so that a key that leaked can forge no body and no author. body is
// the raw request body, which the caller bounds before reading.
//
// keys are the secrets that are good now, two during a rotation; without any,
// everything is refused. relevant is false for deliveries that are genuine and
// of no interest. deliveryID is the same when GitHub delivers again; a replay
// may carry any, so that it is no proof of novelty.
func ParseWebhook(header http.Header, body []byte, keys []ccci.Secret) (repo ccci.RepoRef, deliveryID string, relevant bool, err error) {
	signature, signed := strings.CutPrefix(header.Get("X-Hub-Signature-256"), "sha256=")
	if !signed {
		signature = ""
	}
	d := ccci.Delivery{Forge: "GitHub", ID: header.Get("X-GitHub-Delivery"), Signature: signature, ContentType: header.Get("Content-Type"),
		Comment: header.Get("X-GitHub-Event") == "issue_comment"}
	var event struct {
		Issue struct {
			PullRequest json.RawMessage `json:"pull_request"`
		} `json:"issue"`
	}
	repo, created, err := d.Read(body, keys, &event)
	if err != nil {
		return ccci.RepoRef{}, "", false, err
	}
	return repo, d.ID, created && isSet(event.Issue.PullRequest), nil
}
