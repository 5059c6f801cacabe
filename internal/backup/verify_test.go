package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/harness"
)

// U5: what a snapshot lacks is found by looking into it.
func TestU5_Verify(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	data := Volume{Key: "data", Name: "s_data"}
	dump := Volume{Key: "db", Name: "s_db", Paths: []string{"dump.sql"}, Dumped: true}
	file := func(v Volume, p string, size int64, age time.Duration) File {
		return File{Path: v.Root() + "/" + p, Type: "file", Size: size, Mtime: began.Add(-age)}
	}
	dir := func(v Volume) File { return File{Path: v.Root(), Type: "dir", Mtime: began} }
	good := []File{dir(data), file(data, "x/y", 3, time.Hour), file(dump, "dump.sql", 9, -time.Second)}

	for _, tc := range []struct {
		name   string
		files  []File
		expect []string
		want   string // the problems; "" for none
	}{
		{"all there", good, []string{"data", "data/x", "data/x/y", "db/dump.sql"}, ""},
		{"volume lacks", good[2:], nil, "data: it is not in the snapshot"},
		{"volume is empty", append([]File{dir(data)}, good[2]), nil, "data: it holds no file"},
		{"only empty files", append([]File{dir(data), file(data, "x", 0, 0)}, good[2]), nil, "data: it is empty"},
		{"dump lacks", good[:2], nil, "db/dump.sql: it is not in the snapshot"},
		{"dump is empty", append(good[:2:2], file(dump, "dump.sql", 0, 0)), nil, "db/dump.sql: it is empty"},
		{"dump is from before", append(good[:2:2], file(dump, "dump.sql", 9, time.Minute)), nil, "db: the pre-hook wrote nothing"},
		{"a name that only begins alike", append(good[:2:2], file(dump, "dump.sql.old", 9, 0)), nil, "db/dump.sql: it is not in the snapshot"},
		{"expected path lacks", good, []string{"data/z"}, "data/z: it is not in the snapshot"},
		{"expected volume unknown", good, []string{"foo/z"}, "foo/z: the stack has no such volume"},
		{"expected volume excluded", good, []string{"cache/z"}, "cache/z: a label excludes this volume"},
	} {
		plan := Plan{Volumes: []Volume{data, dump}, Excluded: []string{"cache"}}
		problems := Verify(plan, Snapshot{Started: began}, tc.files, tc.expect)
		text := fmt.Sprint(problems)
		if (tc.want == "") != (len(problems) == 0) || len(problems) > 1 || !strings.Contains(text, tc.want) {
			t.Errorf("%s: problems %v, want %q", tc.name, problems, tc.want)
		}
	}
}

// What is shown in the place of a missing dump is what is near it, in one line.
func TestU5_BesideAMissingPath(t *testing.T) {
	data := Volume{Key: "data", Name: "s_data"}
	file := func(p string) File { return File{Path: data.Root() + "/" + p, Type: "file", Size: 3} }
	var many []File
	for i := range 100 {
		many = append(many, file(fmt.Sprintf("uploads/%02d", i)))
	}
	many = append(many, file("dumps/old.sql"))
	for name, c := range map[string]struct {
		missing, want string
		files         []File
	}{
		"its folder":     {"data/dumps/db.sql", "the snapshot has in data/dumps: old.sql (3 bytes)", many},
		"no such folder": {"data/backups/daily/db.sql", "the snapshot has in data: uploads/00 (3 bytes), uploads/01 (3 bytes), uploads/02 (3 bytes), uploads/03 (3 bytes), uploads/04 (3 bytes), and 96 more", many},
		"an empty one":   {"data/db.sql", "the snapshot has no file of volume data", nil},
		"all of it":      {"data", "the snapshot has no file of volume data", nil},
	} {
		if got := beside(Plan{Volumes: []Volume{data}}, c.files, c.missing); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A hook that fails says what it printed on both outputs.
func TestU5_FailedHookShowsItsOutput(t *testing.T) {
	b := New(Options{Exec: func(context.Context, harness.ExecCmd) (harness.ExecResult, error) {
		return harness.ExecResult{ExitCode: 1, Stdout: []byte("dumping app\n"), Stderr: []byte("pg_dump: error: connection failed\n\tIs the server running?\n")}, nil
	}})
	var said interface{ Lines() []string }
	err := b.hook(t.Context(), "backup pre-hook", Hook{Service: "db", Command: "pg_dump"})
	if !errors.As(err, &said) || !slices.Equal(said.Lines(), []string{"dumping app", "pg_dump: error: connection failed", "\tIs the server running?"}) {
		t.Errorf("%v, which shows %q", err, said)
	}
}
