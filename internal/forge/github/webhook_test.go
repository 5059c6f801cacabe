package github

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

func TestA5_Webhook(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	onPull := s.Comment(pr, "ada", "!testme")
	onIssue := s.Comment(s.OpenIssue(repo, "an issue", "ada"), "ada", "!testme")
	keys := []ccci.Secret{ccci.NewSecret("old key"), ccci.NewSecret("new key")}
	sign := func(h http.Header, body []byte) { h.Set("X-Hub-Signature-256", githubfake.Sign("new key", body)) }
	for name, test := range map[string]struct {
		id       ccci.CommentID
		action   string
		change   func(h http.Header, body []byte) []byte
		keys     []ccci.Secret
		relevant bool
		code     ccci.Code
	}{
		"a comment on a pull request": {onPull, "created", nil, keys, true, ""},
		"by the older key": {onPull, "created", func(h http.Header, b []byte) []byte {
			h.Set("X-Hub-Signature-256", githubfake.Sign("old key", b))
			return b
		}, keys, true, ""},
		"an edit":     {onPull, "edited", nil, keys, false, ""},
		"a deletion":  {onPull, "deleted", nil, keys, false, ""},
		"on an issue": {onIssue, "created", nil, keys, false, ""},
		"a ping": {onPull, "created", func(h http.Header, b []byte) []byte {
			h.Set("X-GitHub-Event", "ping")
			b = []byte(`{"zen":"x","hook_id":1}`)
			sign(h, b)
			return b
		}, keys, false, ""},
		"by a key that was withdrawn": {onPull, "created", nil, keys[:1], false, ccci.CodeRefused},
		"without keys":                {onPull, "created", nil, nil, false, ccci.CodeRefused},
		"an empty key": {onPull, "created", func(h http.Header, b []byte) []byte { h.Set("X-Hub-Signature-256", githubfake.Sign("", b)); return b },
			[]ccci.Secret{{}}, false, ccci.CodeRefused},
		"unsigned":           {onPull, "created", func(h http.Header, b []byte) []byte { h.Del("X-Hub-Signature-256"); return b }, keys, false, ccci.CodeRefused},
		"an empty signature": {onPull, "created", func(h http.Header, b []byte) []byte { h.Set("X-Hub-Signature-256", "sha256="); return b }, keys, false, ccci.CodeRefused},
		"signed by SHA-1 alone": {onPull, "created", func(h http.Header, b []byte) []byte {
			h.Set("X-Hub-Signature", "sha1=0000000000000000000000000000000000000000")
			h.Del("X-Hub-Signature-256")
			return b
		}, keys, false, ccci.CodeRefused},
		"another body": {onPull, "created", func(_ http.Header, b []byte) []byte { return bytes.Replace(b, []byte("!testme"), []byte("!cancel"), 1) }, keys, false, ccci.CodeRefused},
		"a form": {onPull, "created", func(h http.Header, b []byte) []byte {
			h.Set("Content-Type", "application/x-www-form-urlencoded")
			return b
		}, keys, false, ccci.CodeInvalid},
		"no delivery id": {onPull, "created", func(h http.Header, b []byte) []byte { h.Del("X-GitHub-Delivery"); return b }, keys, false, ccci.CodeRefused},
		"no JSON":        {onPull, "created", func(h http.Header, b []byte) []byte { sign(h, b[:40]); return b[:40] }, keys, false, ccci.CodeInvalid},
		"a repository without an owner": {onPull, "created", func(h http.Header, b []byte) []byte {
			b = []byte(`{"action":"created","issue":{"pull_request":{}},"repository":{"full_name":"x"}}`)
			sign(h, b)
			return b
		}, keys, false, ccci.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			header, body := s.Delivery(repo, test.id, test.action, "new key")
			if err := githubfake.CheckWebhook("issue-comment-"+test.action, body); err != nil {
				t.Errorf("the fixture is not as GitHub's schema says: %v", err)
			}
			delivery := header.Get("X-GitHub-Delivery")
			if test.change != nil {
				body = test.change(header, body)
			}
			got, id, relevant, err := ParseWebhook(header, body, test.keys)
			switch {
			case test.code == "" && err != nil, test.code != "" && ccci.CodeOf(err) != test.code, test.code != "" && err == nil, relevant != test.relevant:
				t.Errorf("got %v, %q, %t, %v", got, id, relevant, err)
			case relevant && (got != repo || id != delivery):
				t.Errorf("got %v and delivery %q, want %v and %q", got, id, repo, delivery)
			}
		})
	}
}

func FuzzParseWebhook(f *testing.F) {
	f.Add([]byte(`{"action":"created","issue":{"pull_request":{}},"repository":{"full_name":"a/b"}}`), "application/json", "1")
	f.Add([]byte(`{"action":1}`), "application/json; charset=utf-8", "")
	f.Fuzz(func(t *testing.T, body []byte, contentType, delivery string) {
		h := http.Header{"X-Hub-Signature-256": {githubfake.Sign("k", body)}, "Content-Type": {contentType}, "X-Github-Delivery": {delivery}, "X-Github-Event": {"issue_comment"}}
		repo, id, relevant, err := ParseWebhook(h, body, []ccci.Secret{ccci.NewSecret("k")})
		if relevant && (err != nil || repo.Owner == "" || repo.Name == "" || id == "" || strings.Contains(repo.Name, "/")) {
			t.Errorf("relevant: %+v, %q, %v", repo, id, err)
		}
		if _, _, relevant, err := ParseWebhook(h, append(body, ' '), []ccci.Secret{ccci.NewSecret("k")}); relevant || err == nil {
			t.Error("another body passed")
		}
	})
}
