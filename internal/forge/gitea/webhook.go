package gitea

import (
	"cmp"
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
	either := func(name string) string { return cmp.Or(header.Get("X-Gitea-"+name), header.Get("X-Forgejo-"+name)) }
	d := ccci.Delivery{Forge: "Gitea", ID: either("Delivery"), Signature: either("Signature"), ContentType: header.Get("Content-Type"),
		// The plain event is "issue_comment" for issues and pull requests alike.
		Comment: either("Event-Type") == "pull_request_comment"}
	var event struct {
		IsPull bool `json:"is_pull"`
	}
	repo, created, err := d.Read(body, keys, &event)
	if err != nil {
		return ccci.RepoRef{}, "", false, err
	}
	return repo, d.ID, created && event.IsPull, nil
}
