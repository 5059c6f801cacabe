package harness

import (
	"context"
	"net/http"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Router makes an app reachable under its host names.
type Router interface {
	// Route makes the routers that the stack's labels declare answer, in place
	// of those of an earlier version of it.
	Route(ctx context.Context, stack *recipe.Stack) error
	// Unroute forgets a stack. Legal when there is none of that name.
	Unroute(ctx context.Context, stackName string) error
	// Unrouted says why none of the routers that the stack's labels declare answers
	// https://host/path, and the way out; "" where one does.
	Unrouted(stack *recipe.Stack, host, path string) (why, hint string)
	// Transport reaches every run's host names through the proxy, verifying its
	// certificate, whatever the machine's resolver says.
	Transport() http.RoundTripper
}

// Backup drives the backups of one run's app by backup-bot-two's label contract.
type Backup interface {
	// Plan reads the contract from the labels of a rendered stack.
	Plan(stack *recipe.Stack) (BackupPlan, error)
	// Prepare makes the repository. It needs no app and may run beside a deployment.
	Prepare(ctx context.Context) error
	// Create runs the pre-hooks, stores the planned paths, runs the post-hooks,
	// and returns the name of the snapshot. A hook that fails is an Error with
	// CodeRecipe that names service and hook; with a method Lines() []string it shows what the hook printed.
	Create(ctx context.Context, stack *recipe.Stack) (snapshot string, err error)
	// Inspect looks into a snapshot. Problems name each planned path, and each of
	// expect (<volume>/<path>), that is absent, empty or older than the backup.
	Inspect(ctx context.Context, snapshot string, expect []string) (SnapshotContent, error)
	// Restore brings a snapshot back, with the restore hooks around it.
	Restore(ctx context.Context, stack *recipe.Stack, snapshot string) error
	// Close removes everything it made. Legal twice and before Prepare.
	Close(ctx context.Context) error
}

// BackupPlan is what a stack's labels ask to be stored.
type BackupPlan struct {
	Enabled  bool
	Volumes  []BackupVolume
	Excluded []string // keys of mounted volumes that labels take out of it
	Warnings []string
}

// BackupVolume is one volume of a plan.
type BackupVolume struct {
	Key   string   // in the compose file
	Name  string   // on the daemon
	Paths []string // relative to the volume's root; nil stands for all of it
}

// SnapshotContent is what a snapshot holds and what it lacks.
type SnapshotContent struct {
	Beside   []string       // what is there in the place of what is missing, a line for each problem
	Stored   map[string]int // how many entries but folders it has of each planned volume, by key
	Problems []string       // sentences; none: everything that must be there is
}
