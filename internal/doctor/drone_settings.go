package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
)

// DroneSettings looks at the processes of this machine for the server at host (with a
// port, unless it is that of the scheme) and for its exec runner, and whether each has
// the settings that keep it to cc-ci's builds. Drone itself tells nobody its settings.
// What is seen is what the process was started with: a switch of NixOS leaves a runner
// alone. admin is cc-ci's account. Root alone sees the processes of others.
//
// An app of a run chooses its processes, their names and their environment. They are left
// out, as is every process of a container of which Docker does not say whose it is.
func DroneSettings(host, admin string, repo ccci.RepoRef) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		var server, runner []ccci.Diagnosis
		for _, p := range droneProcesses() {
			if host != p.settings["DRONE_SERVER_HOST"] && host != p.settings["DRONE_RPC_HOST"] || mayBeOfRun(ctx, p.pid) {
				continue
			}
			switch host {
			case p.settings["DRONE_SERVER_HOST"]:
				server = append(server, p.judge("drone: settings of the server", "lets strangers in", dronelimits.Server(admin, repo),
					"cc-ci reconcile drone sets them; where it does not make the server, set them in its environment and restart it"))
			case p.settings["DRONE_RPC_HOST"]:
				runner = append(runner, p.judge("drone: settings of the runner", "takes builds that cc-ci did not start", dronelimits.Runner(repo),
					"when nothing runs: systemctl restart cc-ci-runner, since a switch does not restart it; where it is no unit of cc-ci's, set them in its environment first"))
			}
		}
		return append(orUnseen(server, "drone: settings of the server", "server", host, dronelimits.Server(admin, repo)),
			orUnseen(runner, "drone: settings of the runner", "runner", host, dronelimits.Runner(repo))...)
	}
}

func orUnseen(seen []ccci.Diagnosis, check, what, host string, wanted map[string]string) []ccci.Diagnosis {
	if len(seen) > 0 {
		return seen
	}
	return []ccci.Diagnosis{{Check: check, Code: ccci.CodeRefused, Warning: true, Message: fmt.Sprintf("no %s of Drone at %s is visible here, so its settings are not checked", what, host),
		Hint: fmt.Sprintf("run cc-ci doctor as root on the machine of the %s, or look there for %s", what, strings.Join(dronelimits.Missing(wanted, nil), " "))}}
}

// droneProcess is a process that may be a server or a runner of Drone.
type droneProcess struct {
	pid      string
	settings map[string]string
}

// judge says whether a process has the settings wanted.
func (p droneProcess) judge(check, open string, wanted map[string]string, hint string) ccci.Diagnosis {
	if missing := dronelimits.Missing(wanted, p.settings); len(missing) > 0 {
		return ccci.Diagnosis{Check: check, Code: ccci.CodeInvalid, Message: fmt.Sprintf("process %s %s: it was started without %s", p.pid, open, strings.Join(missing, " ")), Hint: hint}
	}
	return Well(check, "process %s has them all", p.pid)
}

// droneProcesses returns those processes of the machine that have a setting of Drone's
// and that this process may look at. Those of containers are among them.
func droneProcesses() (all []droneProcess) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue
		}
		p := droneProcess{pid: filepath.Base(dir), settings: map[string]string{}}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		for _, file := range settingsFiles(args) {
			readSettings(dir, file, p.settings)
		}
		for _, line := range strings.Split(string(environ), "\x00") { // it counts before the file
			if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "DRONE_") {
				p.settings[name] = value
			}
		}
		if len(p.settings) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// settingsFiles are the environment files in the arguments of a server or a runner.
func settingsFiles(args []string) (files []string) {
	if !strings.HasPrefix(filepath.Base(args[0]), "drone-") {
		return nil
	}
	for i, arg := range args[1:] {
		if file, ok := strings.CutPrefix(strings.TrimLeft(arg, "-"), "env-file="); ok && strings.HasPrefix(arg, "-") {
			files = append(files, file)
		}
		if before := args[i]; before == "daemon" || before == "-env-file" || before == "--env-file" {
			files = append(files, arg)
		}
	}
	return files
}

// readSettings reads lines NAME=VALUE as a process sees the file. The process may be of
// a container that is hostile: nothing outside of its own files is read, and nothing waited for.
func readSettings(dir, file string, into map[string]string) {
	if !filepath.IsAbs(file) {
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		if err != nil {
			return
		}
		file = filepath.Join(cwd, file)
	}
	f, err := openAs(filepath.Join(dir, "root"), file)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return
	}
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "export "), "=")
		if !ok || !strings.HasPrefix(name, "DRONE_") {
			continue
		}
		value, _, _ = strings.Cut(value, " #") // no value that is looked for has one
		value = strings.TrimSpace(value)
		if plain, err := strconv.Unquote(value); err == nil {
			value = plain
		}
		into[strings.TrimSpace(name)] = strings.Trim(value, "'")
	}
}

// openAs opens a file of a process whose root directory is root.
func openAs(root, file string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	theirs, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if ours, err := os.Stat("/"); err == nil && os.SameFile(ours, theirs) {
		return os.OpenFile(file, flags, 0)
	}
	inside, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	return inside.OpenFile(strings.TrimPrefix(filepath.Clean(file), "/"), flags, 0)
}
