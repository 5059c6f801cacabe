package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// KernelSettings is where the kernel shows its settings.
const KernelSettings = "/proc/sys"

// SharedTable is a setting that bounds a table of the kernel.
type SharedTable struct {
	Setting string // as sysctl names it
	Least   int64
	What    string // the entries
}

// SharedTables bound what all containers and the host's own programs have together. What is beyond
// a bound is refused to everyone. The NixOS module sets each to its least value.
//
// The kernel counts the entries in fs by user, and root of a container is root of the host there. They
// count towards an app's limit of memory, which ends the app before it reaches these values.
//
// The tables of neighbours (ARP, NDP) are those of all network namespaces, and no limit of memory counts
// their entries, of some 500 bytes each. Up to the first threshold the kernel keeps them all. Beyond the second
// it drops those that have not changed for five seconds, and beyond the third it refuses new ones.
var SharedTables = []SharedTable{
	{"fs.inotify.max_user_instances", 1 << 22, "watchers of files"},
	{"fs.inotify.max_user_watches", 1 << 24, "watched files"},
	{"fs.aio-max-nr", 1 << 28, "asynchronous reads and writes, as databases use them"},
	{"fs.epoll.max_user_watches", 1 << 28, "watches of epoll, which docker and runc do not start without"},
	{"net.ipv4.neigh.default.gc_thresh1", 1 << 12, neighbours4},
	{"net.ipv4.neigh.default.gc_thresh2", 1 << 19, neighbours4},
	{"net.ipv4.neigh.default.gc_thresh3", 1 << 20, neighbours4},
	{"net.ipv6.neigh.default.gc_thresh1", 1 << 12, neighbours6},
	{"net.ipv6.neigh.default.gc_thresh2", 1 << 19, neighbours6},
	{"net.ipv6.neigh.default.gc_thresh3", 1 << 20, neighbours6},
}

const (
	neighbours4 = "neighbours on every network (ARP)"
	neighbours6 = "neighbours on every IPv6 network (NDP)"
)

// Tables warns of tables of the kernel that one app can use up for all others. dir is
// [KernelSettings].
func Tables(dir string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "kernel: shared tables"
		var whats, settings []string
		for _, table := range SharedTables {
			text, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(table.Setting, ".", "/")))
			if err != nil {
				continue // a kernel without it has nothing to use up
			}
			value, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err != nil || value < table.Least {
				if !slices.Contains(whats, table.What) {
					whats = append(whats, table.What)
				}
				settings = append(settings, fmt.Sprintf("%s=%d", table.Setting, table.Least))
			}
		}
		if len(settings) > 0 {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Warning: true, Message: "one app can take from all others, and from the host: " + strings.Join(whats, "; "),
				Hint: "sysctl -w " + strings.Join(settings, " ") + ", and write it into a file in /etc/sysctl.d"}}
		}
		return []ccci.Diagnosis{Well(name, "as large as the NixOS module sets them")}
	}
}
