package ccci

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
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

// keptBody is how long a comment's body may be before [ShortBody] shortens it, in bytes.
const keptBody = 4 << 10

// ShortBody returns the body of a comment, or of a long one its beginning and its end, so
// that adapters need not hold what anybody may write. Between the two stands a line with
// "…": what was shortened is no command, and ends in the tag that it had.
func ShortBody(body string) string {
	if len(body) <= keptBody {
		return body
	}
	return strings.ToValidUTF8(body[:keptBody*3/4], "") + "\n…\n" + strings.ToValidUTF8(body[len(body)-keptBody/4:], "")
}

var tagAtEnd = regexp.MustCompile(`<!-- cc-ci:([0-9a-f]{32}) -->\s*$`)

// TagOfBody returns the tag that a comment's body ends in, else "".
func TagOfBody(body string) CommentTag {
	if m := tagAtEnd.FindStringSubmatch(body); m != nil {
		return CommentTag(m[1])
	}
	return ""
}
