package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	units "github.com/docker/go-units"
)

// Limits are what runs may take of the machine, and what must be free for one to start.
type Limits struct {
	Memory          string `yaml:"memory" form:"size" doc:"Memory of all containers of a run together, as 6G. Default: three quarters of the machine's, divided by engine.capacity."`
	ContainerMemory string `yaml:"container_memory" form:"size" default:"2G" doc:"Memory of a container whose recipe states no limit; at most limits.memory. A recipe may state up to limits.memory."`
	CPUs            string `yaml:"cpus" doc:"Processors for all containers of a run together, as 1.5. Default: the machine's, divided by engine.capacity; with a capacity of 1 each container may use all."`
	Processes       int    `yaml:"processes" default:"1024" doc:"Processes and threads of a container whose recipe states no limit. A recipe may state four times as many."`
	Log             string `yaml:"log" form:"size" default:"20M" doc:"Disk for the log of one container; what is older is dropped."`
	Disk            string `yaml:"disk" form:"size" default:"20G" doc:"Disk for the volumes, containers and logs of a run together. A run that takes more fails."`
	FreeDisk        string `yaml:"free_disk" form:"size" default:"5G" doc:"No run starts while the disk of Docker or of the data folder has less free space. Queued runs wait. 0 turns this off, and the watch of the disks during a run."`
	FreeMemory      string `yaml:"free_memory" form:"size" default:"512M" doc:"No run starts while the machine has less available memory. Queued runs wait. 0 turns this off."`
}

// Size reads "512M" or "2G" into bytes; "" is 0.
func Size(text string) (int64, error) {
	if strings.TrimSpace(text) == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return n, nil
}

// Bytes is Size of a text that Read has checked.
func Bytes(text string) int64 {
	n, _ := Size(text)
	return n
}

// NanoCPUs is limits.cpus in billionths of a processor; 0 stands for the default.
func (l Limits) NanoCPUs() int64 {
	n, _ := strconv.ParseFloat(l.CPUs, 64) // finish has checked it
	return int64(n * 1e9)
}

func (c *Config) finishLimits(bad func(key, hint, format string, args ...any)) {
	const hint = "write a size as 512M or 6G"
	for _, size := range []struct {
		key, text string
		least     int64
		off       bool // 0 is for off
	}{
		{"memory", c.Limits.Memory, 256 << 20, false}, {"container_memory", c.Limits.ContainerMemory, 64 << 20, false}, {"log", c.Limits.Log, 64 << 10, false},
		{"disk", c.Limits.Disk, 100 << 20, false}, {"free_disk", c.Limits.FreeDisk, 100 << 20, true}, {"free_memory", c.Limits.FreeMemory, 16 << 20, true},
	} {
		n, err := Size(size.text)
		switch {
		case err != nil:
			bad("limits."+size.key, hint, "%v", err)
		case size.off && n == 0:
		case size.off && n < size.least:
			bad("limits."+size.key, hint+", or 0 to turn it off", "%s is less than %s", units.BytesSize(float64(n)), units.BytesSize(float64(size.least)))
		case size.text != "" && n < size.least:
			bad("limits."+size.key, hint, "%s is less than %s", size.text, units.BytesSize(float64(size.least)))
		}
	}
	// The default is lowered to what all containers have.
	if of, all := c.Limits.ContainerMemory, Bytes(c.Limits.Memory); all > 0 && Bytes(of) > all && of != Default().Limits.ContainerMemory {
		bad("limits.container_memory", "write at most what limits.memory says", "%s is more than all containers of a run have together: %s", of, c.Limits.Memory)
	}
	if n, err := strconv.ParseFloat(c.Limits.CPUs, 64); c.Limits.CPUs != "" && (err != nil || math.IsNaN(n) || n < 0.1 || n > 1024) {
		bad("limits.cpus", "write a number, as 1.5", "%q is not between 0.1 and 1024", c.Limits.CPUs)
	}
	if n := c.Limits.Processes; n < 32 || n > 1<<20 {
		bad("limits.processes", "", "%d is not between 32 and 1048576", n)
	}
}
