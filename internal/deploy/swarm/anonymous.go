package swarm

import (
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
)

// anonymous holds the names of volumes that the daemon made for the run's containers
// because their image asks for them. Such a volume bears no label, and stays
// where its container goes without it.
type anonymous struct {
	since time.Time // of the Deployer
	mu    sync.Mutex
	names map[string]bool
}

// noteVolumes remembers the anonymous volumes of the run's containers.
func (d *Deployer) noteVolumes(containers []container.Summary) {
	d.anonymous.mu.Lock()
	defer d.anonymous.mu.Unlock()
	for _, c := range containers {
		if c.Labels[LabelRun] != string(d.o.RunID) {
			continue
		}
		for _, m := range c.Mounts {
			if m.Type == mount.TypeVolume && nameless(m.Name) {
				d.anonymous.names[m.Name] = true
			}
		}
	}
}

// labelAnonymous is what Docker from 23 on gives a volume that it has named itself.
const labelAnonymous = "com.docker.volume.anonymous"

// has reports whether a volume is one of the run's. One that is older than the Deployer
// is not, whichever container mounted it, nor is one with labels of its own.
func (a *anonymous) has(v *volume.Volume) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	made, err := time.Parse(time.RFC3339, v.CreatedAt) // whole seconds
	own := maps.Clone(v.Labels)
	delete(own, labelAnonymous)
	return err == nil && a.names[v.Name] && len(own) == 0 && !made.Before(a.since.Truncate(time.Second))
}

// nameless reports whether the daemon chose a volume's name.
func nameless(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}
