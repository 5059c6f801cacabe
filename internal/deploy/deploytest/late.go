package deploytest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Held is a Deployer whose daemon keeps the first request to create an object of one
// kind, and carries it out only after Release.
type Held struct {
	harness.Deployer
	Asked   <-chan struct{} // closed when the request has arrived
	Looks   func() int      // how often the daemon was asked for its services since then
	Release func(answer bool)
}

const everyKind = `
version: "3.8"
services:
  app:
    image: IMAGE
    networks: [inside]
    secrets: [password, file]
    configs: [conf]
networks: {inside: {}}
secrets: {password: {external: true, name: STACK_password_v1}, file: {name: STACK_file_v1, file: ./app.conf}}
configs: {conf: {name: STACK_conf_v1, file: ./app.conf}}
`

// outlivesCreation gives up while the daemon has a request to create something, and
// removes. The request is carried out during the removal, answered or not.
func outlivesCreation(t *testing.T, s *suite) {
	if s.Held == nil {
		t.Skip("the adapter cannot hold requests")
	}
	for _, kind := range []string{"secret", "network", "config", "service"} {
		for _, answer := range []bool{true, false} {
			name := kind + " answered"
			if !answer {
				name = kind + " without an answer"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a := s.newApp(t)
				if err := os.WriteFile(filepath.Join(a.dir, "app.conf"), []byte("a = b\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				removeLate(t, a, s.Held(t, a.RunID, kind), answer)
			})
		}
	}
}

func removeLate(t *testing.T, a *app, held Held, answer bool) {
	stack := a.stack(everyKind)
	stack.Secrets = []recipe.Secret{{Key: "password", Name: a.StackName + "_password_v1", Generate: true}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	made := make(chan error, 1)
	go func() {
		err := held.New(ctx, stack, map[string]ccci.Secret{"password": ccci.NewSecret("x")})
		if err == nil {
			_, err = held.Pull(ctx, stack)
		}
		if err == nil {
			err = held.Deploy(ctx, stack)
		}
		made <- err
	}()
	select {
	case <-held.Asked:
	case err := <-made:
		t.Fatalf("the daemon was never asked: %v", err)
	}
	cancel()
	if err := <-made; err == nil {
		t.Fatal("a deployment that was cancelled succeeds")
	}
	removed := make(chan error, 1)
	go func() {
		_, err := held.Remove(a.deadline(time.Minute), a.App)
		removed <- err
	}()
	for look := held.Looks(); held.Looks() < look+3; {
		select {
		case err := <-removed:
			t.Fatalf("Remove ends while the daemon may still create something: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	held.Release(answer)
	if err := <-removed; err != nil {
		t.Errorf("Remove: %v", err)
	}
	a.wantNothing()
}

func jobs(t *testing.T, s *suite) {
	for _, mode := range []string{"replicated-job", "global-job"} {
		a := s.newApp(t)
		err := a.Deploy(a.deadline(20*time.Second), a.stack("version: '3.8'\nservices:\n  job:\n    image: IMAGE\n    command: [exit, '0']\n    deploy: {mode: "+mode+"}\n"))
		if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), mode) {
			t.Errorf("Deploy: %v, want a refusal that names %s", err, mode)
		}
		a.wantNothing()
	}
}
