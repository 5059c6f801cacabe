package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// KernelSettings is where the kernel shows its settings.
const KernelSettings = "/proc/sys"

// sharedTables are settings that bound what all containers and the host's own programs have
// together: the kernel counts by user, and root of a container is root of the host there. What is
// beyond the bound is refused to everyone. At these values an app's limit of memory, which the
// entries count towards, ends it first.
var sharedTables = []struct {
	setting string
	least   int64
	what    string
}{
	{"fs.inotify.max_user_instances", 1 << 22, "watchers of files"},
	{"fs.inotify.max_user_watches", 1 << 24, "watched files"},
	{"fs.aio-max-nr", 1 << 28, "asynchronous reads and writes, as databases use them"},
}

// Tables warns of tables of the kernel that one app can use up for all others. dir is
// [KernelSettings].
func Tables(dir string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "kernel: shared tables"
		var whats, settings []string
		for _, table := range sharedTables {
			text, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(table.setting, ".", "/")))
			if err != nil {
				continue // a kernel without it has nothing to use up
			}
			value, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err != nil || value < table.least {
				whats = append(whats, table.what)
				settings = append(settings, fmt.Sprintf("%s=%d", table.setting, table.least))
			}
		}
		if len(settings) > 0 {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Warning: true, Message: "one app can take from all others, and from the host: " + strings.Join(whats, "; "),
				Hint: "sysctl -w " + strings.Join(settings, " ") + ", and write it into a file in /etc/sysctl.d"}}
		}
		return []ccci.Diagnosis{Well(name, "an app reaches its limit of memory before it has used up what all share")}
	}
}
