package swarm

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// memory samples what an app's containers use, in one goroutine from the first
// Deploy to Remove.
type memory struct {
	docker   *client.Client
	seen     func([]container.Summary) // is shown the containers of each sample
	interval time.Duration
	peak     atomic.Int64
	background
}

// PeakMemory is the highest sum, in bytes, over the app's containers that was seen
// since the first Deploy. Page cache that the kernel can drop is not counted.
func (d *Deployer) PeakMemory() int64 { return d.memory.peak.Load() }

func (m *memory) start(stack string) {
	m.background.start(func(ctx context.Context) {
		ticker := time.NewTicker(m.interval)
		defer ticker.Stop()
		for {
			if used := m.sample(ctx, stack); used > m.peak.Load() {
				m.peak.Store(used)
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}

// sample sums what the stack's containers use now. What cannot be read counts as
// nothing: a container may end at any moment.
func (m *memory) sample(ctx context.Context, stack string) int64 {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := m.docker.ContainerList(ctx, container.ListOptions{
		Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack)),
	})
	if err != nil {
		return 0
	}
	m.seen(list)
	var sum int64
	for _, c := range list {
		answer, err := m.docker.ContainerStatsOneShot(ctx, c.ID)
		if err != nil {
			continue
		}
		var stats container.StatsResponse
		if json.NewDecoder(answer.Body).Decode(&stats) == nil {
			sum += used(stats.MemoryStats)
		}
		answer.Body.Close()
	}
	return sum
}

// used is the memory that cannot be dropped: usage without the inactive page cache,
// which control groups report under one name in version 1 and another in 2.
func used(s container.MemoryStats) int64 {
	cache, ok := s.Stats["total_inactive_file"]
	if !ok {
		cache = s.Stats["inactive_file"]
	}
	if cache > s.Usage {
		return int64(s.Usage)
	}
	return int64(s.Usage - cache)
}
