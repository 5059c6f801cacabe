package gitcmd

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// A submodule is another repository, which moves and is judged by nobody: its server is not asked and its
// folder stays empty, also where the configuration of the clone wants it.
func TestM2_SubmodulesAreNotFetched(t *testing.T) {
	inner := newSource(t)
	within := inner.commit(inner.tree("100644 blob " + inner.blob("not judged\n") + "\tcompose.yml"))
	genuine := inner.servers()["http"]
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, strings.TrimSuffix(genuine, "/source.git")+r.URL.String(), http.StatusFound)
	}))
	defer server.Close()

	outer := newSource(t)
	modules := outer.blob("[submodule \"inner\"]\n\tpath = inner\n\turl = " + server.URL + "/source.git\n")
	commit := outer.commit(outer.tree("100644 blob "+modules+"\t.gitmodules", "160000 commit "+within+"\tinner"))
	for way, url := range outer.servers() {
		t.Run(way, func(t *testing.T) {
			dir := target(t)
			for key, value := range map[string]string{
				"submodule.recurse": "true", "fetch.recurseSubmodules": "true", "submodule.inner.active": "true", "submodule.inner.url": server.URL + "/source.git",
			} {
				if _, err := Run(t.Context(), dir, "config", key, value); err != nil {
					t.Fatal(err)
				}
			}
			work := filepath.Join(t.TempDir(), "work")
			if err := Fetch(t.Context(), dir, url, FetchOptions{Refs: []string{"+refs/heads/main:refs/x", commit}}); err != nil {
				t.Fatal(err)
			}
			if err := CheckOut(t.Context(), dir, work, commit, Limits{}); err != nil {
				t.Fatal(err)
			}
			if files, err := os.ReadDir(filepath.Join(work, "inner")); err != nil || len(files) != 0 {
				t.Errorf("the folder of the submodule has %v, %v", files, err)
			}
			if n := asked.Load(); n != 0 {
				t.Errorf("the server of the submodule was asked %d times", n)
			}
		})
	}

	// The control: a clone with submodules asks it.
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := outer.try("", "clone", "--quiet", "--recurse-submodules", outer.dir, clone); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(filepath.Join(clone, "inner", "compose.yml")); err != nil || asked.Load() == 0 {
		t.Errorf("git does not fetch the submodule: %q, %v, %d requests", text, err, asked.Load())
	}
}
