package livefiles

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sources makes files that hold their own name.
func sources(t *testing.T, dir string) func(text string) (path string) {
	return func(text string) string {
		t.Helper()
		path := filepath.Join(dir, text)
		if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// A31: new files take the place of the old ones; what is not there leaves all as it was.
func TestA31_Publish(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	source := sources(t, in)
	listing := func() string {
		entries, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			if e.Name() == lockName {
				continue
			}
			text, err := os.ReadFile(filepath.Join(out, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Name()+"="+string(text))
		}
		return strings.Join(all, " ")
	}
	first := []File{{source("cert1"), "1.crt"}, {source("names1"), "dynamic.yml"}}
	for range 2 {
		if err := Publish(t.Context(), out, first, 0); err != nil || listing() != "1.crt=cert1 dynamic.yml=names1" {
			t.Fatalf("%s, %v", listing(), err)
		}
	}
	if err := Publish(t.Context(), out, []File{{source("cert2"), "2.crt"}, {filepath.Join(in, "absent"), "dynamic.yml"}}, 0); err == nil || listing() != "1.crt=cert1 2.crt=cert2 dynamic.yml=names1" {
		t.Errorf("%s, %v", listing(), err)
	}
	third := []File{{source("cert3"), "3.crt"}, {source("names3"), "dynamic.yml"}}
	if err := Publish(t.Context(), out, third, 0); err != nil || listing() != "1.crt=cert1 2.crt=cert2 3.crt=cert3 dynamic.yml=names3" {
		t.Errorf("%s, %v", listing(), err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := Publish(ended, out, []File{{source("cert3"), "3.crt"}, {source("names4"), "dynamic.yml"}}, time.Hour); err == nil || !strings.HasSuffix(listing(), "3.crt=cert3 dynamic.yml=names3") {
		t.Errorf("one that is ended: %s, %v", listing(), err)
	}
	if err := Sweep(t.Context(), out, first); err != nil || listing() != "1.crt=cert1 2.crt=cert2 3.crt=cert3 dynamic.yml=names3" {
		t.Errorf("one that is late: %s, %v", listing(), err)
	}
	for range 2 {
		if err := Sweep(t.Context(), out, third); err != nil || listing() != "3.crt=cert3 dynamic.yml=names3" {
			t.Errorf("%s, %v", listing(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(out, "3.crt")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for text, ok := range map[string]bool{"a.yml=/x/y": true, "a.yml": false, "../a=/x": false, ".a=/x": false, "=/x": false, "a=": false} {
		if _, err := Parse(text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A31: a version that sweeps while the next one is being published takes none of it away.
func TestA31_SweepWhileTheNextIsPublished(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	source := sources(t, in)
	first := []File{{source("cert1"), "1.crt"}, {source("names1"), "dynamic.yml"}}
	second := []File{{source("cert2"), "2.crt"}, {source("names2"), "dynamic.yml"}}
	if err := Publish(t.Context(), out, first, 0); err != nil {
		t.Fatal(err)
	}
	published := make(chan error)
	go func() { published <- Publish(t.Context(), out, second, 300*time.Millisecond) }()
	for { // the new certificate is there, and what names it is not
		if _, err := os.Stat(filepath.Join(out, "2.crt")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := Sweep(t.Context(), out, first); err != nil {
		t.Error(err)
	}
	if err := <-published; err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"2.crt": "cert2", "dynamic.yml": "names2"} {
		if text, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := Sweep(ended, out, second); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
