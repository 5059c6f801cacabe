package doctor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func refs(names ...string) (all []ccci.RepoRef) {
	for _, name := range names {
		all = append(all, ccci.RepoRef{Owner: "coop", Name: name})
	}
	return all
}

var atGit = Places{Members: "https://git/members", Web: "https://git", Rights: "/settings/collaboration"}

func TestU13_Repositories(t *testing.T) {
	a := account{
		repos:   map[string]ccci.Repository{"read": {ReadOnly: true}, "old": {Closed: "it is archived"}},
		trouble: map[string]error{"gone": ccci.ErrNotFound, "broken": ccci.Errorf(ccci.CodeInfra, "502").WithHint("wait")},
	}
	look := func(refs []ccci.RepoRef) string { return said(t, Repositories(a, refs, atGit)) }
	expect(t, "all well", look(refs("a", "b")), "ok       git: repositories: 2 of 2 can be seen, and written to\n")
	expect(t, "some not", look(refs("a", "gone", "read", "old")),
		"problem  git: repository coop/gone: it is not there, or the account may not see it",
		"problem  git: repository coop/read: the account may read it and not write to it", "hint: give the account the right to write at https://git/coop/read/settings/collaboration, or through a team at https://git/members",
		"warning  git: repository coop/old: it is archived, so that there is nothing to test",
		"ok       git: repositories: 3 of 4 can be seen, 1 of them written to\n")
	if got := look(refs("broken", "a")); strings.Count(got, "\n") != 2 || !strings.Contains(got, "problem  git: repository coop/broken: 502") {
		t.Errorf("in trouble it says\n%s", got)
	}
	var many []string
	for i := range repositoriesLimit + 3 {
		many = append(many, fmt.Sprint("app", i))
	}
	expect(t, "many", look(refs(many...)), "50 of 50 can be seen, and written to; 3 more were not looked at")
	synctest.Test(t, func(t *testing.T) {
		slow := slowly{a, 3 * time.Second}
		expect(t, "a slow forge", said(t, Repositories(slow, refs("a", "b", "c", "d"), atGit)), "ok       git: repositories: 2 of 2 can be seen, and written to; 2 more were not looked at")
	})
	if got := look(nil); got != "" {
		t.Errorf("of no repository it says %q", got)
	}
}

// slowly answers after a while, and never after the end of its time.
type slowly struct {
	account
	after time.Duration
}

func (s slowly) Repository(ctx context.Context, ref ccci.RepoRef) (ccci.Repository, error) {
	select {
	case <-time.After(s.after):
		return s.account.Repository(ctx, ref)
	case <-ctx.Done():
		return ccci.Repository{}, ctx.Err()
	}
}

func TestA5_Webhooks(t *testing.T) {
	good := ccci.Webhook{URL: "https://ci.example.org/hook/git", Page: "https://git/page", Active: true, Comments: true, JSON: true}
	with := func(change func(*ccci.Webhook)) []ccci.Webhook {
		h := good
		change(&h)
		return []ccci.Webhook{h}
	}
	a := account{
		hooks: map[string][]ccci.Webhook{
			"good":  {{URL: "https://chat.example.org/x"}, good},
			"off":   with(func(h *ccci.Webhook) { h.Active = false }),
			"wrong": with(func(h *ccci.Webhook) { h.Comments = false }),
			"form":  with(func(h *ccci.Webhook) { h.JSON = false }),
			"other": with(func(h *ccci.Webhook) { h.URL = "https://ci.example.org/hook/elsewhere" }),
		},
		trouble: map[string]error{"shut": ccci.Errorf(ccci.CodeRefused, "403"), "gone": ccci.ErrNotFound, "broken": ccci.Errorf(ccci.CodeInfra, "502").WithHint("wait")},
	}
	for _, test := range []struct {
		names  []string
		secret bool
		want   string // all of it, or the beginning of each line
	}{
		{[]string{"good", "gone"}, true, "ok       git: webhooks sent: 1 as they should be"},
		{[]string{"good"}, false, "warning  git: webhook of coop/good: it is sent to https://ci.example.org/hook/git, and cc-ci refuses it|hint: name the file"},
		{[]string{"off"}, true, "warning  git: webhook of coop/off: it is switched off|hint: tick Active at https://git/page"},
		{[]string{"wrong"}, true, "warning  git: webhook of coop/wrong: it does not tell of comments on pull requests|hint: tick Pull Request Comment at https://git/page"},
		{[]string{"form"}, true, "warning  git: webhook of coop/form: it is not sent as JSON|hint: choose the content type"},
		{[]string{"other", "none"}, true, "ok       git: webhooks missing: none of their own to /hook/git: coop/other, coop/none; unless the organisation has one, comments there are found by polling, every 20s"},
		{[]string{"shut"}, true, "ok       git: webhooks unseen: the forge shows them to administrators alone, which the account is not and need not be: coop/shut; whether deliveries arrive is on the forge's page, as https://git/coop/shut/settings/hooks"},
		{[]string{"shut", "none"}, false, ""},
		{[]string{"broken", "good"}, true, "problem  git: webhook of coop/broken: 502|hint: wait"},
	} {
		got := said(t, Webhooks(a, refs(test.names...), test.secret, 20*time.Second, atGit))
		want := strings.Split(test.want, "|")
		if test.want == "" {
			want = nil
		}
		if lines := strings.Count(got, "\n"); lines != len(want) {
			t.Errorf("%v: %d lines, want %d:\n%s", test.names, lines, len(want), got)
		}
		expect(t, fmt.Sprint(test.names), got, want...)
	}
	if got := some([]string{"a", "b", "c", "d", "e"}); got != "a, b, c and 2 more" {
		t.Errorf("of five it names %q", got)
	}
}
