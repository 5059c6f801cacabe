package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// What can be told of a quick run by hand before it is told then.
func TestU20_QuickByHandNeedsACanonical(t *testing.T) {
	cfg := config.Default()
	cfg.Data = t.TempDir()
	blobs, err := dirblob.Open(filepath.Join(cfg.Data, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(recipe, text string) {
		if _, err := blobs.Put(t.Context(), ccci.CanonicalKey(recipe), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	canonical := func(recipe string, kept ccci.Kept) string {
		text, err := json.Marshal(ccci.Canonical{Recipe: recipe, Commit: ccci.Commit(strings.Repeat("a", 40)), Release: "1.0.0", Kept: kept})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put("good", canonical("good", ccci.Kept{Snapshot: "s"}))
	put("bare", canonical("bare", ccci.Kept{Without: "it has no volume"}))
	put("junk", "{")
	for recipe, want := range map[string]string{
		"good": "", "absent": "there is no canonical of absent", "bare": "the canonical of bare has no data to start from: it has no volume", "junk": "the canonical of junk cannot be used",
	} {
		err := startsQuick(t.Context(), cfg, recipe)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", recipe, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) || ccci.HintOf(err) == "" || exitCode(err, new(strings.Builder)) != exitUsage {
			t.Errorf("%s: %v, hint %q", recipe, err, ccci.HintOf(err))
		}
	}
}
