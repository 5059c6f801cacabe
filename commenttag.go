package ccci

import (
	"crypto/sha256"
	"fmt"
	"regexp"
)

// CommentTag is made of the key that [Forge.PostComment] is called with. Adapters put
// it at the end of a comment, inside an HTML comment that readers do not see, and find
// the comment again by it. Anybody can copy one, so it counts in our own comments alone.
type CommentTag string

// TagOfKey returns the tag of a key: 32 hexadecimal digits.
func TagOfKey(key string) CommentTag {
	sum := sha256.Sum256([]byte(key))
	return CommentTag(fmt.Sprintf("%x", sum[:16]))
}

// AppendTo returns body with the tag at its end. The zero tag leaves body as it is.
func (t CommentTag) AppendTo(body string) string {
	if t == "" {
		return body
	}
	return fmt.Sprintf("%s\n\n<!-- cc-ci:%s -->", body, string(t))
}

var tagAtEnd = regexp.MustCompile(`<!-- cc-ci:([0-9a-f]{32}) -->\s*$`)

// TagOfBody returns the tag that a comment's body ends in, else "".
func TagOfBody(body string) CommentTag {
	if m := tagAtEnd.FindStringSubmatch(body); m != nil {
		return CommentTag(m[1])
	}
	return ""
}
