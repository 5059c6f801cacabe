package dronelimits

import (
	"slices"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var repo = ccci.RepoRef{Owner: "coop", Name: "cc-ci"}

// Every setting that is missing or has another value is named, and what is closed in
// another spelling is closed.
func TestMissing(t *testing.T) {
	server := Server("cibot", repo)
	for name, test := range map[string]struct {
		environ map[string]string
		want    []string
	}{
		"nothing is set": {nil, []string{"DRONE_REGISTRATION_CLOSED=true", "DRONE_REPOSITORY_FILTER=coop", "DRONE_USER_FILTER=cibot"}},
		"all are set":    {server, nil},
		"another spelling": {
			map[string]string{"DRONE_REGISTRATION_CLOSED": "1", "DRONE_REPOSITORY_FILTER": " coop", "DRONE_USER_FILTER": "cibot"}, nil,
		},
		"other values": {
			map[string]string{"DRONE_REGISTRATION_CLOSED": "false", "DRONE_REPOSITORY_FILTER": "coop,mallory", "DRONE_USER_FILTER": "cibot,coop"},
			[]string{"DRONE_REGISTRATION_CLOSED=true", "DRONE_REPOSITORY_FILTER=coop", "DRONE_USER_FILTER=cibot"},
		},
	} {
		if got := Missing(server, test.environ); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q is missing, want %q", name, got, test.want)
		}
	}
	if got := Missing(Runner(repo), map[string]string{"DRONE_LIMIT_REPOS": "coop/*"}); !slices.Equal(got, []string{"DRONE_LIMIT_EVENTS=custom", "DRONE_LIMIT_REPOS=coop/cc-ci"}) {
		t.Errorf("of the runner's %q is missing", got)
	}
}

func TestDifferences(t *testing.T) {
	if got := Wanted().Differences(); len(got) > 0 {
		t.Errorf("what is wanted differs in %q", got)
	}
	got := Repository{Visibility: "public", Config: ".drone.yml", Trusted: true, IgnoreForks: true}.Differences()
	if want := []string{"visibility private", "trusted false", "protected true", "ignore_pull_requests true"}; !slices.Equal(got, want) {
		t.Errorf("%q differ, want %q", got, want)
	}
}
