// Package headroom looks whether a machine has enough free disk and memory for another run.
package headroom

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	units "github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Needs are what must be free. A need of 0 is none.
type Needs struct {
	Dirs   []string // whose disks are looked at; one that is not there is left out
	Disk   int64    // bytes that an unprivileged process can still write to each
	Memory int64    // bytes that the kernel can give without swapping
}

// State is what is free.
type State struct {
	Disk   int64 // bytes, of the disk with least free space; -1 when none can be looked at
	Memory int64 // bytes; -1 when unknown
	// Short says in one sentence what is missing, "" when nothing is.
	Short string
}

// meminfo is where the kernel says how much memory is available.
var meminfo = "/proc/meminfo"

// Look looks at the machine. It costs microseconds and never fails: what cannot be
// looked at is not missing.
func (n Needs) Look() State {
	s := State{Disk: -1, Memory: availableMemory()}
	fullest := ""
	for _, dir := range n.Dirs {
		free, few, err := freeDisk(dir)
		if err == nil && (s.Disk < 0 || free < s.Disk) {
			s.Disk, fullest = free, dir
		}
		if err == nil && few && n.Disk > 0 {
			s.Short = fmt.Sprintf("the disk of %s has hardly any inodes free, so that few files can be made", dir)
		}
	}
	switch {
	case s.Disk >= 0 && s.Disk < n.Disk:
		s.Short = fmt.Sprintf("the disk of %s has %s free, and at least %s are needed", fullest, size(s.Disk), size(n.Disk))
	case s.Memory >= 0 && s.Memory < n.Memory:
		s.Short = fmt.Sprintf("%s of memory are available, and at least %s are needed", size(s.Memory), size(n.Memory))
	}
	return s
}

// Short is Look's sentence alone.
func (n Needs) Short() string { return n.Look().Short }

// Free returns the bytes that an unprivileged process can still write to the disk of a
// directory, -1 when that is unknown.
func Free(dir string) int64 {
	free, _, err := freeDisk(dir)
	if err != nil {
		return -1
	}
	return free
}

func size(n int64) string { return units.BytesSize(float64(n)) }

// freeDisk is what is free on the disk of a folder, and whether few inodes are: less than 2 in 100.
func freeDisk(dir string) (free int64, few bool, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, false, err
	}
	return int64(fs.Bavail) * fs.Bsize, fewInodes(fs.Files, fs.Ffree), nil
}

// fewInodes reports false where a disk makes inodes as it needs them, and says 0.
func fewInodes(all, free uint64) bool { return free < all/50 }

func availableMemory() int64 {
	f, err := os.Open(meminfo)
	if err != nil {
		return -1
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	return -1
}
