package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// WatchdogDevices is where the kernel shows watchdogs.
const WatchdogDevices = "/sys/class/watchdog"

// Watchdogs warns of each watchdog that nothing holds. To open such a device starts it, and it restarts the
// machine unless it is answered from then on. dockerd opens /etc/passwd of a container for commands in it, as
// root of the host, and an app that makes a link in its place meanwhile has it open a file of the host. A
// device that a program holds cannot be opened again. dir is [WatchdogDevices].
func Watchdogs(dir string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "devices: watchdogs"
		devices, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return []ccci.Diagnosis{Problem(name, ccci.Errorf(ccci.CodeInfra, "looking for watchdogs: %w", err))}
		}
		var free, unknown []string
		for _, device := range devices {
			shown := "/dev/" + device.Name()
			if text, err := os.ReadFile(filepath.Join(dir, device.Name(), "identity")); err == nil {
				shown += " (" + strings.TrimSpace(string(text)) + ")"
			}
			state, err := os.ReadFile(filepath.Join(dir, device.Name(), "state"))
			switch {
			case err != nil: // a kernel without CONFIG_WATCHDOG_SYSFS
				unknown = append(unknown, shown)
			case strings.TrimSpace(string(state)) != "active":
				free = append(free, shown)
			}
		}
		slices.Sort(free)
		slices.Sort(unknown)
		var open []string
		if len(free) > 0 {
			open = append(open, "nothing holds "+strings.Join(free, ", "))
		}
		if len(unknown) > 0 {
			open = append(open, "the kernel does not show whether a program holds "+strings.Join(unknown, ", "))
		}
		if len(open) > 0 {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Warning: true,
				Message: "an app can have Docker start a watchdog that nothing answers, which restarts this machine: " + strings.Join(open, "; "),
				Hint: "write [Manager] and RuntimeWatchdogSec=1min into /etc/systemd/system.conf.d/watchdog.conf, then systemctl daemon-reexec: systemd holds one, WatchdogDevice= says which; " +
					"of a second one do not load the driver (blacklist in /etc/modprobe.d)"}}
		}
		if len(devices) == 0 {
			return []ccci.Diagnosis{Well(name, "there is none")}
		}
		return []ccci.Diagnosis{Well(name, "a program holds each")}
	}
}
