package localengine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

const (
	jobFile   = "job.json"
	stateFile = "state.json"
	logFile   = "log"
	newPrefix = ".new-" // a build's directory before it is complete
)

// finish moves the state to done.
func (s *state) finish(ending ccci.Ending, exitCode int, now time.Time) {
	s.State, s.Ending, s.ExitCode, s.Finished = ccci.BuildDone, ending, exitCode, now.UTC()
	s.Process = process.Process{}
}

// create writes the build's directory, complete or not at all.
func (b *build) create() error {
	parent := filepath.Dir(b.dir)
	tmp := filepath.Join(parent, newPrefix+filepath.Base(b.dir))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o750); err != nil {
		return err
	}
	for name, v := range map[string]any{jobFile: b.job, stateFile: b.state, logFile: nil} {
		var data []byte
		if v != nil {
			var err error
			if data, err = json.MarshalIndent(v, "", "  "); err != nil {
				return err
			}
		}
		if err := writeSynced(filepath.Join(tmp, name), data); err != nil {
			return err
		}
	}
	if err := errors.Join(syncDir(tmp), os.Rename(tmp, b.dir)); err != nil {
		return err
	}
	return syncDir(parent)
}

// save replaces state.json in one step, and then the state in memory. After an
// error neither has changed.
func (b *build) save(next state) error {
	if err := b.replace(stateFile, next); err != nil {
		return err
	}
	b.state = next
	return syncDir(b.dir)
}

// raise gives the job that the harness reads its attempt.
func (b *build) raise(attempt int) error {
	job := b.job
	job.Attempt = attempt
	if err := b.replace(jobFile, job); err != nil {
		return err
	}
	b.job = job
	return syncDir(b.dir)
}

// replace writes a file of the build's in one step.
func (b *build) replace(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, name)
	if err := writeSynced(path+".new", data); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads all builds of Options.Dir into memory.
func (e *Engine) load() error {
	entries, err := os.ReadDir(e.opts.Dir)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "reading the engine's directory %s: %w", e.opts.Dir, err)
	}
	for _, entry := range entries {
		dir := filepath.Join(e.opts.Dir, entry.Name())
		if strings.HasPrefix(entry.Name(), newPrefix) { // its Start never returned
			if err := os.RemoveAll(dir); err != nil {
				return ccci.Errorf(ccci.CodeInfra, "removing the half-made build %s: %w", dir, err)
			}
			continue
		}
		if !entry.IsDir() {
			continue
		}
		b, err := loadBuild(dir)
		if errors.Is(err, fs.ErrNotExist) {
			e.opts.Logger.Warn("a directory in the engine's queue is not a build; ignored", "dir", dir)
			continue
		}
		if err != nil {
			return ccci.Errorf(ccci.CodeInfra, "reading the build in %s: %w", dir, err).
				WithHint("move that directory out of the queue; the run it belongs to will be started again")
		}
		e.builds[b.state.Ref] = b
		e.lastSeq = max(e.lastSeq, b.state.Sequence)
		switch b.state.State {
		case ccci.BuildDone:
			close(b.done)
		case ccci.BuildRunning:
			e.orphans = append(e.orphans, b)
		default:
			e.queue = append(e.queue, b)
		}
	}
	slices.SortFunc(e.queue, byAsked)
	slices.SortFunc(e.orphans, bySequence)
	return nil
}

// byAsked is the order of the queue: first by when a build was asked for, then by when it came.
func byAsked(a, b *build) int {
	asked := func(b *build) time.Time {
		if b.job.Asked.IsZero() {
			return b.state.Created
		}
		return b.job.Asked
	}
	return cmp.Or(asked(a).Compare(asked(b)), bySequence(a, b))
}

// enqueue puts a build into its place among those that wait. e.mu is held.
func (e *Engine) enqueue(b *build) {
	at, _ := slices.BinarySearchFunc(e.queue, b, byAsked)
	e.queue = slices.Insert(e.queue, at, b)
}

func bySequence(a, b *build) int { return cmp.Compare(a.state.Sequence, b.state.Sequence) }

func loadBuild(dir string) (*build, error) {
	b := &build{dir: dir, done: make(chan struct{})}
	for name, v := range map[string]any{jobFile: &b.job, stateFile: &b.state} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, v); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if string(b.state.Ref) != filepath.Base(dir) {
		return nil, fmt.Errorf("%s names the build %q", stateFile, b.state.Ref)
	}
	return b, nil
}
