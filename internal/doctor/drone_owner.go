package doctor

import (
	"context"
	"os"
	"path/filepath"
	"regexp"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// labelRun is on every container of a run (swarm.LabelRun).
const labelRun = "cc-ci.run"

// containerID finds containers in the names of control groups, which a process in a
// container cannot change: "/docker/ID", "/system.slice/docker-ID.scope".
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// mayBeOfRun reports whether a process is in a container of a run, or in one of which
// nothing can be learned.
func mayBeOfRun(ctx context.Context, pid string) bool {
	dir := filepath.Join("/proc", pid)
	groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return true // it has ended
	}
	ids := containerID.FindAllString(string(groups), -1)
	if len(ids) == 0 {
		return false
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return true
	}
	defer docker.Close()
	for _, id := range ids {
		switch c, err := docker.ContainerInspect(ctx, id); {
		case cerrdefs.IsNotFound(err):
			// Another program's than Docker's, or removed, after its last process.
			if _, err := os.Stat(dir); err != nil {
				return true
			}
		case err != nil || c.Config == nil || c.Config.Labels[labelRun] != "":
			return true
		}
	}
	return false
}
