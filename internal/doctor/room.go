package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/docker/docker/client"
	units "github.com/docker/go-units"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// Room is what a machine has, in bytes.
type Room struct {
	Memory int64            // 0 when unknown
	Disks  map[string]int64 // sizes of the disks on which the folders of these names are, or will be
}

// RoomOf measures this machine. In dirs "" stands for where Docker keeps its data.
func RoomOf(ctx context.Context, dirs ...string) Room {
	room := Room{Disks: map[string]int64{}}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		room.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	for _, dir := range dirs {
		if dir == "" {
			dir = dockerRoot(ctx)
		}
		var s unix.Statfs_t
		if unix.Statfs(existing(dir), &s) == nil {
			room.Disks[dir] = int64(s.Blocks) * s.Bsize
		}
	}
	return room
}

func dockerRoot(ctx context.Context) string {
	const usual = "/var/lib/docker"
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return usual
	}
	defer docker.Close()
	if info, err := docker.Info(ctx); err == nil && info.DockerRootDir != "" {
		return info.DockerRootDir
	}
	return usual
}

// Limits compares the limits with what the machine has: with some no run ever starts, and others
// bound nothing. The configuration alone cannot tell, since it may be checked on another machine.
func Limits(l config.Limits, capacity int, measure func(context.Context) Room) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		const name = "limits"
		room := measure(ctx)
		runs := "one run"
		if capacity > 1 {
			runs = fmt.Sprintf("each of %d runs at a time", capacity)
		}
		size := func(n int64) string { return units.BytesSize(float64(n)) }
		var all []ccci.Diagnosis
		add := func(key string, warning bool, hint, format string, args ...any) {
			all = append(all, ccci.Diagnosis{Check: name + ": " + key, Code: ccci.CodeInvalid, Warning: warning, Message: "limits." + key + " " + fmt.Sprintf(format, args...), Hint: hint})
		}
		for _, dir := range slices.Sorted(maps.Keys(room.Disks)) {
			if has := room.Disks[dir]; config.Bytes(l.FreeDisk) > has {
				add("free_disk", false, "write less, or 0 to turn it off", "is %s, and the whole disk of %s has %s: no run ever starts", l.FreeDisk, dir, size(has))
			}
		}
		if room.Memory > 0 {
			if config.Bytes(l.FreeMemory) > room.Memory {
				add("free_memory", false, "write less, or 0 to turn it off", "is %s, and the machine has %s of memory: no run ever starts", l.FreeMemory, size(room.Memory))
			}
			if config.Bytes(l.Memory) > room.Memory/int64(max(capacity, 1)) {
				add("memory", true, "write less, or leave it out: three quarters of the machine's are divided among the runs", "is %s for %s, and the machine has %s: runs may take all of it",
					l.Memory, runs, size(room.Memory))
			}
			if config.Bytes(l.ContainerMemory) > room.Memory && l.ContainerMemory != config.Default().Limits.ContainerMemory {
				add("container_memory", true, "write less", "is %s, and the machine has %s", l.ContainerMemory, size(room.Memory))
			}
		}
		if len(all) == 0 {
			return []ccci.Diagnosis{Well(name, "they fit this machine")}
		}
		return all
	}
}
