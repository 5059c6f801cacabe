package swarm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// killTree kills a process of a container on this host, and its descendants. It
// refuses a process whose control group is not the container's: numbers are
// reused, and those of a daemon on another host mean nothing here.
func killTree(pid int, containerID string) error {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has ended
	}
	if err != nil {
		return err
	}
	if containerID == "" || !strings.Contains(string(groups), containerID) {
		return fmt.Errorf("process %d is not one of the container", pid)
	}
	children := map[int][]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	for _, path := range stats {
		if child, parent, ok := parentOf(path); ok {
			children[parent] = append(children[parent], child)
		}
	}
	for todo := []int{pid}; len(todo) > 0; {
		next := todo[0]
		todo = append(todo[1:], children[next]...)
		if err := syscall.Kill(next, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("killing process %d: %w", next, err)
		}
	}
	return nil
}

// parentOf reads "pid (name) state ppid …"; the name may hold anything.
func parentOf(path string) (pid, parent int, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	line := string(text)
	open, end := strings.IndexByte(line, ' '), strings.LastIndexByte(line, ')')
	if open < 0 || end < 0 {
		return 0, 0, false
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 2 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(line[:open])
	parent, err2 := strconv.Atoi(fields[1])
	return pid, parent, err1 == nil && err2 == nil
}
