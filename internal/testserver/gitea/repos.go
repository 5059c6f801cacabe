package gitea

import (
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// CreateRepo makes an empty repository "owner/name" and returns where the
// administrator pushes to it. The owner is made an organisation where it is nobody.
func (s *Server) CreateRepo(t testing.TB, repo string, private bool) (pushURL string) {
	t.Helper()
	owner, name := split(repo)
	in := object{"name": name, "private": private, "default_branch": "main"}
	switch status, err := s.Do("", "GET", "/users/"+owner, nil, nil); {
	case status == http.StatusNotFound:
		s.Org(t, owner)
	case err != nil:
		t.Fatal(err)
	}
	status, err := s.Do("", "POST", "/orgs/"+owner+"/repos", in, nil)
	if status == http.StatusNotFound { // a person's
		_, err = s.Do("", "POST", "/admin/users/"+owner+"/repos", in, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.PushURL(repo, Admin)
}

// DeleteRepo removes a repository if it is there.
func (s *Server) DeleteRepo(t testing.TB, repo string) {
	t.Helper()
	if status, err := s.Do("", "DELETE", "/repos/"+repo, nil, nil); err != nil && status != http.StatusNotFound {
		t.Fatal(err)
	}
}

// Collaborator gives a person "read", "write" or "admin" on a repository.
func (s *Server) Collaborator(t testing.TB, repo, user, permission string) {
	t.Helper()
	s.User(t, user)
	s.must(t, "", "PUT", "/repos/"+repo+"/collaborators/"+user, object{"permission": permission}, nil)
}

// Fork forks a repository into a person's account and returns its name.
func (s *Server) Fork(t testing.TB, repo, user string) string {
	t.Helper()
	s.User(t, user)
	s.must(t, user, "POST", "/repos/"+repo+"/forks", object{}, nil)
	_, name := split(repo)
	return user + "/" + name
}

// OpenPull opens a pull request as a person. head is a branch, or "owner:branch" of a fork.
func (s *Server) OpenPull(t testing.TB, repo, as, title, head, base string) int {
	t.Helper()
	s.User(t, as)
	var pr struct{ Number int }
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		status, err := s.Do(as, "POST", "/repos/"+repo+"/pulls", object{"title": title, "head": head, "base": base}, &pr)
		if err == nil {
			return pr.Number
		}
		// Gitea takes in a push by and by; until then the branch is not there.
		if status != http.StatusNotFound || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// ClosePull closes a pull request.
func (s *Server) ClosePull(t testing.TB, repo string, number int) {
	t.Helper()
	s.must(t, "", "PATCH", fmt.Sprintf("/repos/%s/pulls/%d", repo, number), object{"state": "closed"}, nil)
}

// MergePull merges a pull request as the administrator, in a style of Gitea's such as "squash", and
// returns the commit that is the head of its base then.
func (s *Server) MergePull(t testing.TB, repo string, number int, style string) string {
	t.Helper()
	path := fmt.Sprintf("/repos/%s/pulls/%d", repo, number)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		status, err := s.Do("", "POST", path+"/merge", object{"Do": style}, nil)
		if err == nil {
			break
		}
		// Gitea finds out by and by whether there are conflicts; until then nothing can be merged.
		if status != http.StatusMethodNotAllowed || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	var pr struct {
		Base struct {
			Ref string
		}
	}
	s.must(t, "", "GET", path, nil, &pr)
	var branch struct {
		Commit struct{ ID string }
	}
	s.must(t, "", "GET", "/repos/"+repo+"/branches/"+pr.Base.Ref, nil, &branch)
	return branch.Commit.ID
}

// OpenIssue opens an issue, which shares its numbers with pull requests.
func (s *Server) OpenIssue(t testing.TB, repo, as, title string) int {
	t.Helper()
	s.User(t, as)
	var issue struct{ Number int }
	s.must(t, as, "POST", "/repos/"+repo+"/issues", object{"title": title}, &issue)
	return issue.Number
}

// Comment writes a comment on an issue or a pull request and returns its number.
func (s *Server) Comment(t testing.TB, repo string, number int, as, body string) int64 {
	t.Helper()
	s.User(t, as)
	var c struct{ ID int64 }
	if _, err := s.Do(as, "POST", fmt.Sprintf("/repos/%s/issues/%d/comments", repo, number), object{"body": body}, &c); err != nil {
		t.Error(err) // not Fatal: several may comment at once
	}
	return c.ID
}

// EditComment changes a comment as a person.
func (s *Server) EditComment(t testing.TB, repo string, id int64, as, body string) {
	t.Helper()
	s.must(t, as, "PATCH", fmt.Sprintf("/repos/%s/issues/comments/%d", repo, id), object{"body": body}, nil)
}

// DeleteComment removes a comment.
func (s *Server) DeleteComment(t testing.TB, repo string, id int64) {
	t.Helper()
	s.must(t, "", "DELETE", fmt.Sprintf("/repos/%s/issues/comments/%d", repo, id), nil, nil)
}

// Webhook makes a hook of a repository for events such as "pull_request_comment".
func (s *Server) Webhook(t testing.TB, repo, target, secret string, events ...string) int64 {
	t.Helper()
	var hook struct{ ID int64 }
	s.must(t, "", "POST", "/repos/"+repo+"/hooks", object{"type": "gitea", "active": true, "events": events,
		"config": object{"url": target, "content_type": "json", "secret": secret}}, &hook)
	return hook.ID
}

// RepoDir is a repository's bare folder on disk.
func (s *Server) RepoDir(repo string) string {
	return s.path("data/repositories/" + strings.ToLower(repo) + ".git")
}

// Own gives a folder to the user that the server runs as, after a test wrote in it.
func (s *Server) Own(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return s.own(path)
	})
	if err != nil {
		t.Fatal(err)
	}
}
