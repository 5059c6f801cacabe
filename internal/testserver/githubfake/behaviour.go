package githubfake

import (
	"net/http"
	"strings"
)

// Behaviour is something that GitHub does and that the adapter relies on. The table
// is data: it is played against the fake always, and against GitHub itself by
//
//	GITHUB_TOKEN=… go test ./internal/forge/github -run Behaviour -live
type Behaviour struct {
	Name    string
	Prepare func(s *Server, scene Scene) // on the fake
	Request Request
	Status  int
	Header  map[string]string // what the answer's headers contain
	Message string            // what its message contains

	// Live is the path to ask GitHub for; "" where it cannot be provoked there
	// without doing harm. {PR} stands for the issue that GITHUB_LIVE_PR names
	// (OWNER/REPO#NUMBER, with write access; nothing is left there).
	Live string
}

// Request is one of the API. In Path {repo} and {n} stand for the scene's.
type Request struct {
	Method, Path, Body string
	Again              bool // ask twice, the second time with the first answer's ETag
}

// Scene is what a behaviour is played on: a repository and a pull request's number.
type Scene struct {
	Repo string
	N    string
}

// At is a path with the scene's names.
func (s Scene) At(path string) string {
	return strings.NewReplacer("{repo}", s.Repo, "{n}", s.N).Replace(path)
}

// LongBody is a comment that is a character too long.
var LongBody = `{"body":"` + strings.Repeat("x", BodyLimit+1) + `"}`

// Behaviours is the table.
var Behaviours = []Behaviour{
	{
		Name:    "200 carries an ETag, a date and what is left",
		Request: Request{Method: "GET", Path: "repos/{repo}/issues/comments?sort=updated&direction=desc&per_page=100"},
		Status:  http.StatusOK, Header: map[string]string{"ETag": `"`, "Date": "GMT", "X-RateLimit-Remaining": "", "X-RateLimit-Reset": ""},
		Live: "repos/octocat/Hello-World/issues/comments?sort=updated&direction=desc&per_page=100",
	},
	{
		Name:    "301 a renamed repository",
		Prepare: func(s *Server, scene Scene) { s.rename(scene.Repo, "renamed") },
		Request: Request{Method: "GET", Path: "repos/{repo}/pulls"},
		Status:  http.StatusMovedPermanently, Header: map[string]string{"Location": "/repositories/"}, Message: "Moved Permanently",
		Live: "repos/atom/electron/pulls",
	},
	{
		Name:    "302 members of an organisation that the token's account is not in",
		Prepare: func(s *Server, _ Scene) { s.SetMember("strangers", "ada", "active") },
		Request: Request{Method: "GET", Path: "orgs/strangers/members/ada"},
		Status:  http.StatusFound, Header: map[string]string{"Location": "/public_members/"},
		Live: "orgs/github/members/octocat",
	},
	{
		Name:    "304 nothing changed",
		Request: Request{Method: "GET", Path: "repos/{repo}/issues/comments?sort=updated&direction=desc&per_page=100", Again: true},
		Status:  http.StatusNotModified, Header: map[string]string{"Date": "GMT"},
		Live: "repos/octocat/Hello-World/issues/comments?sort=updated&direction=desc&per_page=100",
	},
	{
		Name: "403 a secondary limit",
		Prepare: func(s *Server, _ Scene) {
			s.Inject(Fault{Status: http.StatusForbidden, Header: map[string]string{"Retry-After": "60"}, Body: secondaryBody})
		},
		Request: Request{Method: "GET", Path: "repos/{repo}/pulls"},
		Status:  http.StatusForbidden, Header: map[string]string{"Retry-After": "60"}, Message: "secondary rate limit",
	},
	{
		Name:    "403 memberships of an organisation that the token's account is not in",
		Prepare: func(s *Server, _ Scene) { s.SetMember("strangers", "ada", "active") },
		Request: Request{Method: "GET", Path: "orgs/strangers/memberships/ada"},
		Status:  http.StatusForbidden,
		Live:    "orgs/github/memberships/octocat",
	},
	{
		Name:    "404 what is not there",
		Request: Request{Method: "GET", Path: "repos/nobody/nothing/pulls"},
		Status:  http.StatusNotFound, Message: "Not Found",
		Live: "repos/octocat/there-is-no-such-repository/pulls",
	},
	{
		Name:    "410 a deleted issue",
		Prepare: func(s *Server, scene Scene) { s.deleteIssue(scene) },
		Request: Request{Method: "GET", Path: "repos/{repo}/issues/{n}/comments"},
		Status:  http.StatusGone, Message: "deleted",
	},
	{
		Name:    "422 a comment longer than 65,536 characters",
		Request: Request{Method: "POST", Path: "repos/{repo}/issues/{n}/comments", Body: LongBody},
		Status:  http.StatusUnprocessableEntity, Message: "Validation Failed",
		Live: "{PR}/comments",
	},
	{
		Name: "429 too many requests",
		Prepare: func(s *Server, _ Scene) {
			s.Inject(Fault{Status: http.StatusTooManyRequests, Header: map[string]string{"X-RateLimit-Remaining": "0"}, Body: secondaryBody})
		},
		Request: Request{Method: "GET", Path: "repos/{repo}/pulls"},
		Status:  http.StatusTooManyRequests, Message: "rate limit",
	},
}

const secondaryBody = `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",` +
	`"documentation_url":"https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`

func (s *Server) rename(full, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[s.names[strings.ToLower(full)]]
	r.name = to
	s.names[strings.ToLower(r.full())] = r.id
}

func (s *Server) deleteIssue(scene Scene) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.repos[s.names[strings.ToLower(scene.Repo)]].pulls {
		p.deleted = true
	}
}
