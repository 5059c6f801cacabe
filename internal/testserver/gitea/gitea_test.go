package gitea_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is on it is there again after a power cut, on the same port.
func TestAPullRequestOutlivesAKill(t *testing.T) {
	s := gitea.Start(t)
	work := forgetest.NewWork(t, s.CreateRepo(t, "recipes/tiny", false))
	work.Commit("main", "compose.yml", "a")
	work.Commit("update", "compose.yml", "b")
	s.Collaborator(t, "recipes/tiny", "ada", "write")
	number := s.OpenPull(t, "recipes/tiny", "ada", "Update", "update", "main")
	id := s.Comment(t, "recipes/tiny", number, "ada", "!testme")
	s.AddMember(t, "coop", "ada")
	if app, secret := s.OAuthApp(t, "ada", "drone", "http://127.0.0.1:1/login"); app == "" || secret == "" {
		t.Errorf("the application has id %q and secret %q", app, secret)
	}
	s.Kill()
	if _, err := s.Do("", "GET", "/version", nil, nil); err == nil {
		t.Error("it answers after it was killed")
	}
	s.Restart(t)
	var c struct{ Body string }
	if _, err := s.Do("ada", "GET", fmt.Sprintf("/repos/recipes/tiny/issues/comments/%d", id), nil, &c); err != nil || c.Body != "!testme" {
		t.Errorf("after a restart the comment is %q, %v", c.Body, err)
	}
	if os.Getuid() == 0 {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", s.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
			t.Error("it runs as root")
		}
	}
}
