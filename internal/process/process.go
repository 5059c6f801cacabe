// Package process tells a process from a later one that got its number.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process names a process beyond the reuse of its number and beyond reboots. The zero
// value is no process.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot
	Boot  string `json:"boot"`  // the kernel's identifier of this boot
}

// Of describes a living process; the zero Process when there is none.
func Of(pid int) Process {
	start, zombie, err := readStat(pid)
	if err != nil || zombie {
		return Process{}
	}
	return Process{PID: pid, Start: start, Boot: bootID()}
}

// Alive reports whether this very process still runs. A zombie does not.
func (p Process) Alive() bool { return p.PID != 0 && Of(p.PID) == p }

// Signal sends a signal to this very process, and to none when it has ended.
func (p Process) Signal(s os.Signal) error {
	// What is found is held by a descriptor: after the look, the signal cannot reach
	// another process that got its number. Kernels before Linux 5.4 have no such descriptors.
	found, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	defer found.Release()
	if !p.Alive() {
		return nil
	}
	if err := found.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// readStat reads the start time, field 22 of /proc/PID/stat, and whether the
// process is a zombie; see proc(5). The name in field 2 may hold anything, so
// fields are counted after its last parenthesis.
func readStat(pid int) (start uint64, zombie bool, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false, err
	}
	return parseStat(data)
}

func parseStat(data []byte) (start uint64, zombie bool, err error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, false, fmt.Errorf("reading a process's state: no name in %q", data)
	}
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 20 {
		return 0, false, fmt.Errorf("reading a process's state: %d fields after the name", len(fields))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return start, fields[0][0] == 'Z' || fields[0][0] == 'X', err
}
