package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// CoreDumps warns of a kernel that hands a process that crashes to a program of this machine, such as
// systemd-coredump or apport. It does so for the processes of containers as well, whatever their limit of core
// dumps is: the program runs as root, in no control group of the run, and keeps the memory of
// the process on the machine's disk and its environment in the journal, beyond the run. A core
// dump under a plain name is a file of the container. dir is [KernelSettings].
func CoreDumps(dir string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "kernel: core dumps"
		text, err := os.ReadFile(filepath.Join(dir, "kernel/core_pattern"))
		if err != nil {
			return []ccci.Diagnosis{Problem(name, ccci.Errorf(ccci.CodeInfra, "reading kernel.core_pattern: %w", err).WithHint("run cc-ci doctor on the host, where /proc is mounted"))}
		}
		pattern := strings.TrimSpace(string(text))
		if strings.HasPrefix(pattern, "|") || strings.HasPrefix(pattern, "@") {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Warning: true,
				Message: "a process of an app that crashes starts a program of this machine as root, which no limit of the run bounds: kernel.core_pattern is " + pattern,
				Hint: "sysctl -w kernel.core_pattern=core, and write it into /etc/sysctl.d/60-core.conf, which is read after the file of systemd-coredump; " +
					"where apport is installed, disable it, since it sets its own when it starts"}}
		}
		return []ccci.Diagnosis{Well(name, "a core dump is a file of the container that crashes")}
	}
}
