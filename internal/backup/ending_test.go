package backup

import (
	"bytes"
	"fmt"
	"testing"
)

// An app that removes its files while they are read makes restic complain of each.
func TestN3_ComplaintsOfResticAreBounded(t *testing.T) {
	var e ending
	var all bytes.Buffer
	for i := range 20_000 {
		line := fmt.Sprintf("error: lstat /volumes/data/%0*d: no such file or directory\n", 1+i%300, i)
		all.WriteString(line)
		if n, err := e.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	big := bytes.Repeat([]byte("x"), 1<<20)
	if got, want := tail(e.kept, 4000), tail(all.Bytes(), 4000); got != want {
		t.Errorf("kept %.100q, want %.100q", got, want)
	}
	if _, err := e.Write(big); err != nil || cap(e.kept) > 8*endingSize {
		t.Errorf("%d bytes are held, %v", cap(e.kept), err)
	}
}

// A26: restic's words about a file come before its count, and a path that was not there is found.
func TestA26_WhatResticSays(t *testing.T) {
	about := &complaints{}
	fmt.Fprint(about, "ignoring error for /v/link: symlink a /v/link: file exists\nFatal: There were 1 errors\n")
	e := &resticError{code: 1, stderr: tail(about.kept, 4000), about: about}
	if got := e.Error(); got != `restic ended with exit code 1: "/v/link": symlink a: file exists; Fatal: There were 1 errors` {
		t.Error(got)
	}
	e = &resticError{code: incomplete, stderr: "/v/x does not exist, skipping\nWarning: at least one source file could not be read"}
	b := &Backup{plan: Plan{Volumes: []Volume{{Key: "data", At: "/v"}}}}
	if got := b.named(e.skipped()); len(got) != 1 || got[0] != "data/x" {
		t.Error(got)
	}
}
