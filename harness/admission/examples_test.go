package admission

import (
	"os"
	"path/filepath"
	"testing"
)

// The example recipes, which a host tests itself with, need no waiver.
func TestN3_ExampleRecipesAreAdmitted(t *testing.T) {
	for _, file := range folders(t, "../../examples/recipes/*/*/compose.yml", 10) {
		dir := filepath.Dir(file)
		if _, err := os.Stat(filepath.Join(dir, ".env.sample")); err != nil {
			continue // it holds only what differs from the version before
		}
		t.Run(filepath.Base(filepath.Dir(dir))+"/"+filepath.Base(dir), func(t *testing.T) {
			if _, err := admitDir(dir, testPolicy()); err != nil {
				t.Error(err)
			}
		})
	}
}
