package backup

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// File is one entry of a snapshot.
type File struct {
	Path  string // absolute within the snapshot, as [Volume.Root] has it
	Type  string // "file", "dir", "symlink", …
	Size  int64  // bytes; 0 for all but files
	Mtime time.Time
}

// ProblemKind sorts problems, so that a caller can weigh them.
type ProblemKind string

const (
	Missing  ProblemKind = "missing"  // not in the snapshot
	Empty    ProblemKind = "empty"    // files are there, and all of them are empty
	Bare     ProblemKind = "bare"     // a directory without any file; an unused one looks the same
	Stale    ProblemKind = "stale"    // a dump that was not written by this backup
	Excluded ProblemKind = "excluded" // expected, and excluded by a label or no volume of the stack
)

// Problem is something that a snapshot lacks.
type Problem struct {
	Kind    ProblemKind
	Path    string // "<volume key>/<path>", or "<volume key>"
	Message string // one sentence without a full stop
}

func (p Problem) String() string { return p.Path + ": " + p.Message }

// slack forgives file systems with coarse times.
const slack = 2 * time.Second

// Verify compares the files of a snapshot with what the plan promises and with
// expect, further paths written "<volume key>/<path within it>". Each must be there
// and hold at least one byte, in itself or below it. Of the paths that a pre-hook writes
// ([Volume.Dumped]) the newest must have been written since the backup began.
// No problem means that the snapshot can be trusted to hold these paths; that
// they can be restored is for a restore to show.
func Verify(plan Plan, snapshot Snapshot, files []File, expect []string) []Problem {
	var problems []Problem
	for _, v := range plan.Volumes {
		var newest time.Time
		for _, p := range promised(v) {
			found := under(files, path.Join(v.Root(), p))
			name := path.Join(v.Key, p)
			problems = append(problems, judge(name, found)...)
			newest = latest(newest, found)
		}
		if v.Dumped && !newest.IsZero() && newest.Before(snapshot.Started.Add(-slack)) {
			problems = append(problems, Problem{Stale, v.Key, fmt.Sprintf(
				"the pre-hook wrote nothing: the newest of %s is from %s, the backup began at %s",
				strings.Join(v.Paths, ", "), newest.UTC().Format(time.DateTime), snapshot.Started.UTC().Format(time.DateTime))})
		}
	}
	for _, want := range expect {
		for _, problem := range verifyExpected(plan, files, want) {
			if !slices.Contains(problems, problem) { // labels and expect may name the same path
				problems = append(problems, problem)
			}
		}
	}
	return problems
}

func verifyExpected(plan Plan, files []File, want string) []Problem {
	key, rest, _ := strings.Cut(path.Clean(want), "/")
	at := slices.IndexFunc(plan.Volumes, func(v Volume) bool { return v.Key == key })
	if at < 0 {
		why := "the stack has no such volume"
		if slices.Contains(plan.Excluded, key) {
			why = "a label excludes this volume from the backup"
		}
		return []Problem{{Excluded, want, why}}
	}
	return judge(want, under(files, path.Join(plan.Volumes[at].Root(), rest)))
}

// promised are the paths to look for; "" is the volume itself.
func promised(v Volume) []string {
	if len(v.Paths) == 0 {
		return []string{""}
	}
	return v.Paths
}

// under returns a path and all that is below it.
func under(files []File, target string) []File {
	var found []File
	for _, f := range files {
		if f.Path == target || strings.HasPrefix(f.Path, target+"/") {
			found = append(found, f)
		}
	}
	return found
}

// judge says what is wrong with a path's entries, if anything.
func judge(name string, found []File) []Problem {
	isFile := func(f File) bool { return f.Type == "file" }
	switch {
	case len(found) == 0:
		return []Problem{{Missing, name, "it is not in the snapshot"}}
	case !slices.ContainsFunc(found, isFile):
		return []Problem{{Bare, name, "it holds no file in the snapshot"}}
	case !slices.ContainsFunc(found, func(f File) bool { return isFile(f) && f.Size > 0 }):
		return []Problem{{Empty, name, "it is empty in the snapshot"}}
	}
	return nil
}

func latest(newest time.Time, files []File) time.Time {
	for _, f := range files {
		if f.Type == "file" && f.Mtime.After(newest) {
			newest = f.Mtime
		}
	}
	return newest
}

// mostBeside is how many files are named in the place of one that is missing.
const mostBeside = 5

// beside says what a snapshot has near a path that it lacks: in its folder or, if that is missing too,
// in the next one above.
func beside(plan Plan, files []File, missing string) string {
	key, rest, _ := strings.Cut(missing, "/")
	at := slices.IndexFunc(plan.Volumes, func(v Volume) bool { return v.Key == key })
	if at < 0 {
		return fmt.Sprintf("the stack has no volume %s", key)
	}
	root := plan.Volumes[at].Root()
	for rest != "" {
		if rest = path.Dir(rest); rest == "." {
			rest = ""
		}
		var names []string
		for _, f := range under(files, path.Join(root, rest)) {
			if f.Type == "file" {
				names = append(names, fmt.Sprintf("%s (%d bytes)", strings.TrimPrefix(f.Path, path.Join(root, rest)+"/"), f.Size))
			}
		}
		if more := len(names) - mostBeside; more > 0 {
			names = append(names[:mostBeside], fmt.Sprintf("and %d more", more))
		}
		if len(names) > 0 {
			return fmt.Sprintf("the snapshot has in %s: %s", path.Join(key, rest), strings.Join(names, ", "))
		}
	}
	return fmt.Sprintf("the snapshot has no file of volume %s", key)
}
