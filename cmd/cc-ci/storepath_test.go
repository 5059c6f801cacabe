package main

import (
	"os"
	"path/filepath"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// The store of an earlier version is found again, with what only its log holds.
func TestStoreIsMoved(t *testing.T) {
	cfg := config.Config{Data: t.TempDir()}
	old := filepath.Join(cfg.Data, "cc-ci.db")
	store, err := sqlstore.Open(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.ClaimRun(t.Context(), ccci.Run{ID: "1", Key: "local/1/0", Recipe: "wiki", Status: ccci.StatusQueued}); err != nil {
		t.Fatal(err)
	}
	// Killed: nothing is checkpointed.
	copies := map[string][]byte{}
	for _, end := range []string{"", "-wal", "-shm"} {
		if copies[end], err = os.ReadFile(old + end); err != nil {
			t.Fatal(err)
		}
	}
	store.Close()
	for end, text := range copies {
		if err := os.WriteFile(old+end, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := moveStore(cfg); err != nil {
			t.Fatal(err)
		}
		moved, err := sqlstore.Open(t.Context(), storePath(cfg))
		if err != nil {
			t.Fatal(err)
		}
		if run, err := moved.FindRun(t.Context(), "1"); err != nil || run.Recipe != "wiki" {
			t.Errorf("%+v, %v", run, err)
		}
		moved.Close()
	}
	if left, _ := filepath.Glob(old + "*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := moveStore(cfg); ccci.CodeOf(err) != ccci.CodeConflict || ccci.HintOf(err) == "" {
		t.Errorf("two stores: %v", err)
	}
}
