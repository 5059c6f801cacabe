package ccci

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// RepoRef names a repository on a forge.
type RepoRef struct {
	Owner string `json:"owner"`
	Name  string `json:"name"`
}

func (r RepoRef) String() string { return r.Owner + "/" + r.Name }

// IsZero reports whether the reference is empty, as for a run by hand.
func (r RepoRef) IsZero() bool { return r == RepoRef{} }

// ParseRepoRef reads "owner/name".
func ParseRepoRef(s string) (RepoRef, error) {
	owner, name, ok := strings.Cut(s, "/")
	if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return RepoRef{}, Errorf(CodeInvalid, "%q is not a repository", s).WithHint("write owner/name")
	}
	return RepoRef{Owner: owner, Name: name}, nil
}

// PRRef names a pull request by its number, which starts at 1.
type PRRef struct {
	Repo   RepoRef `json:"repo"`
	Number int     `json:"number"`
}

func (p PRRef) String() string { return fmt.Sprintf("%s#%d", p.Repo, p.Number) }

// Commit is a full object name: 40 (or 64) lower-case hexadecimal digits.
type Commit string

// Short returns the first 8 digits, the form used in labels and in text.
func (c Commit) Short() string {
	if len(c) > 8 {
		return string(c[:8])
	}
	return string(c)
}

// Valid reports whether c is a full object name.
func (c Commit) Valid() bool {
	return (len(c) == 40 || len(c) == 64) && strings.Trim(string(c), "0123456789abcdef") == ""
}

// User is an account on a forge. ID never changes and is what authorisation
// compares; Name may be renamed and re-used by somebody else.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// CommentID is the forge's own identifier of a comment, unique within a forge.
type CommentID string

// Comment is one comment on a pull request as the forge reports it.
type Comment struct {
	ID      CommentID `json:"id"`
	PR      PRRef     `json:"pr"`
	Author  User      `json:"author"`
	Body    string    `json:"body"` // of a long one perhaps shortened, as [ShortBody] does
	Created time.Time `json:"created"`
	// Edited is true when the body may differ from what the author first wrote.
	// An edited comment is never a command: others with write access can edit it.
	Edited bool `json:"edited,omitempty"`
}

// PullRequest is the present state of a pull request.
type PullRequest struct {
	Ref      PRRef  `json:"ref"`
	Title    string `json:"title"`
	Author   User   `json:"author"`
	Open     bool   `json:"open"`
	Head     Commit `json:"head"`     // the head now
	Branch   string `json:"branch"`   // the head's branch name
	Fork     bool   `json:"fork"`     // the head's branch is of another repository than Ref's
	Base     string `json:"base"`     // the target branch's name
	CloneURL string `json:"cloneUrl"` // the head can be fetched from here by its full object name
	URL      string `json:"url"`      // where a person looks at it; may be empty
}

// StatusState is the state of a commit status.
type StatusState string

const (
	StatePending StatusState = "pending"
	StateSuccess StatusState = "success"
	StateFailure StatusState = "failure" // the recipe's fault
	StateError   StatusState = "error"   // ours, or cancelled
)

// CommitStatus is what the forge shows beside a commit.
type CommitStatus struct {
	Context     string      `json:"context"` // "cc-ci/testme"
	State       StatusState `json:"state"`
	Description string      `json:"description"` // at most 140 characters
	URL         string      `json:"url"`
}

// Cursor is an adapter's own mark of how far comments were read. The zero
// Cursor stands for the beginning of the repository's life.
type Cursor string

var (
	// ErrHeadMoved says the pull request was pushed to after the comment.
	ErrHeadMoved = errors.New("the pull request was pushed to after the comment was written")
	// ErrHeadUnknown says that nobody can prove what the head was.
	ErrHeadUnknown = errors.New("the head at the time of the comment cannot be proven")
	// ErrNotFound says that what was named is not there. Adapters of every port use it.
	ErrNotFound = errors.New("not found")
	// ErrRefused says that the forge itself answered, and refuses this one thing on this one
	// pull request or commit. It says nothing about others, and it may pass.
	ErrRefused = errors.New("the forge refuses it")
	// ErrLocked is the [ErrRefused] that is final: the conversation is locked, or a person to
	// whom it belongs has blocked the account.
	ErrLocked = fmt.Errorf("cc-ci may write nothing there: %w", ErrRefused)
)

// Forge is where people meet: repositories, pull requests, comments.
// Implementations are safe for concurrent use. Transient trouble (network,
// 5xx, rate limits) is an error the caller may retry after a while; ErrNotFound
// and ErrLocked are final. What is written to one pull request, however much it is,
// keeps no method from working for another: where it is too much to be read or
// written, the error is ErrRefused, of HeadAt ErrHeadUnknown.
type Forge interface {
	// Name identifies the forge in run keys. It never changes for one forge.
	Name() string

	// Self is the account this adapter acts as. Its own comments are never commands.
	Self(ctx context.Context) (User, error)

	// Comments returns comments on pull requests of repo that are new since
	// cursor, oldest first, and the cursor to ask with next time. A comment may
	// be returned more than once; none is ever left out. An unknown
	// repository is ErrNotFound.
	Comments(ctx context.Context, repo RepoRef, since Cursor) ([]Comment, Cursor, error)

	// PullRequest returns the present state, or ErrNotFound.
	PullRequest(ctx context.Context, pr PRRef) (PullRequest, error)

	// Merge returns how the pull request came into its target branch, and whether that has the
	// files of tested, which is one of its commits. It is the zero Merge while it is not merged.
	Merge(ctx context.Context, pr PRRef, tested Commit) (Merge, error)

	// HeadAt returns the head that the pull request had when comment was
	// written. When it has been pushed to since, it returns that old head
	// together with ErrHeadMoved; when it cannot be proven, ErrHeadUnknown.
	HeadAt(ctx context.Context, pr PRRef, comment Comment) (Commit, error)

	// Member reports whether user belongs to org, compared by User.ID. It never
	// says yes on doubt: an error is not a yes.
	Member(ctx context.Context, org string, user User) (bool, error)

	// PostComment writes a comment. key makes it idempotent: a second call with
	// the same pull request and key returns the first comment's id and writes
	// nothing, also across restarts. The key is invisible to readers.
	PostComment(ctx context.Context, pr PRRef, key, body string) (CommentID, error)

	// EditComment replaces the body of a comment that this adapter posted.
	EditComment(ctx context.Context, pr PRRef, id CommentID, body string) error

	// SetStatus sets the status of a commit; the last one of a context counts.
	SetStatus(ctx context.Context, repo RepoRef, commit Commit, status CommitStatus) error
}
