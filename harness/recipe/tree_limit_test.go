package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestN3_AComposeFileBeyondItsLimitIsRefused(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		".env.sample": "TYPE=demo\nDOMAIN=demo.example.com\n",
		"compose.yml": "x-a: " + strings.Repeat("x", maxComposeFile) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(dir, "")
	if err == nil || ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(err.Error(), "(rule yaml-size)") {
		t.Errorf("%v, code %q", err, ccci.CodeOf(err))
	}
}
