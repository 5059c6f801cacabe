package box

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	// logWindow is how long the growth of logs is watched.
	logWindow = 500 * time.Millisecond
	// logEvery is the time between two readings. A log that is replaced twice within it counts once.
	logEvery = 10 * time.Millisecond
)

// LogDir is where a container that measures has Docker's directory of containers.
const LogDir = "/logs"

// logFile is the file that a container's log driver writes.
type logFile struct {
	id, path string
	file     *os.File // nil while there is none
	size     int64    // of file at the last reading
	grown    int64
}

// logRates prints a line "log <bytes per second> <id>" for each container of Docker's directory dir:
// what its log driver, json-file or local, has written within window. The drivers replace a
// full file, so that the size of the files says nothing about it.
func logRates(ctx context.Context, dir string, ids []string, window time.Duration, out io.Writer) error {
	var logs []*logFile
	defer func() {
		for _, l := range logs {
			l.close()
		}
	}()
	for _, id := range ids {
		for _, name := range []string{id + "-json.log", filepath.Join("local-logs", "container.log")} {
			l := &logFile{id: id, path: filepath.Join(dir, id, name)}
			l.open()
			if l.file != nil {
				l.grown = 0 // what was there before
				logs = append(logs, l)
			}
		}
	}
	started := time.Now()
	for tick := time.NewTicker(logEvery); time.Since(started) < window; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		for _, l := range logs {
			l.read()
		}
	}
	took := time.Since(started)
	for _, l := range logs {
		fmt.Fprintf(out, "log %d %s\n", int64(float64(l.grown)/took.Seconds()), l.id)
	}
	return nil
}

func (l *logFile) close() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// open opens the file that has the log's name now. All that is in it counts as new.
func (l *logFile) open() {
	l.close()
	file, err := os.Open(l.path)
	if err != nil { // the container has gone, or its log has another driver
		return
	}
	l.file, l.size = file, 0
	l.grow()
}

// grow adds what the open file has gained. A driver with one file truncates it.
func (l *logFile) grow() {
	now, err := l.file.Stat()
	if err != nil {
		return
	}
	if now.Size() < l.size {
		l.size = 0
	}
	l.grown += now.Size() - l.size
	l.size = now.Size()
}

func (l *logFile) read() {
	if l.file != nil {
		l.grow()
		open, err := l.file.Stat()
		named, errNamed := os.Stat(l.path)
		if err == nil && errNamed == nil && os.SameFile(open, named) {
			return
		}
	}
	l.open()
}
