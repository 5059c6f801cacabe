package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

// Slot is one of a machine's places for runs. An engine that cannot see when a
// harness has torn down (Drone frees its own slot at a cancellation) lets each
// harness take one, so that the next run begins after the former's teardown (A15).
// Kernel locks hold it: it is free when its process ends, however that happens.
type Slot struct{ presence, place *flock.Flock }

// Presence is what a machine knows about the process of a run that takes slots.
type Presence int

const (
	Absent  Presence = iota // there is none
	Waiting                 // it waits for a slot
	Working                 // it has one
)

const (
	slotEvery = 20 * time.Millisecond
	holdEvery = time.Second // between two questions whether the machine can carry a run
)

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// LockSlot waits for one of the slots of dir, for another process of the same run to end,
// and for hold, when it is given, to return no reason to wait. say is given each new
// reason. The slot lasts until Release or the end of this process.
func LockSlot(ctx context.Context, dir string, run ccci.RunID, capacity int, hold func() string, say func(reason string)) (*Slot, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("waiting for a free slot: %w", context.Cause(ctx))
	}
	presence, err := slotFile(dir, string(run)+".process")
	if err != nil {
		return nil, err
	}
	if ok, err := presence.TryLockContext(ctx, slotEvery); err != nil || !ok {
		return nil, fmt.Errorf("waiting for another process of run %s: %w", run, why(ctx, err))
	}
	_ = writeOwn(presence.Path(), nil) // what a process that was killed has left
	tick := time.NewTicker(slotEvery)
	defer tick.Stop()
	held := ""
	for {
		if hold != nil {
			if why := hold(); why != "" {
				if held == "" {
					say(why)
				}
				held = why
				if err := rest(ctx, holdEvery); err != nil {
					presence.Unlock()
					return nil, fmt.Errorf("waiting for a free slot: %w", err)
				}
				continue
			}
			held = ""
		}
		place, _, err := lockFree(dir, "slot", max(capacity, 1))
		if err != nil {
			presence.Unlock()
			return nil, err
		}
		if place != nil {
			self := process.Of(os.Getpid())
			// The presence's file says which kind it is; it means something while locked.
			if err := writeOwn(presence.Path(), fmt.Appendf(nil, workingFormat, self.PID, self.Start, self.Boot)); err != nil {
				place.Unlock()
				presence.Unlock()
				return nil, ccci.Errorf(ccci.CodeInfra, "writing down that run %s has a slot: %w", run, err)
			}
			return &Slot{presence, place}, nil
		}
		select {
		case <-ctx.Done():
			presence.Unlock()
			return nil, fmt.Errorf("waiting for a free slot: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// LockPart takes one of n parts of a machine that has all runs of dir, for as long as the
// process lives or until release. It returns its number from 0, or -1 when other runs have all.
func LockPart(dir string, n int) (part int, release func(), err error) {
	lock, part, err := lockFree(dir, "part", n)
	if lock == nil {
		return -1, func() {}, err
	}
	return part, func() { lock.Unlock() }, nil
}

// lockFree locks the first of n files of a kind that no process has locked. It returns a nil lock
// where there is none.
func lockFree(dir, kind string, n int) (lock *flock.Flock, i int, err error) {
	for i := range n {
		lock, err := slotFile(dir, fmt.Sprintf("%s-%d", kind, i))
		if err != nil {
			return nil, -1, err
		}
		ok, err := lock.TryLock()
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, -1, ccci.Errorf(ccci.CodeInfra, "taking a %s: %w", kind, err).WithHint("check that %s is writable", dir)
		}
		if ok {
			return lock, i, nil
		}
	}
	return nil, -1, nil
}

const (
	working       = "working"
	workingFormat = working + " %d %d %s" // a process.Process
)

func why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Release frees the slot. Legal twice.
func (s *Slot) Release() {
	_ = writeOwn(s.presence.Path(), nil)
	s.place.Unlock()
	s.presence.Unlock()
}

// LookForRun says whether the process of a run that takes slots lives here.
func LookForRun(dir string, run ccci.RunID) (Presence, error) {
	presence, _, err := lookForRun(dir, run)
	return presence, err
}

// EndRun asks the process of a run that has a slot here to tear down and end, or
// kills it, so that its app is the janitor's. Legal where there is none. A process that
// only has the number that was written down is left alone.
func EndRun(dir string, run ccci.RunID, kill bool) error {
	presence, p, err := lookForRun(dir, run)
	if err != nil || presence != Working {
		return err
	}
	signal := syscall.SIGTERM
	if kill {
		signal = syscall.SIGKILL
	}
	if err := p.Signal(signal); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "sending %s to the process %d of run %s: %w", signal, p.PID, run, err)
	}
	return nil
}

// lookForRun also returns the process while it has a slot; the zero Process, to which no signal
// is sent, when an earlier version wrote it down without its start.
func lookForRun(dir string, run ccci.RunID) (Presence, process.Process, error) {
	var p process.Process
	path := filepath.Join(dir, string(run)+".process.lock")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Absent, p, nil
	}
	// A shared lock: it shows that nobody holds the other kind, and many may look at once.
	file := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := file.TryRLock()
	if err != nil {
		return Absent, p, ccci.Errorf(ccci.CodeInfra, "looking for the process of run %s: %w", run, err)
	}
	if free {
		file.Unlock()
		return Absent, p, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Absent, p, ccci.Errorf(ccci.CodeInfra, "looking for the process of run %s: %w", run, err)
	}
	if !strings.HasPrefix(string(text), working) {
		return Waiting, p, nil
	}
	if _, err := fmt.Sscanf(string(text), workingFormat, &p.PID, &p.Start, &p.Boot); err != nil {
		p = process.Process{}
	}
	return Working, p, nil
}

func slotFile(dir, name string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the lock folder: %w", err).WithHint("check that %s is writable", dir)
	}
	return ownLock(filepath.Join(dir, name+".lock")), nil
}

// writeOwn replaces the text of a file that is there; like ownLock it follows no link.
func writeOwn(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
