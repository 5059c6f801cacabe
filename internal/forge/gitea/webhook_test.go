package gitea

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
)

func sign(key, body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func keys(values ...string) (all []ccci.Secret) {
	for _, v := range values {
		all = append(all, ccci.NewSecret(v))
	}
	return all
}

func TestA5_Webhooks(t *testing.T) {
	const body = `{"action":"created","is_pull":true,"repository":{"full_name":"recipes/pocketbase"}}`
	header := func(change map[string]string) http.Header {
		h := http.Header{}
		for k, v := range map[string]string{"Content-Type": "application/json", "X-Gitea-Delivery": "d-1", "X-Gitea-Event": "issue_comment",
			"X-Gitea-Event-Type": "pull_request_comment", "X-Gitea-Signature": sign("new", body)} {
			h.Set(k, v)
		}
		for k, v := range change {
			h.Set(k, v)
		}
		return h
	}
	signed := func(text string) http.Header {
		return header(map[string]string{"X-Gitea-Signature": sign("new", text)})
	}
	edited := strings.Replace(body, "created", "edited", 1)
	issue := strings.Replace(body, "true", "false", 1)
	empty := sign("", body)
	forgejo := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "X-Forgejo-Delivery": {"d-1"},
		"X-Forgejo-Event-Type": {"pull_request_comment"}, "X-Forgejo-Signature": {sign("new", body)}}
	for _, test := range []struct {
		name     string
		header   http.Header
		body     string
		keys     []ccci.Secret
		relevant bool
		code     ccci.Code // "" for none
	}{
		{"a comment", header(nil), body, keys("new"), true, ""},
		{"the second of two keys", header(nil), body, keys("old", "new"), true, ""},
		{"the first of two keys", header(nil), body, keys("new", "old"), true, ""},
		{"of a Forgejo", forgejo, body, keys("new"), true, ""},
		{"an edit", signed(edited), edited, keys("new"), false, ""},
		{"on an issue", signed(issue), issue, keys("new"), false, ""},
		{"another event", header(map[string]string{"X-Gitea-Event-Type": "issue_comment"}), body, keys("new"), false, ""},
		{"another key", header(nil), body, keys("old"), false, ccci.CodeRefused},
		{"no key", header(nil), body, nil, false, ccci.CodeRefused},
		{"an empty key", header(map[string]string{"X-Gitea-Signature": empty}), body, keys(""), false, ccci.CodeRefused},
		{"another body", header(nil), body + " ", keys("new"), false, ccci.CodeRefused},
		{"an empty signature", header(map[string]string{"X-Gitea-Signature": ""}), body, keys("new"), false, ccci.CodeRefused},
		{"half a signature", header(map[string]string{"X-Gitea-Signature": sign("new", body)[:32]}), body, keys("new"), false, ccci.CodeRefused},
		{"no delivery", header(map[string]string{"X-Gitea-Delivery": ""}), body, keys("new"), false, ccci.CodeRefused},
		{"a form", header(map[string]string{"Content-Type": "application/x-www-form-urlencoded"}), body, keys("new"), false, ccci.CodeInvalid},
		{"no JSON", signed("{"), "{", keys("new"), false, ccci.CodeInvalid},
		{"no repository", signed("{}"), "{}", keys("new"), false, ccci.CodeInvalid},
	} {
		got, delivery, relevant, err := ParseWebhook(test.header, []byte(test.body), test.keys)
		if relevant != test.relevant || (err == nil) != (test.code == "") || err != nil && ccci.CodeOf(err) != test.code {
			t.Errorf("%s: %t, %v; want %t and code %q", test.name, relevant, err, test.relevant, test.code)
		}
		if relevant && (got != repo || delivery != "d-1") || err != nil && got != (ccci.RepoRef{}) {
			t.Errorf("%s: it is of %q, delivery %q", test.name, got, delivery)
		}
	}
}

// What a real server sends is understood.
func TestA5_RealDelivery(t *testing.T) {
	s := gitea(t)
	type delivery struct {
		header http.Header
		body   []byte
	}
	arrived := make(chan delivery, 10)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- delivery{r.Header, body}
	}))
	defer sink.Close()
	work := forgetest.NewWork(t, clean(t, s, repo))
	work.Commit("main", "compose.yml", "a")
	work.Commit("update", "compose.yml", "b")
	s.Collaborator(t, repo.String(), "ada", "read")
	number := s.OpenPull(t, repo.String(), "ada", "Update", "update", "main")
	s.Webhook(t, repo.String(), sink.URL, "hush", "pull_request_comment")
	id := s.Comment(t, repo.String(), number, "ada", "!testme")
	next := func() delivery {
		t.Helper()
		select {
		case d := <-arrived:
			return d
		case <-time.After(time.Minute):
			t.Fatal("no delivery came")
		}
		panic("unreachable")
	}
	d := next()
	got, name, relevant, err := ParseWebhook(d.header, d.body, keys("old", "hush"))
	if err != nil || !relevant || got != repo || name == "" {
		t.Errorf("the delivery is of %q, %q, %t, %v\n%v", got, name, relevant, err, d.header)
	}
	if _, _, _, err := ParseWebhook(d.header, d.body, keys("old")); err == nil {
		t.Error("another key opened it")
	}
	s.EditComment(t, repo.String(), id, "ada", "!testme again")
	d = next()
	if _, _, relevant, err := ParseWebhook(d.header, d.body, keys("hush")); err != nil || relevant {
		t.Errorf("an edit is %t, %v; want nothing that matters", relevant, err)
	}
}
