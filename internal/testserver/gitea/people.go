package gitea

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// Do sends one API request as a person, or as the administrator where as is empty,
// and decodes the answer into out unless that is nil. It returns the status.
func (s *Server) Do(as, method, path string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, s.URL+"/api/v1"+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.AdminToken == "" {
		req.SetBasicAuth(as, Password) // before there is any token
	} else {
		req.Header.Set("Authorization", "token "+s.AdminToken)
		if as != "" {
			req.Header.Set("Sudo", as)
		}
	}
	return roundTrip(req, out)
}

func roundTrip(req *http.Request, out any) (int, error) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode, fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, text)
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(text, out)
}

// No connection is kept, so that a test which looks for leaked goroutines sees none.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (s *Server) must(t testing.TB, as, method, path string, in, out any) {
	t.Helper()
	if _, err := s.Do(as, method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

type object = map[string]any

// User returns an account's number. The account is made where there is none.
func (s *Server) User(t testing.TB, name string) int64 {
	t.Helper()
	var u struct{ ID int64 }
	status, err := s.Do("", "GET", "/users/"+name, nil, &u)
	if status == http.StatusNotFound {
		_, err = s.Do("", "POST", "/admin/users", object{"username": name, "email": name + "@example.org", "password": Password, "must_change_password": false}, &u)
		if err != nil { // two may have tried at once
			_, err = s.Do("", "GET", "/users/"+name, nil, &u)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// Org makes an organisation where there is none.
func (s *Server) Org(t testing.TB, name string) {
	t.Helper()
	if status, err := s.Do("", "GET", "/orgs/"+name, nil, nil); status == http.StatusNotFound {
		s.must(t, "", "POST", "/orgs", object{"username": name}, nil)
	} else if err != nil {
		t.Fatal(err)
	}
}

// AddMember makes a person a member of an organisation, with the right to read.
// Both are made where there are none.
func (s *Server) AddMember(t testing.TB, org, user string) {
	t.Helper()
	s.User(t, user)
	s.Org(t, org)
	var teams []struct {
		ID   int64
		Name string
	}
	s.must(t, "", "GET", "/orgs/"+org+"/teams", nil, &teams)
	var id int64
	for _, team := range teams {
		if team.Name == "readers" {
			id = team.ID
		}
	}
	if id == 0 {
		var team struct{ ID int64 }
		s.must(t, "", "POST", "/orgs/"+org+"/teams", object{"name": "readers", "permission": "read", "includes_all_repositories": true,
			"units": []string{"repo.code", "repo.issues", "repo.pulls"}}, &team)
		id = team.ID
	}
	s.must(t, "", "PUT", fmt.Sprintf("/teams/%d/members/%s", id, user), nil, nil)
}

// RemoveMember ends a membership.
func (s *Server) RemoveMember(t testing.TB, org, user string) {
	t.Helper()
	s.must(t, "", "DELETE", "/orgs/"+org+"/members/"+user, nil, nil)
}

// RenameUser gives an account another name.
func (s *Server) RenameUser(t testing.TB, from, to string) {
	t.Helper()
	s.must(t, "", "POST", "/admin/users/"+from+"/rename", object{"new_username": to}, nil)
}

var serial atomic.Int64

// Token makes an access token of a person with scopes such as "write:issue".
func (s *Server) Token(t testing.TB, user string, scopes ...string) string {
	t.Helper()
	token, err := s.token(user, scopes...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (s *Server) token(user string, scopes ...string) (string, error) {
	text, err := json.Marshal(object{"name": fmt.Sprintf("token-%d", serial.Add(1)), "scopes": scopes})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest("POST", s.URL+"/api/v1/users/"+user+"/tokens", bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(user, Password) // tokens are made with a password alone
	var made struct{ Sha1 string }
	_, err = roundTrip(req, &made)
	return made.Sha1, err
}

// OAuthApp registers an application of a person and returns its id and secret.
func (s *Server) OAuthApp(t testing.TB, user, name, redirect string) (id, secret string) {
	t.Helper()
	var app struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	s.must(t, user, "POST", "/user/applications/oauth2", object{"name": name, "redirect_uris": []string{redirect}, "confidential_client": true}, &app)
	return app.ClientID, app.ClientSecret
}

// PushURL is the address of a repository with a person's password in it.
func (s *Server) PushURL(repo, user string) string {
	u, err := url.Parse(s.URL + "/" + repo + ".git")
	if err != nil {
		panic(err)
	}
	u.User = url.UserPassword(user, Password)
	return u.String()
}

// split cuts "owner/name".
func split(repo string) (owner, name string) {
	owner, name, _ = strings.Cut(repo, "/")
	return owner, name
}
