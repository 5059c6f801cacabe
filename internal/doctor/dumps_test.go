package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

// N3: no crash of an app starts a program outside of its container.
func TestN3_CoreDumpsStayInTheContainer(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	const well, warning = "ok       kernel: core dumps", "warning  kernel: core dumps"
	for pattern, want := range map[string][]string{
		"core":               {well},
		"core.%p":            {well},
		"/var/crash/core.%p": {well}, // in the root of the process
		"":                   {well},
		"|/lib/systemd/systemd-coredump %P %u %g %s %t %c %h": {warning, "is |/lib/systemd/systemd-coredump", "sysctl -w kernel.core_pattern=core"},
		"@@/run/systemd/coredump":                             {warning, "is @@/run/systemd/coredump"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "kernel/core_pattern"), []byte(pattern+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, pattern, said(t, CoreDumps(dir)), want...)
	}
	expect(t, "a kernel that does not show it", said(t, CoreDumps(t.TempDir())), "kernel: core dumps", "reading kernel.core_pattern")
}
