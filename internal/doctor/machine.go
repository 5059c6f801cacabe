package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// existing returns the deepest folder on the way to path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// Folder looks whether cc-ci could write into a folder, or make it.
func Folder(check, dir, setting string) Check {
	return func(context.Context) []ccci.Diagnosis {
		there := existing(dir)
		info, err := os.Stat(there)
		switch {
		case err == nil && !info.IsDir():
			return []ccci.Diagnosis{{Check: check, Code: ccci.CodeInvalid, Message: there + " is not a folder", Hint: "name another one: " + setting + " in the configuration"}}
		case unix.Access(there, unix.W_OK|unix.X_OK) != nil:
			return []ccci.Diagnosis{{Check: check, Code: ccci.CodeInvalid, Message: "this user may not write into " + there,
				Hint: fmt.Sprintf("chown it to cc-ci's user, or name another one: %s in the configuration", setting)}}
		case there != dir:
			return []ccci.Diagnosis{Well(check, "%s will be made", dir)}
		}
		return []ccci.Diagnosis{Well(check, "%s can be written to", dir)}
	}
}

// Least free space, in bytes: below the one runs fail, below the other they soon will.
const (
	leastFree = 2 << 30
	fewFree   = 10 << 30
)

// Disk looks how much space is left where dir is, or will be.
func Disk(check, dir string) Check {
	return func(context.Context) []ccci.Diagnosis {
		var s unix.Statfs_t
		if err := unix.Statfs(existing(dir), &s); err != nil {
			return []ccci.Diagnosis{Problem(check, ccci.Errorf(ccci.CodeInfra, "asking for the free space of %s: %w", dir, err))}
		}
		return []ccci.Diagnosis{space(check, dir, int64(s.Bavail)*s.Bsize)}
	}
}

func space(check, dir string, free int64) ccci.Diagnosis {
	d := Well(check, "%.1f GB are free for %s", float64(free)/(1<<30), dir)
	if free < fewFree {
		d.Code, d.Warning = ccci.CodeInfra, free >= leastFree
		d.Hint = "docker system df shows what images and volumes take; keep.runs in the configuration bounds what results take"
	}
	return d
}

// Program looks whether a program is on PATH.
func Program(name, hint string) Check {
	return func(context.Context) []ccci.Diagnosis {
		path, err := exec.LookPath(name)
		if err != nil {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Message: "there is no " + name + " on this machine", Hint: hint}}
		}
		return []ccci.Diagnosis{Well(name, "it is at %s", path)}
	}
}

// Docker looks whether the daemon answers, whether it can be, or is, a swarm, whether
// containers can be limited, whether its version has a known fault, and whether the swarm's log is bounded; unlimited names the resources in which
// containers cannot be limited, bounded has the settings of the log.
func Docker(unlimited func(system.Info) []string, bounded swarm.Spec) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
		if err != nil {
			return []ccci.Diagnosis{Problem("docker", ccci.Errorf(ccci.CodeInvalid, "making a Docker client: %w", err).WithHint("check DOCKER_HOST"))}
		}
		defer docker.Close()
		info, err := docker.Info(ctx)
		if err != nil {
			hint := "start the daemon (sudo systemctl start docker), or check DOCKER_HOST"
			if errors.Is(err, fs.ErrPermission) {
				hint = "run sudo usermod -aG docker $USER and log in again, or become root"
			}
			return []ccci.Diagnosis{{Check: "docker", Code: ccci.CodeInfra, Message: "no Docker daemon answers at " + docker.DaemonHost() + ": " + err.Error(), Hint: hint}}
		}
		out := []ccci.Diagnosis{Well("docker", "%s answers at %s", info.ServerVersion, docker.DaemonHost()), swarmState(info.Swarm), limits(unlimited(info))}
		if version, err := docker.ServerVersion(ctx); err != nil {
			out = append(out, Problem("version of Docker Engine", ccci.Errorf(ccci.CodeInfra, "asking Docker for its version: %w", err)))
		} else {
			out = append(out, Versions(version, info.DefaultRuntime)...)
		}
		if !info.Swarm.ControlAvailable {
			return out
		}
		have, err := docker.SwarmInspect(ctx)
		if err != nil {
			return append(out, Problem(logOfSwarm, ccci.Errorf(ccci.CodeInfra, "asking Docker for the settings of the swarm: %w", err)))
		}
		return append(out, swarmLog(have.Spec, bounded))
	}
}

const logOfSwarm = "log of the swarm"

// swarmLog warns of settings with which dockerd keeps more of ended tasks than bounded says: each
// state of each task with its whole specification, in memory and on disk, after the run too.
func swarmLog(have, bounded swarm.Spec) ccci.Diagnosis {
	most := *bounded.Orchestration.TaskHistoryRetentionLimit
	history := most
	if limit := have.Orchestration.TaskHistoryRetentionLimit; limit != nil {
		history = *limit
	}
	d := Well(logOfSwarm, "its snapshot interval is %d and its task history limit %d", have.Raft.SnapshotInterval, history)
	if have.Raft.SnapshotInterval > bounded.Raft.SnapshotInterval || history < 0 || history > most {
		d.Code, d.Warning = ccci.CodeInfra, true
		d.Message += ", so that a run whose tasks end again and again fills the memory of dockerd"
		d.Hint = fmt.Sprintf("docker swarm update --snapshot-interval %d --task-history-limit %d", bounded.Raft.SnapshotInterval, most)
	}
	return d
}

// limits warns of what the deployer leaves out, with a note in each run.
func limits(unlimited []string) ccci.Diagnosis {
	const name = "limits of containers"
	if len(unlimited) == 0 {
		return Well(name, "memory, processors and processes of an app can be limited")
	}
	return ccci.Diagnosis{Check: name, Code: ccci.CodeInfra, Warning: true,
		Message: "the kernel cannot limit the " + strings.Join(unlimited, " and the ") + " of a container, so that an app may take all of the machine's",
		Hint:    "see the warnings at the end of docker info; for memory, start the kernel with cgroup_enable=memory, for the others use one with control groups v2"}
}

func swarmState(s swarm.Info) ccci.Diagnosis {
	switch {
	case s.LocalNodeState == swarm.LocalNodeStateInactive:
		return Well("swarm", "there is none; cc-ci serve makes one of this machine alone")
	case s.LocalNodeState != swarm.LocalNodeStateActive:
		return ccci.Diagnosis{Check: "swarm", Code: ccci.CodeInfra, Message: fmt.Sprintf("this node is %s", s.LocalNodeState), Hint: "docker swarm leave --force, and join or init again"}
	case !s.ControlAvailable:
		return ccci.Diagnosis{Check: "swarm", Code: ccci.CodeInfra, Message: "this node is a worker, and services are made by managers", Hint: "run cc-ci on a manager, or promote this node there: docker node promote NAME"}
	}
	return Well("swarm", "active, with %d nodes", s.Nodes)
}

// Secret looks whether a file holds what read makes of it, and who else may read it.
func Secret(read func(path string) (ccci.Secret, error), path, what string) Check {
	return func(context.Context) []ccci.Diagnosis {
		check := "secret: " + what
		if _, err := read(path); err != nil {
			return []ccci.Diagnosis{Problem(check, err)}
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o007 != 0 {
			return []ccci.Diagnosis{{Check: check, Code: ccci.CodeInvalid, Warning: true, Message: fmt.Sprintf("%s can be read by every user of this machine (%s)", path, info.Mode().Perm()),
				Hint: "chmod o-rwx " + path}}
		}
		return []ccci.Diagnosis{Well(check, "%s is read", path)}
	}
}
