package config

import (
	"fmt"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestParseRole(t *testing.T) {
	for _, tc := range []struct{ text, who, users, refused string }{
		{text: "anyone", who: Anyone},
		{text: "member", who: Member},
		{text: "7, 12", who: Listed, users: "[{ 7} { 12}]"},
		{text: "member,7", who: Member, users: "[{ 7}]"},
		{text: "git.example.org:7 h:3000:8", who: Listed, users: "[{git.example.org 7} {h:3000 8}]"},
		{text: "", refused: "admits nobody"},
		{text: " , ", refused: "admits nobody"},
		{text: "memebr", refused: `"memebr" is neither anyone, member nor the id of a user`},
		{text: "alice", refused: `"alice" is neither`}, // names change hands
		{text: "git.example.org:alice", refused: "is neither"},
		{text: "git.example.org:", refused: "is neither"},
		{text: ":7", refused: "is neither"},
		{text: "anyone, member", refused: "exclude each other"},
	} {
		role, err := ParseRole(tc.text)
		if tc.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tc.refused) || ccci.HintOf(err) == "" {
				t.Errorf("%q: %v (%s); want %s", tc.text, err, ccci.HintOf(err), tc.refused)
			}
			continue
		}
		if users := strings.TrimPrefix(fmt.Sprint(role.Users), "[]"); err != nil || role.Who != tc.who || users != tc.users {
			t.Errorf("%q: %+v, %v", tc.text, role, err)
		}
	}
}

// A7: each forge numbers its users itself, so that with several an id names its forge.
func TestA7_IdsOfSeveralForges(t *testing.T) {
	with := func(role string) error {
		_, err := Parse("cc-ci.yml", []byte("roles:\n  testme: "+role+"\n"+twoForges))
		return err
	}
	for role, want := range map[string][2]string{
		"member, 7":               {"cc-ci.yml:2: roles.testme: user 7 is another person on each of the 2 forges", "write git.example.org:7"},
		"git.example.com:7":       {`cc-ci.yml:2: roles.testme: there is no forge called "git.example.com"`, "git.example.org"},
		"member, git.example.org": {"cc-ci.yml:2: roles.testme: ", "an id is a number"},
	} {
		err := with(role)
		if err == nil || !strings.Contains(err.Error(), want[0]) || !strings.Contains(err.Error()+ccci.HintOf(err), want[1]) {
			t.Errorf("%s: %v (%s); want %q", role, err, ccci.HintOf(err), want)
		}
	}
	if err := with("member, git.example.org:7"); err != nil && strings.Contains(err.Error(), "roles") {
		t.Error(err)
	}
	if _, err := Parse("cc-ci.yml", []byte("roles: {testme: 'member, 7', ask: 'local:7'}\n")); err != nil {
		t.Errorf("with one forge: %v", err)
	}
}
