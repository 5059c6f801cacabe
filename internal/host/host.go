// Package host makes the machine at hand able to run cc-ci, says what it does,
// and takes back what it started.
//
// It works as a reconciler: look, decide on one transition ([Facts] to action,
// pure), do it, look again, until there is nothing to do. It installs only where
// it may (root, a Debian relative, allowed by the caller); where something is missing and it may not,
// one error lists everything that is to be done.
package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options say what may be done. DataDir is needed.
type Options struct {
	DataDir      string            // where it is noted what was started, so that a later process can take it back
	AllowInstall bool              // packages may be installed
	Out          func(line string) // told what is being done, before it is done; may be nil
	System       System            // default this machine
}

// System is the machine.
type System interface {
	// Look observes everything. It is an error only when looking itself fails.
	Look(ctx context.Context) (Facts, error)
	// Install installs Debian packages, after one update of the lists per System.
	Install(ctx context.Context, packages []string) error
	// StartDocker starts the daemon and returns when it answers.
	StartDocker(ctx context.Context, dataDir string) (Daemon, error)
	// StopDocker ends a daemon that StartDocker started, perhaps in an earlier
	// process, and returns when it has ended. Legal when it is gone.
	StopDocker(ctx context.Context, daemon Daemon) error
	// Started reports whether that very process still runs.
	Started(daemon Daemon) bool
	// WriteTimezone writes /etc/timezone.
	WriteTimezone() error
	// InitSwarm makes a swarm of one node and returns its cluster's ID.
	InitSwarm(ctx context.Context) (string, error)
	// LeaveSwarm leaves the swarm unless services are left in it, and returns whether it left.
	LeaveSwarm(ctx context.Context) (bool, error)
	// Self identifies this process; Started tells whether it runs.
	Self() Daemon
	// Client returns a client of the daemon. The caller closes it.
	Client() (*client.Client, error)
}

// Daemon identifies a Docker daemon that was started here. The zero value is none.
type Daemon struct {
	PID     int    `json:"pid,omitempty"`
	Start   string `json:"start,omitempty"`   // when the process began, as the kernel counts; PIDs are used again
	Systemd bool   `json:"systemd,omitempty"` // started through systemd
}

// record is what is noted in DataDir.
type record struct {
	Owner  Daemon `json:"owner,omitzero"` // the cc-ci that will take it back
	Daemon Daemon `json:"daemon,omitzero"`
	Swarm  string `json:"swarm,omitempty"` // cluster ID of the swarm that was made
}

// Host is a machine that can run cc-ci.
type Host struct {
	Docker   *client.Client
	Restic   string // path of the program
	Chromium string // path of the program
	Git      string // path of the program
	Done     []string

	system System
	dir    string
	out    func(string)
	rec    record
	closed bool
}

// maxSteps is more than there are transitions: more means that one does not help.
const maxSteps = 8

// Ensure makes the machine ready. On an error what it had started is taken back.
// What cannot be mended is one Error with CodeInfra whose hint lists all
// commands to run. What an earlier process of this DataDir started and left behind (it was killed) is
// taken over.
func Ensure(ctx context.Context, opts Options) (*Host, error) {
	if opts.DataDir == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "preparing this machine: no data directory is given")
	}
	if opts.System == nil {
		opts.System = NewSystem()
	}
	if opts.Out == nil {
		opts.Out = func(string) {}
	}
	h := &Host{system: opts.System, dir: opts.DataDir, out: opts.Out}
	var err error
	if h.rec, err = readRecord(opts.DataDir); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "reading what was started before: %w", err)
	}
	if h.rec.Owner != h.system.Self() && h.system.Started(h.rec.Owner) {
		h.rec = record{} // somebody else's, who is alive
	}
	facts, err := h.reconcile(ctx, opts.AllowInstall)
	if err == nil {
		h.forgetGone(facts)
		h.Docker, err = opts.System.Client()
	}
	if err == nil {
		err = h.note()
	}
	if err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, h.Close(after))
	}
	h.Restic, h.Chromium, h.Git = facts.Restic, facts.Chromium, facts.Git
	return h, nil
}

