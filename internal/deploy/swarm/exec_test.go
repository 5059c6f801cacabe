package swarm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/harness"
)

// dockerd is told no user for a command where that changes nothing: it would look the user up in files of the app.
func TestN3_NoUserIsLookedUpInVain(t *testing.T) {
	for _, c := range []struct{ of, user, want string }{
		{"", "", ""}, {"", "root", ""}, {"", "0", ""}, {"", "0:0", ""}, {"", "postgres", "postgres"}, {"", "0:5", "0:5"},
		{"postgres", "postgres", ""}, {"postgres", "root", "root"}, {"postgres", "", ""}, {"root", "0", "0"},
	} {
		told := "nothing"
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if r.Method == http.MethodGet {
				fmt.Fprintf(w, `{"Id": "c", "Config": {"User": %q}}`, c.of)
				return
			}
			var asked container.ExecOptions
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
			told = asked.User
			http.Error(w, `{"message": "enough"}`, http.StatusTeapot)
		}))
		cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := New(Options{RunID: "r", Docker: cli})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.execIn(t.Context(), "c", harness.ExecCmd{Args: []string{"x"}, User: c.user})
		server.Close()
		if told != c.want || err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("a command of %q in a container of %q: %q, want %q (%v)", c.user, c.of, told, c.want, err)
		}
	}
}
