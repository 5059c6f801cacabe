package headroom

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLookSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		needs Needs
		want  string
	}{
		"nothing asked":     {Needs{Dirs: []string{dir}}, ""},
		"enough":            {Needs{[]string{dir}, 1, 1}, ""},
		"no such disk":      {Needs{[]string{filepath.Join(dir, "none")}, 1 << 60, 0}, ""},
		"too little disk":   {Needs{[]string{"/none", dir}, 1 << 60, 0}, "the disk of " + dir + " has "},
		"too little memory": {Needs{[]string{dir}, 1, 1 << 60}, "of memory are available"},
	} {
		if got := c.needs.Short(); !strings.HasPrefix(got, c.want) && !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	s := Needs{Dirs: []string{dir}}.Look()
	if s.Disk <= 0 || s.Memory <= 0 {
		t.Errorf("%+v", s)
	}
	kernel := meminfo
	defer func() { meminfo = kernel }()
	meminfo = filepath.Join(dir, "meminfo")
	if s := (Needs{Memory: 1}).Look(); s.Memory != -1 || s.Short != "" {
		t.Errorf("without the kernel's word: %+v", s)
	}
	if err := os.WriteFile(meminfo, []byte("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := (Needs{Memory: 3 << 20}).Look(); s.Memory != 2<<20 || s.Short != "2MiB of memory are available, and at least 3MiB are needed" {
		t.Errorf("%+v", s)
	}
}

func TestFewInodes(t *testing.T) {
	for _, c := range []struct {
		all, free uint64
		want      bool
	}{{1000, 900, false}, {1000, 20, false}, {1000, 19, true}, {1000, 0, true}, {0, 0, false}} {
		if got := fewInodes(c.all, c.free); got != c.want {
			t.Errorf("%d of %d: %t", c.free, c.all, got)
		}
	}
}
