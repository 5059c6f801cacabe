package backup

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
