package github

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

func TestA7_OnlyActiveMembers(t *testing.T) {
	for name, test := range map[string]struct {
		play func(s *githubfake.Server) ccci.User
		want bool
		fail bool
	}{
		"an active member": {func(s *githubfake.Server) ccci.User { s.SetMember("coop", "ada", "active"); return s.User("ada") }, true, false},
		"somebody invited": {func(s *githubfake.Server) ccci.User { s.SetMember("coop", "ada", "pending"); return s.User("ada") }, false, false},
		"a stranger":       {func(s *githubfake.Server) ccci.User { return s.User("eve") }, false, false},
		"one who left": {func(s *githubfake.Server) ccci.User {
			s.SetMember("coop", "ada", "active")
			s.SetMember("coop", "ada", "")
			return s.User("ada")
		}, false, false},
		"renamed since": {func(s *githubfake.Server) ccci.User {
			s.SetMember("coop", "ada", "active")
			ada := s.User("ada")
			s.RenameUser("ada", "lovelace")
			return ada
		}, true, false},
		"her former name taken by a stranger": {func(s *githubfake.Server) ccci.User {
			s.SetMember("coop", "ada", "active")
			s.RenameUser("ada", "lovelace")
			return s.User("ada") // a new account
		}, false, false},
		"her former name taken by a member": {func(s *githubfake.Server) ccci.User {
			ada := s.User("ada")
			s.RenameUser("ada", "lovelace")
			s.SetMember("coop", "ada", "active")
			return ada // the stranger, who had that name
		}, false, false},
		"our own account is no member": {func(s *githubfake.Server) ccci.User {
			s.SetMember("coop", "ada", "active")
			s.SetMember("coop", "cc-ci", "")
			return s.User("ada")
		}, false, true},
		"a redirect to the public list": {func(s *githubfake.Server) ccci.User {
			s.SetMember("coop", "ada", "active")
			s.Inject(githubfake.Fault{Path: "/orgs/", Status: 302, Header: map[string]string{"Location": s.APIURL + "user/memberships/orgs/coop"}})
			return s.User("ada")
		}, false, true},
		"trouble": {func(s *githubfake.Server) ccci.User {
			s.SetMember("coop", "ada", "active")
			s.Inject(githubfake.Fault{Path: "/orgs/", Status: 500, Body: `{"message":"Server Error"}`})
			return s.User("ada")
		}, false, true},
		"an answer about somebody else": {func(s *githubfake.Server) ccci.User {
			s.Inject(githubfake.Fault{Path: "/orgs/", Status: 200, Body: `{"state":"active","user":{"id":1,"type":"User"}}`})
			return s.User("ada")
		}, false, false},
		"a bot": {func(s *githubfake.Server) ccci.User {
			bot := s.Bot("deploy[bot]")
			s.SetMember("coop", "deploy[bot]", "active")
			return bot
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, githubfake.Options{})
			s.SetMember("coop", "cc-ci", "active")
			f := adapter(t, s, nil)
			user := test.play(s)
			got, err := f.Member(t.Context(), "coop", user)
			if got != test.want || (err != nil) != test.fail {
				t.Errorf("Member(%+v) = %t, %v; want %t", user, got, err, test.want)
			}
			if test.fail && err != nil && (ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "") {
				t.Errorf("the error %v has code %s and hint %q", err, ccci.CodeOf(err), ccci.HintOf(err))
			}
		})
	}
}

func TestA7_MembershipIsProvenAtStart(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	s.SetMember("coop", "ada", "active")
	for state, want := range map[string]bool{"": false, "pending": false, "active": true} {
		s.SetMember("coop", "cc-ci", state)
		err := f.ProveMembership(t.Context(), "coop")
		if (err == nil) != want || err != nil && !strings.Contains(ccci.HintOf(err), "coop") {
			t.Errorf("as %q: %v, hint %q", state, err, ccci.HintOf(err))
		}
	}
	if err := adapter(t, s, newApp(t, s)).ProveMembership(t.Context(), "coop"); err != nil {
		t.Errorf("as an App: %v", err)
	}
}