// reconcile goes from transition to transition and returns the last facts.
func (h *Host) reconcile(ctx context.Context, mayInstall bool) (Facts, error) {
	var last action
	for range maxSteps {
		facts, err := h.system.Look(ctx)
		if err != nil {
			return Facts{}, ccci.Errorf(ccci.CodeInfra, "looking at this machine: %w", err).WithHint("%s", ccci.HintOf(err))
		}
		next, err := decide(facts, mayInstall)
		if err != nil || next.kind == nothing {
			return facts, err
		}
		if next.kind == last.kind {
			return Facts{}, ccci.Errorf(ccci.CodeInfra, "%s did not help", next)
		}
		h.out(next.String())
		if err := h.do(ctx, next); err != nil {
			return Facts{}, ccci.Errorf(ccci.CodeInfra, "%s: %w", next, err).WithHint("%s", ccci.HintOf(err))
		}
		h.Done = append(h.Done, next.String())
		last = next
	}
	return Facts{}, ccci.Errorf(ccci.CodeInfra, "this machine does not become ready in %d steps", maxSteps)
}

// do makes one transition. What is to be taken back is noted at once.
func (h *Host) do(ctx context.Context, a action) (err error) {
	switch a.kind {
	case install:
		return h.system.Install(ctx, a.packages)
	case writeTimezone:
		return h.system.WriteTimezone()
	case startDocker:
		h.rec.Daemon, err = h.system.StartDocker(ctx, h.dir)
	case initSwarm:
		h.rec.Swarm, err = h.system.InitSwarm(ctx)
	default:
		return fmt.Errorf("unknown step %q", a.kind)
	}
	return errors.Join(err, h.note())
}

// note writes down what Close has to take back. Where that is nothing, the file of
// another process is left alone.
func (h *Host) note() error {
	if h.rec.Swarm == "" && h.rec.Daemon == (Daemon{}) {
		if h.rec.Owner == (Daemon{}) {
			return nil
		}
		h.rec.Owner = Daemon{}
		return writeRecord(h.dir, h.rec)
	}
	h.rec.Owner = h.system.Self()
	return writeRecord(h.dir, h.rec)
}

// forgetGone drops from the record what an earlier process started and is not
// there any more: another swarm, a daemon that ended.
func (h *Host) forgetGone(f Facts) {
	if h.rec.Swarm != f.Swarm.Cluster {
		h.rec.Swarm = ""
	}
	if !h.system.Started(h.rec.Daemon) {
		h.rec.Daemon = Daemon{}
	}
}

// MadeSwarm reports whether Close will leave the swarm.
func (h *Host) MadeSwarm() bool { return h.rec.Swarm != "" }

// StartedDocker reports whether Close will stop the daemon.
func (h *Host) StartedDocker() bool { return h.rec.Daemon != Daemon{} }

// Close takes back what Ensure started: a swarm that it made, if no service is
// left in it, and a daemon that it started. Packages stay. It is idempotent; after
// an error it can be called again.
func (h *Host) Close(ctx context.Context) error {
	if h.Docker != nil && !h.closed {
		_ = h.Docker.Close()
		h.closed = true
	}
	if h.rec == (record{}) {
		return nil
	}
	// A swarm that somebody has come to use stays, and so does its daemon.
	if h.rec.Swarm != "" {
		left, err := h.system.LeaveSwarm(ctx)
		if err != nil {
			return ccci.Errorf(ccci.CodeInfra, "leaving the swarm that was made: %w", err)
		}
		if !left {
			h.out("leaving the swarm as it is, because services run in it")
			h.rec.Swarm, h.rec.Daemon = "", Daemon{}
			return h.note()
		}
		h.out("left the swarm that was made")
		h.rec.Swarm = ""
	}
	if h.rec.Daemon != (Daemon{}) {
		h.out("stopping Docker, which was started")
		if err := h.system.StopDocker(ctx, h.rec.Daemon); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "stopping Docker: %w", err)
		}
		h.rec.Daemon = Daemon{}
	}
	return h.note()
}
