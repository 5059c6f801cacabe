package backup

import (
	"context"
	"sync"

	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// App is a [Backup] as the harness wants it: for one app whose stack changes
// with the upgrade.
type App struct {
	backup *Backup

	mu        sync.Mutex
	stack     *recipe.Stack // whose containers hooks run in
	plan      Plan
	snapshots map[string]Snapshot
}

var _ harness.Backup = (*App)(nil)

// NewApp makes the backup of the app that deployer drives. Options.Exec is ignored.
func NewApp(opts Options, deployer harness.Deployer) *App {
	a := &App{snapshots: map[string]Snapshot{}}
	opts.Exec = func(ctx context.Context, cmd harness.ExecCmd) (harness.ExecResult, error) {
		a.mu.Lock()
		stack := a.stack
		a.mu.Unlock()
		return deployer.Exec(ctx, stack, cmd)
	}
	a.backup = New(opts)
	return a
}

// Plan implements harness.Backup.
func (a *App) Plan(stack *recipe.Stack) (harness.BackupPlan, error) {
	plan, err := PlanOf(stack)
	if err != nil {
		return harness.BackupPlan{}, err
	}
	out := harness.BackupPlan{Enabled: plan.Enabled, Excluded: plan.Excluded}
	for _, v := range plan.Volumes {
		out.Volumes = append(out.Volumes, harness.BackupVolume{Key: v.Key, Name: v.Name, Paths: v.Paths})
	}
	for _, w := range plan.Warnings {
		out.Warnings = append(out.Warnings, w.Message)
	}
	return out, nil
}

// Prepare implements harness.Backup.
func (a *App) Prepare(ctx context.Context) error { return a.backup.Open(ctx, Plan{}) }

// Create implements harness.Backup.
func (a *App) Create(ctx context.Context, stack *recipe.Stack) (string, error) {
	if err := a.use(ctx, stack); err != nil {
		return "", err
	}
	snapshot, err := a.backup.Create(ctx)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.snapshots[snapshot.ID] = snapshot
	return snapshot.ID, nil
}

// use turns to the stack that is deployed now.
func (a *App) use(ctx context.Context, stack *recipe.Stack) error {
	plan, err := PlanOf(stack)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.stack, a.plan = stack, plan
	a.mu.Unlock()
	return a.backup.Open(ctx, plan)
}

// Inspect implements harness.Backup.
func (a *App) Inspect(ctx context.Context, id string, expect []string) (harness.SnapshotContent, error) {
	a.mu.Lock()
	snapshot, plan := a.snapshots[id], a.plan
	a.mu.Unlock()
	files, err := a.backup.List(ctx, snapshot)
	if err != nil {
		return harness.SnapshotContent{}, err
	}
	a.backup.PrepareRestore(ctx) // the app's data is changed meanwhile
	content := harness.SnapshotContent{Stored: storedOf(plan, files)}
	for _, p := range Verify(plan, snapshot, files, expect) {
		content.Problems = append(content.Problems, p.String())
		if p.Kind == Missing {
			content.Beside = append(content.Beside, beside(plan, files, p.Path))
		}
	}
	return content, nil
}

// storedOf counts what a snapshot has of each volume, folders aside.
func storedOf(plan Plan, files []File) map[string]int {
	stored := map[string]int{}
	for _, v := range plan.Volumes {
		for _, f := range under(files, v.Root()) {
			if f.Type != "dir" {
				stored[v.Key]++
			}
		}
	}
	return stored
}

// Restore implements harness.Backup.
func (a *App) Restore(ctx context.Context, stack *recipe.Stack, id string) error {
	if err := a.use(ctx, stack); err != nil {
		return err
	}
	a.mu.Lock()
	snapshot := a.snapshots[id]
	a.mu.Unlock()
	return a.backup.Restore(ctx, snapshot)
}

// Close implements harness.Backup.
func (a *App) Close(ctx context.Context) error { return a.backup.Close(ctx) }
