package sqlstore

import (
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Whoever only reads sees what another writes, at once, and cannot write.
func TestA27_Reader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cc-ci.db")
	if _, err := OpenReader(t.Context(), path); ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(ccci.HintOf(err), "cc-ci bridge") {
		t.Errorf("a store that is not there: %v", err)
	}
	writer, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	reader, err := OpenReader(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	run := ccci.Run{ID: "1", Key: "local/1/0", Recipe: "wiki", Status: ccci.StatusQueued}
	if _, _, err := writer.ClaimRun(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if got, err := reader.FindRun(t.Context(), "1"); err != nil || got.Recipe != "wiki" {
		t.Errorf("%+v, %v", got, err)
	}
	run.Status = ccci.StatusRunning
	if err := reader.UpdateRun(t.Context(), run); err == nil {
		t.Error("it wrote")
	}
	run.ID, run.Key = "2", "local/2/0"
	if _, _, err := reader.ClaimRun(t.Context(), run); err == nil {
		t.Error("it wrote")
	}
	if _, err := writer.db.Write.ExecContext(t.Context(), `DELETE FROM goose_db_version WHERE version_id > 0`); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(t.Context(), path); err == nil || !strings.Contains(err.Error(), "its schema is version 0") {
		t.Errorf("a store that was not migrated: %v", err)
	}
}
