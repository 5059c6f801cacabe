package github

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
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
	refuse := func(format string, args ...any) (ccci.RepoRef, string, bool, error) {
		return ccci.RepoRef{}, "", false, ccci.Errorf(ccci.CodeRefused, "reading a webhook of GitHub: "+format, args...)
	}
	signature, err := hex.DecodeString(strings.TrimPrefix(header.Get("X-Hub-Signature-256"), "sha256="))
	if err != nil || len(signature) != sha256.Size || !strings.HasPrefix(header.Get("X-Hub-Signature-256"), "sha256=") {
		return refuse("it has no signature")
	}
	if !ccci.SignedBy(keys, body, signature) {
		return refuse("its signature fits none of %d keys", len(keys))
	}
	if kind, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || kind != "application/json" {
		return ccci.RepoRef{}, "", false, ccci.Errorf(ccci.CodeInvalid, "reading a webhook of GitHub: its content type is %q", header.Get("Content-Type")).
			WithHint("choose application/json in the webhook's settings")
	}
	deliveryID = header.Get("X-GitHub-Delivery")
	if deliveryID == "" || len(deliveryID) > 100 {
		return refuse("it names no delivery")
	}
	if header.Get("X-GitHub-Event") != "issue_comment" {
		return ccci.RepoRef{}, deliveryID, false, nil
	}
	var event struct {
		Action string `json:"action"`
		Issue  struct {
			PullRequest json.RawMessage `json:"pull_request"`
		} `json:"issue"`
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return ccci.RepoRef{}, "", false, ccci.Errorf(ccci.CodeInvalid, "reading a webhook of GitHub: %w", err)
	}
	if repo, err = ccci.ParseRepoRef(event.Repository.FullName); err != nil {
		return ccci.RepoRef{}, "", false, ccci.Errorf(ccci.CodeInvalid, "reading a webhook of GitHub: %w", err)
	}
	return repo, deliveryID, event.Action == "created" && isSet(event.Issue.PullRequest), nil
}
