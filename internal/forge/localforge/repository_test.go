package localforge

import (
	"errors"
	"os"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestRepository(t *testing.T) {
	f, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ref := ccci.RepoRef{Owner: "coop", Name: "wiki"}
	if _, err := f.Repository(t.Context(), ref); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("before it is made: %v", err)
	}
	path, err := f.CreateRepo(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Repository(t.Context(), ref)
	if err != nil || r.Ref != ref || r.Branch != "main" || r.CloneURL != path {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(r.CloneURL); err != nil {
		t.Error(err)
	}
}
