package gitea

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Signatures are the headers that may hold a delivery's signature.
var Signatures = []string{"X-Gitea-Signature", "X-Forgejo-Signature"}

// ParseWebhook verifies a delivery and says which repository has a new comment on
// a pull request. It is a hint, nothing more: the comment itself is read from
// the API, so that a key that leaked can forge no body and no author. body is
// the raw request body, which the caller bounds before reading.
//
// keys are the secrets that are good now, two during a rotation; without any,
// everything is refused. relevant is false for deliveries that are genuine and
// of no interest. deliveryID is a new one when a delivery is repeated by hand, and is
// not signed: no proof of novelty.
func ParseWebhook(header http.Header, body []byte, keys []ccci.Secret) (repo ccci.RepoRef, deliveryID string, relevant bool, err error) {
	refuse := func(code ccci.Code, format string, args ...any) (ccci.RepoRef, string, bool, error) {
		return ccci.RepoRef{}, "", false, ccci.Errorf(code, "reading a webhook of Gitea: "+format, args...)
	}
	either := func(name string) string { return cmp.Or(header.Get("X-Gitea-"+name), header.Get("X-Forgejo-"+name)) }
	signature, err := hex.DecodeString(either("Signature"))
	if err != nil || len(signature) != sha256.Size { // without a secret the header is there, and empty
		return refuse(ccci.CodeRefused, "it has no signature")
	}
	if !ccci.SignedBy(keys, body, signature) {
		return refuse(ccci.CodeRefused, "its signature fits none of %d keys", len(keys))
	}
	if kind, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || kind != "application/json" {
		return ccci.RepoRef{}, "", false, ccci.Errorf(ccci.CodeInvalid, "reading a webhook of Gitea: its content type is %q", header.Get("Content-Type")).
			WithHint("choose application/json in the webhook's settings")
	}
	deliveryID = either("Delivery")
	if deliveryID == "" || len(deliveryID) > 100 {
		return refuse(ccci.CodeRefused, "it names no delivery")
	}
	// The plain event is "issue_comment" for issues and pull requests alike.
	if either("Event-Type") != "pull_request_comment" {
		return ccci.RepoRef{}, deliveryID, false, nil
	}
	var event struct {
		Action     string `json:"action"`
		IsPull     bool   `json:"is_pull"`
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return refuse(ccci.CodeInvalid, "%w", err)
	}
	if repo, err = ccci.ParseRepoRef(event.Repository.FullName); err != nil {
		return refuse(ccci.CodeInvalid, "%w", err)
	}
	return repo, deliveryID, event.Action == "created" && event.IsPull, nil
}
