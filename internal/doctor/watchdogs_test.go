package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

// N3: a watchdog that nothing holds is named, since an app can have dockerd open it.
func TestN3_FreeWatchdogsAreNamed(t *testing.T) {
	const well, warning = "ok       devices: watchdogs", "warning  devices: watchdogs"
	for name, c := range map[string]struct {
		devices map[string]map[string]string // files of each
		want    []string
	}{
		"none":   {nil, []string{well, "there is none"}},
		"held":   {map[string]map[string]string{"watchdog0": {"state": "active\n", "identity": "iTCO_wdt\n"}}, []string{well, "a program holds each"}},
		"free":   {map[string]map[string]string{"watchdog0": {"state": "inactive\n", "identity": "iTCO_wdt\n"}}, []string{warning, "nothing holds /dev/watchdog0 (iTCO_wdt)", "RuntimeWatchdogSec=1min"}},
		"second": {map[string]map[string]string{"watchdog0": {"state": "active\n"}, "watchdog1": {"state": "inactive\n"}}, []string{warning, "nothing holds /dev/watchdog1\n", "do not load the driver"}},
		"several": {map[string]map[string]string{"watchdog0": {"state": "inactive\n"}, "watchdog1": {"state": "inactive\n"}},
			[]string{warning, "nothing holds /dev/watchdog0, /dev/watchdog1\n"}},
		"mixed": {map[string]map[string]string{"watchdog0": {"state": "inactive\n"}, "watchdog1": {}},
			[]string{warning, "nothing holds /dev/watchdog0; the kernel does not show whether a program holds /dev/watchdog1\n"}},
		"not shown": {map[string]map[string]string{"watchdog0": {"identity": "i6300ESB timer\n"}}, []string{warning, "whether a program holds /dev/watchdog0 (i6300ESB timer)", "RuntimeWatchdogSec=1min"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "watchdog") // absent without a driver
			for device, files := range c.devices {
				if err := os.MkdirAll(filepath.Join(dir, device), 0o755); err != nil {
					t.Fatal(err)
				}
				for file, text := range files {
					if err := os.WriteFile(filepath.Join(dir, device, file), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			expect(t, name, said(t, Watchdogs(dir)), c.want...)
		})
	}
}
