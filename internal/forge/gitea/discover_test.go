package gitea

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestA4_Discoverer(t *testing.T) {
	s := gitea(t)
	s.AddMember(t, "finders", bot)
	s.Org(t, "others")
	api := func(method, path string, in, out any) {
		t.Helper()
		if _, err := s.Do("", method, path, in, out); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"finders/wiki", "finders/page", "finders/blog", "finders/old", "others/wiki"} {
		s.CreateRepo(t, name, false)
	}
	for _, name := range []string{"finders/wiki", "finders/page", "finders/old", "others/wiki"} {
		api("PUT", "/repos/"+name+"/topics/cc-ci", nil, nil)
	}
	api("PUT", "/repos/finders/blog/topics/cc-ci-not", nil, nil)
	api("PATCH", "/repos/finders/old", map[string]any{"archived": true}, nil)
	var team struct{ ID int64 }
	api("POST", "/orgs/finders/teams", map[string]any{"name": "Recipes", "permission": "read", "units": []string{"repo.code", "repo.pulls"}}, &team)
	api("PUT", fmt.Sprintf("/teams/%d/members/%s", team.ID, bot), nil, nil)
	api("PUT", fmt.Sprintf("/teams/%d/repos/finders/blog", team.ID), nil, nil)

	f := connect(t, s)
	for want, find := range map[string]Find{
		"finders/blog finders/page finders/wiki": {Org: "finders"},
		"finders/page finders/wiki":              {Org: "finders", Topic: "cc-ci"},
		"finders/blog":                           {Org: "finders", Team: "recipes"},
		"":                                       {Org: "finders", Topic: "nothing"},
	} {
		refs, err := f.Discoverer(find).Discover(t.Context())
		var names []string
		for _, ref := range refs {
			names = append(names, ref.String())
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%+v: %q, %v; want %q", find, got, err, want)
		}
	}
	if _, err := f.Discoverer(Find{Org: "finders", Team: "nobody"}).Discover(t.Context()); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("a team that is not there: %v", err)
	}
	if _, err := f.Discoverer(Find{Org: "nowhere"}).Discover(t.Context()); err == nil {
		t.Error("an organisation that is not there has a list")
	}
}
