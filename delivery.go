package ccci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
)

// Delivery is one webhook's request about a comment, as the headers of a forge describe it.
type Delivery struct {
	Forge       string // the kind of forge, for sentences: "Gitea"
	ID          string // its number of the delivery
	Signature   string // HMAC-SHA256 of the body in hexadecimal digits, without a prefix; "" when there is none
	ContentType string
	Comment     bool // its event is the one of comments
}

// deliveryIDLimit bounds a delivery's number in bytes.
const deliveryIDLimit = 100

// Read verifies the delivery and returns the repository it is about, and whether
// something was written there: created is false for what is genuine and of no
// interest. What the kind of forge adds is decoded from the same body into more.
//
// keys are the secrets that are good now; without any, everything is refused. Errors
// carry CodeRefused when the delivery is not believed, CodeInvalid when it is
// and cannot be read.
func (d Delivery) Read(body []byte, keys []Secret, more any) (repo RepoRef, created bool, err error) {
	activity := "reading a webhook of " + d.Forge
	// Where a webhook has no secret, the header may be there and empty.
	signature, err := hex.DecodeString(d.Signature)
	if err != nil || len(signature) != sha256.Size {
		return RepoRef{}, false, Errorf(CodeRefused, "%s: it has no signature", activity)
	}
	if !SignedBy(keys, body, signature) {
		return RepoRef{}, false, Errorf(CodeRefused, "%s: its signature fits none of %d keys", activity, len(keys))
	}
	if kind, _, err := mime.ParseMediaType(d.ContentType); err != nil || kind != "application/json" {
		return RepoRef{}, false, Errorf(CodeInvalid, "%s: its content type is %q", activity, d.ContentType).
			WithHint("choose application/json in the webhook's settings")
	}
	if d.ID == "" || len(d.ID) > deliveryIDLimit {
		return RepoRef{}, false, Errorf(CodeRefused, "%s: it names no delivery", activity)
	}
	if !d.Comment {
		return RepoRef{}, false, nil
	}
	var event struct {
		Action     string `json:"action"`
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return RepoRef{}, false, Errorf(CodeInvalid, "%s: %w", activity, err)
	}
	if err := json.Unmarshal(body, more); err != nil {
		return RepoRef{}, false, Errorf(CodeInvalid, "%s: %w", activity, err)
	}
	if repo, err = ParseRepoRef(event.Repository.FullName); err != nil {
		return RepoRef{}, false, Errorf(CodeInvalid, "%s: %w", activity, err)
	}
	return repo, event.Action == "created", nil
}
