package harness

import (
	"context"
	"io"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Deployer drives the place where apps run. One Deployer serves one run; its
// methods are called one after the other, except Prepare and Exceeded.
// The conformance suite is internal/deploy/deploytest.
type Deployer interface {
	// Snapshot lists every object of the daemon that could be left over: services,
	// containers, networks, volumes, secrets and configs.
	Snapshot(ctx context.Context) (Snapshot, error)

	// Prepare makes what all apps of the run use, before the first of them; that takes about a
	// second. It may be left out, called twice, and run beside any method but Remove. Deploy makes what
	// it could not, and says why that fails; Remove of the run removes it.
	Prepare(ctx context.Context)

	// Pull makes every image of the stack present, and reports what they are. Deploy runs
	// these very images, also when their tags are moved meanwhile. An image that cannot be
	// had is an Error (CodeRecipe when the registry says it does not exist, CodeInfra
	// otherwise) that names service and reference.
	Pull(ctx context.Context, stack *recipe.Stack) ([]ccci.Image, error)

	// New creates the app: its generated secrets with values. Creating an app
	// whose objects exist is an Error with CodeConflict, a value for a secret that the
	// stack does not have one with CodeInvalid; nothing is created then.
	New(ctx context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error

	// AddSecrets creates the stack's secrets that are not there yet, as an operator does
	// before an upgrade that needs new ones. It refuses values as New does.
	AddSecrets(ctx context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error

	// Limits says, without a change, what each service of the stack may use, by its key, and
	// in sentences what Deploy lowers of what the recipe states. An app that does not
	// fit is an Error with CodeRecipe.
	Limits(ctx context.Context, stack *recipe.Stack) (effective map[string]string, lowered []string, err error)

	// Deploy needs the images of Pull. It creates or updates networks, configs and services, and waits until all have
	// converged on this very stack: every task healthy and of the current spec, no older
	// task alive, stable for several looks. It fails early, with CodeRecipe,
	// on rejected tasks, restart loops, paused and rolled back updates, with the task's
	// own words and its last log lines in an *DeployError. An end beside a service that has just
	// started is no part of a loop: the app may wait for it. Services that the stack
	// no longer has are removed. One with 0 replicas has converged when none of its
	// tasks is alive: so an app is stopped.
	Deploy(ctx context.Context, stack *recipe.Stack) error

	// Converge waits, like Deploy, for what is deployed, without changing it.
	Converge(ctx context.Context, stack *recipe.Stack) error

	// Settle waits like Converge, and until the
	// daemon has stopped monitoring the last update: what it accepts is not rolled back any more.
	// A service that ended by itself before, and is not meant to, must run for longer than it did
	// then, and one without a healthcheck for some seconds; one that ends again fails as in Deploy.
	Settle(ctx context.Context, stack *recipe.Stack) error

	// Label returns a label of a deployed service, as the daemon reports it.
	Label(ctx context.Context, stack *recipe.Stack, service, label string) (string, error)

	// Exec runs a command in the newest running container of a service, waiting for
	// one when it is between tasks. A non-zero exit is in ExecResult, not an error.
	Exec(ctx context.Context, stack *recipe.Stack, cmd ExecCmd) (ExecResult, error)

	// Dial connects to a port of a service inside the app's own networks.
	Dial(ctx context.Context, stack *recipe.Stack, service string, port int) (io.ReadWriteCloser, error)

	// CopyIn writes files (paths are absolute within the service's container) and
	// CopyOut reads one of at most limit bytes. Both work in the named volume that is mounted
	// there; a path in none is an Error with CodeInvalid. A link is not followed. What the app has in the
	// place of a file (a folder, a device, a pipe, a link, a larger file) is an Error with
	// CodeRecipe. Both wait, as Exec does, for a container of a service that has tasks.
	CopyIn(ctx context.Context, stack *recipe.Stack, service string, files map[string][]byte) error
	CopyOut(ctx context.Context, stack *recipe.Stack, service, path string, limit int64) ([]byte, error)

	// Logs reads the logs of all containers of the app, ended ones too, from their first
	// byte: one service after the other, by name, and of each one container after the other,
	// oldest first. take gets them piece by piece, as the app wrote them: without
	// timestamps, and without regard to where the daemon cuts them. Memory does not
	// grow with the log. An error of take ends the reading and is returned.
	Logs(ctx context.Context, stack *recipe.Stack, take func(LogPiece) error) error

	// PeakMemory is the highest sum, in bytes, over the app's containers that was
	// sampled since the first Deploy.
	PeakMemory() int64

	// Exceeded delivers, at most once, an Error with CodeRecipe when the run takes more of
	// the disk than it may, or one with CodeInfra when the machine's disk is nearly full. It is
	// nil when nothing is measured.
	Exceeded() <-chan error

	// Remove removes everything that carries the app's name or label: services, containers, networks,
	// configs, secrets, volumes. It does not wait for swarm's own slow stop where
	// that is safe. It is idempotent, legal before New and after any failure, and
	// returns only when the daemon has none of it any more, or an error that names what stays.
	Remove(ctx context.Context, app App) (map[string]int, error)
}

// App names an app apart from any version of its recipe, so that it can be
// removed without its files.
type App struct {
	RunID     ccci.RunID
	StackName string
	// Names are further exact object names that the stacks of this run declared:
	// volumes with a name of their own, secrets, configs, networks. An unlabelled object of
	// such a kind and name is removed, so that no name may be among them that the daemon had before the run.
	Names []string
}

// Object is one object of the daemon.
type Object struct {
	Kind  string `json:"kind"` // service, container, network, volume, secret, config
	ID    string `json:"id"`
	Name  string `json:"name"`
	Stack string `json:"stack,omitempty"` // com.docker.stack.namespace, "" without
	Run   string `json:"run,omitempty"`   // label cc-ci.run, "" without
}

// Snapshot is a list of objects at one moment.
type Snapshot []Object

// ExecCmd is a command for [Deployer.Exec].
type ExecCmd struct {
	Service string
	Args    []string
	User    string // "" for the container's own
	Env     []string
	Stdin   []byte
	Timeout time.Duration // 0: until ctx ends
}

// ExecResult is how a command ended.
type ExecResult struct {
	ExitCode       int
	Stdout, Stderr []byte // at most 1 MiB each; the rest is dropped
}

// LogPiece is a part of one container's log.
type LogPiece struct {
	Service   string // key in the compose file
	Container string // id
	Stderr    bool
	Text      []byte // valid until take returns; may end anywhere

	// Err says that the container's log, or the rest of it, cannot be read: with CodeRecipe
	// where the service's logging driver keeps none. Text is empty then.
	Err error
	// Rotated, in the last piece of a container, says that the beginning of the log may
	// have been rotated away.
	Rotated bool
}

// TaskFailure is one task's own account of why it is not running.
type TaskFailure struct {
	Service string
	State   string   // rejected, failed, …
	Message string   // the task's own words (Status.Err), or the exit code
	Log     []string // its last lines, at most 20, whole ones, of at most 64 KiB
}

// DeployError says why a deployment did not converge.
type DeployError struct {
	Err    *ccci.Error // never nil
	Reason string      // "rejected", "restart-loop", "rollback", "paused", "timeout", "unhealthy"
	Tasks  []TaskFailure
}

func (e *DeployError) Error() string { return e.Err.Message }

// Unwrap lets errors.As find the classified error.
func (e *DeployError) Unwrap() error { return e.Err }
