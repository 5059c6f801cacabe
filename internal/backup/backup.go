package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Options say where and how backups are made. Docker, Box, RunID and Exec are needed.
type Options struct {
	Docker *client.Client
	Box    string // reference of the helper image, see package box
	RunID  ccci.RunID

	// Exec runs a command in a service of the app, as harness.Deployer does.
	Exec func(ctx context.Context, cmd harness.ExecCmd) (harness.ExecResult, error)

	// Creating sends a request to create an object, of kind "container" or "volume", and returns its error. Its ctx ends
	// after createLimit, whatever becomes of the run: a container that came later would hold the volume that Close removes.
	// What removes the objects of the run must outlive a request that had no answer then. Default: sends it.
	Creating func(ctx context.Context, kind, name string, request func(context.Context) error) error

	Repo     Repo
	Password ccci.Secret // of the repository; default a random one, good for a new repository only
	NanoCPUs int64       // of restic's container, in billionths of a processor; 0 is for all
	Logger   *slog.Logger
	Now      func() time.Time // default time.Now
}

// Repo says where the restic repository is. The zero value is a volume that
// [Backup.Open] makes and [Backup.Close] removes. What the caller names is
// kept; a repository that is there is used.
type Repo struct {
	Volume string // a volume of the daemon
	Dir    string // or a directory of the host, absolute; its files will belong to the daemon's root
}

// Snapshot is one backup.
type Snapshot struct {
	ID      string // restic's own, full
	Started time.Time
	Tags    []string
	Files   int   // files that were looked at
	Bytes   int64 // their sum
}

// HookError says that a hook did not succeed.
type HookError struct {
	Err      *ccci.Error // with CodeRecipe
	Phase    string      // "backup pre-hook", "backup post-hook", "restore pre-hook" or "restore post-hook"
	Hook     Hook
	ExitCode int
	Output   string // the end of what it printed, at most 2000 bytes
}

func (e *HookError) Error() string { return e.Err.Error() }

// Unwrap lets errors.As find the classified error.
func (e *HookError) Unwrap() error { return e.Err }

// Lines implements what harness.Backup says of programs that fail.
func (e *HookError) Lines() []string {
	lines := strings.Split(strings.TrimSpace(e.Output), "\n")
	return lines[max(0, len(lines)-hookLines):]
}

// hookLines is how much of a hook's output is shown, from its end.
const hookLines = 20

// postHookLimit bounds post-hooks that run although the caller has given up:
// they bring an app back that a pre-hook stopped.
const postHookLimit = time.Minute

// Backup makes and restores snapshots for one run. Its methods are safe for
// concurrent use; they wait for each other.
type Backup struct {
	opts Options

	mu        sync.Mutex
	plan      Plan
	opened    bool   // the repository is ready
	container string // holds the repository and what use says
	use       use
	ahead     *ahead // the container of the next volume to restore, nil when none was begun
	ownVolume string
	closed    bool

	listed  string   // the snapshot that was listed last
	special []string // what it has that is neither file nor folder
}

// New makes a Backup. It touches nothing until [Backup.Open].
func New(opts Options) *Backup {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Creating == nil {
		opts.Creating = awaited
	}
	if opts.Password.Reveal() == "" {
		opts.Password = ccci.NewSecret(rand.Text())
	}
	return &Backup{opts: opts}
}

// Open makes the repository ready, which costs seconds of CPU, and sets the plan. It
// needs nothing of the app, so call it early and at the side of other work;
// Create waits for it. Calling it again only changes the plan. Trouble is an Error with CodeInfra.
func (b *Backup) Open(ctx context.Context, plan Plan) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ccci.Errorf(ccci.CodeInfra, "opening the backup of %s: it is closed", plan.Stack)
	}
	if err := b.setPlan(ctx, plan); err != nil {
		return err
	}
	return b.openLocked(ctx)
}

// setPlan takes another plan; a container that mounts the volumes of the old one goes.
func (b *Backup) setPlan(ctx context.Context, plan Plan) error {
	same := reflect.DeepEqual(b.plan.Volumes, plan.Volumes)
	b.plan = plan
	if same {
		return nil
	}
	b.dropAhead(ctx)
	if b.use == forRepository {
		return nil
	}
	return b.dropContainer(ctx)
}

func (b *Backup) openLocked(ctx context.Context) error {
	if b.opened {
		return nil
	}
	if err := b.start(ctx, forRepository); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "opening the backup repository: %w", err)
	}
	if err := b.initRepository(ctx); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "opening the backup repository: %w", err)
	}
	b.opened = true
	return nil
}

// Create makes a snapshot: pre-hooks, restic, post-hooks. Hooks run as sh -c in
// the container of the service whose label they are, one after the other; the first that fails
// ends the backup. Post-hooks always run, all of them. A failing hook is a
// *HookError; nothing to back up, files that cannot be read and more of them than
// restic has memory for are an Error with CodeRecipe, anything else of restic or the
// daemon CodeInfra. Files that the app removes meanwhile are no error. The snapshot is not looked into: see List and [Verify].
func (b *Backup) Create(ctx context.Context) (snapshot Snapshot, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(ctx); err != nil {
		return Snapshot{}, err
	}
	snapshot = Snapshot{Started: b.opts.Now(), Tags: b.tags()}
	defer func() {
		err = errors.Join(err, b.hooksAfter(ctx, "backup post-hook", b.plan.BackupPost))
	}()
	mounted := make(chan error, 1) // beside the hooks: it takes as long as they do
	go func() { mounted <- b.mount(ctx) }()
	err = b.hooks(ctx, "backup pre-hook", b.plan.BackupPre)
	if mountErr := <-mounted; err == nil {
		err = mountErr
	}
	if err != nil {
		return Snapshot{}, err
	}
	if err := b.resticBackup(ctx, &snapshot); err != nil {
		return Snapshot{}, err
	}
	return snapshot, nil
}

// List returns every entry of a snapshot, read back from the repository.
func (b *Backup) List(ctx context.Context, snapshot Snapshot) ([]File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	if err := b.mount(ctx); err != nil {
		return nil, err
	}
	return b.resticList(ctx, snapshot)
}

// Restore brings a snapshot back while the app runs: pre-hooks, restic, post-hooks,
// with the same rules as Create. As with backup-bot-two, files are written over
// what is there, and files that are not in the snapshot stay.
func (b *Backup) Restore(ctx context.Context, snapshot Snapshot) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(ctx); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.hooksAfter(ctx, "restore post-hook", b.plan.RestorePost))
	}()
	if err := b.hooks(ctx, "restore pre-hook", b.plan.RestorePre); err != nil {
		return err
	}
	return b.resticRestore(ctx, snapshot)
}

// Close removes the container, and the repository's volume if Open made it. It
// is idempotent and legal before Open; a closed Backup cannot be used again.
func (b *Backup) Close(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.opened = true, false
	b.dropAhead(ctx)
	if err := b.dropContainer(ctx); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "closing the backup of %s: %w", b.plan.Stack, err)
	}
	if err := b.dropVolume(ctx); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "closing the backup of %s: %w", b.plan.Stack, err)
	}
	return nil
}

// ready makes sure of an open repository and a plan that has something to store.
func (b *Backup) ready(ctx context.Context) error {
	switch {
	case b.closed:
		return ccci.Errorf(ccci.CodeInfra, "backing up %s: the backup is closed", b.plan.Stack)
	case !b.plan.Enabled:
		return ccci.Errorf(ccci.CodeRecipe, "backing up %s: no service says %s=true", b.plan.Stack, recipe.BackupEnable)
	case len(b.plan.Volumes) == 0:
		return ccci.Errorf(ccci.CodeRecipe, "backing up %s: the labels leave no volume to back up", b.plan.Stack).
			WithHint("mount a named volume in a service, or take an exclusion away")
	}
	return b.openLocked(ctx)
}

// mount makes sure of a container that can read the volumes.
func (b *Backup) mount(ctx context.Context) error {
	if b.use == forBackup {
		return nil
	}
	err := b.dropContainer(ctx)
	if err == nil {
		err = b.start(ctx, forBackup, b.plan.Volumes...)
	}
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "mounting the volumes of %s: %w", b.plan.Stack, err)
	}
	return nil
}

// tags are those of backup-bot-two: "<stack>:<version>".
func (b *Backup) tags() []string {
	if b.plan.Version == "" {
		return []string{b.plan.Stack}
	}
	return []string{b.plan.Stack + ":" + b.plan.Version}
}

// hooks runs hooks until one fails.
func (b *Backup) hooks(ctx context.Context, phase string, hooks []Hook) error {
	for _, hook := range hooks {
		if err := b.hook(ctx, phase, hook); err != nil {
			return err
		}
	}
	return nil
}

// hooksAfter runs all hooks, also when ctx is over.
func (b *Backup) hooksAfter(ctx context.Context, phase string, hooks []Hook) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), postHookLimit)
		defer cancel()
	}
	var failures []error
	for _, hook := range hooks {
		failures = append(failures, b.hook(ctx, phase, hook))
	}
	return errors.Join(failures...)
}

func (b *Backup) hook(ctx context.Context, phase string, hook Hook) error {
	b.opts.Logger.InfoContext(ctx, "running hook", "phase", phase, "service", hook.Service, "command", hook.Command)
	result, err := b.opts.Exec(ctx, harness.ExecCmd{Service: hook.Service, Args: []string{"sh", "-c", hook.Command}})
	if err != nil {
		return fmt.Errorf("running the %s of service %s: %w", phase, hook.Service, err)
	}
	if result.ExitCode == 0 {
		return nil
	}
	output := tail(append(result.Stdout, result.Stderr...), 2000)
	e := ccci.Errorf(ccci.CodeRecipe, "the %s of service %s ended with exit code %d: %s", phase, hook.Service, result.ExitCode, lastLine(output))
	if result.ExitCode == 127 {
		e = e.WithHint("the service's image lacks a command that the hook calls")
	}
	return &HookError{Err: e, Phase: phase, Hook: hook, ExitCode: result.ExitCode, Output: output}
}
