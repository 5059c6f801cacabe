package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// install fetches, judges and deploys the base (or, without one, the head),
// and puts the first data into it. A quick run's base has its data already.
func (l *life) install(ctx context.Context, s *ccci.Stage) {
	if !l.check(ctx, s, "install/fetch", l.fetchTrees) {
		return
	}
	if l.baseTree == nil || !l.Job.Options.Wants(ccci.StageUpgrade) {
		l.prepareBackup(ctx)
	}
	for before := s.Checks; !l.bringUp(ctx, s) && l.baseFailed(ctx); before = s.Checks {
		l.noteBroken(l.result.Base, l.first, l.firstErr)
		if l.canonical != nil { // a quick run has nothing else to start from
			break
		}
		s.Checks = slices.Clone(before) // those of the base are no answer about the head
		if !l.leaveBase(ctx, s) {
			break
		}
	}
	if l.current != nil {
		l.screenshot(ctx, "install")
	}
}

// bringUp judges base and head, and installs the base or, without one, the head.
func (l *life) bringUp(ctx context.Context, s *ccci.Stage) bool {
	if !l.check(ctx, s, "install/admitted", l.admitTrees) {
		return false
	}
	first := l.head
	if l.base != nil {
		first = l.base
	}
	l.makeRunner()
	if l.canonical != nil {
		return l.installQuick(ctx, s)
	}
	return l.check(ctx, s, "install/images", func(ctx context.Context) error { return l.pull(ctx, l.instance, first, stageOf(first, l.head)) }) &&
		l.deployDependencies(ctx, s) &&
		l.hook(ctx, s, "pre-install") &&
		l.check(ctx, s, "install/created", func(ctx context.Context) error { return l.create(ctx, l.instance, first) }) &&
		l.check(ctx, s, "install/converged", func(ctx context.Context) error { return l.deploy(ctx, first) }) &&
		l.serves(ctx, s, "install") &&
		l.hook(ctx, s, "post-install") &&
		l.check(ctx, s, "install/seed", func(ctx context.Context) error { return l.seed(ctx, "A", l.settings.Seed) })
}

func stageOf(stack, head *recipe.Stack) string {
	if stack == head {
		return "head"
	}
	return "base"
}

// pull makes a version's images present and records what they are.
func (l *life) pull(ctx context.Context, in *instance, stack *recipe.Stack, stage string) error {
	images, err := in.pull(ctx, stack)
	for _, image := range images {
		image.Stage = stage
		l.result.Images = append(l.result.Images, image)
	}
	if err != nil {
		return err
	}
	l.warnOfMovedTags(ctx, images)
	return l.noteLimits(ctx, in, stack)
}

// noteLimits records what the services of a version may use (U8), and says what was lowered.
func (l *life) noteLimits(ctx context.Context, in *instance, stack *recipe.Stack) error {
	effective, lowered, err := in.Deployer.Limits(ctx, stack)
	if err != nil {
		return err
	}
	prefix, of := "ceilings.", ""
	if in != l.instance {
		prefix, of = "ceilings."+in.recipe+".", "dependency "+in.recipe+": "
	}
	for service, text := range effective {
		l.result.Settings[prefix+service] = text
	}
	for _, sentence := range lowered {
		l.warn(of + sentence)
	}
	return nil
}

// create makes an app: its secrets. It is counted, since one run makes each app once.
func (l *life) create(ctx context.Context, in *instance, stack *recipe.Stack) error {
	if err := in.makeSecrets(stack); err != nil {
		return err
	}
	l.result.Deployments++
	return in.Deployer.New(ctx, stack, in.secrets)
}

// serves asks whether the app answers, until one question fails.
func (l *life) serves(ctx context.Context, s *ccci.Stage, stage string) bool {
	for _, q := range l.readiness() {
		if !l.confirmed(ctx, s, stage+"/"+q.name, q.ask) {
			return false
		}
	}
	return true
}

// seed writes a marker through the app and canaries into its volumes.
func (l *life) seed(ctx context.Context, letter string, steps []ccci.Step) error {
	canaries := restorable(l.canaries) // once they are there, only these are changed
	if letter == "A" {
		l.plan, _ = l.backupPlan(l.current) // the stage backup reads it again, and fails
		l.canaries = canariesOf(l.current, l.plan)
		canaries = l.canaries
	}
	marker := l.marker(letter)
	if err := l.writeCanaries(ctx, canaries, marker); err != nil {
		return err
	}
	return l.steps(ctx, steps, letter)
}

// verify reads the marker back, through the app and from its volumes.
func (l *life) verify(ctx context.Context, letter string, canaries []canary) error {
	if err := l.readCanaries(ctx, canaries, l.marker(letter)); err != nil {
		return err
	}
	return l.steps(ctx, l.settings.Verify, letter)
}

func (l *life) steps(ctx context.Context, steps []ccci.Step, letter string) error {
	runner := l.runner.WithMarker(l.marker(letter))
	for _, step := range steps {
		if step.Browser != nil {
			if err := l.withBrowser(); err != nil {
				return err
			}
			runner.Target.Browser = l.runner.Target.Browser
		}
		if err := runner.Run(ctx, step); err != nil {
			return inStep(step.Name, err)
		}
	}
	return nil
}

// backupPlan reads the backup labels of what is deployed. Labels that cannot be read turn the
// stage backup red; before that the app is tested without a plan.
func (l *life) backupPlan(stack *recipe.Stack) (BackupPlan, error) {
	plan, err := l.Backup.Plan(stack)
	if err != nil {
		l.warn(fmt.Sprintf("reading the backup labels: %v", err))
		return BackupPlan{}, err
	}
	for _, w := range plan.Warnings {
		l.warn(w)
	}
	return plan, nil
}

// upgrade brings the app with its data and its old env file to the head.
func (l *life) upgrade(ctx context.Context, s *ccci.Stage) {
	l.prepareBackup(ctx)
	if l.base == nil {
		if s.Reason = l.brokenUpgrade(); s.Reason == "" {
			s.Status, s.Reason, s.Absent = ccci.Skip, l.noBase, l.firstRelease
		}
		return
	}
	l.result.Upgrades++
	_ = l.check(ctx, s, "upgrade/images", func(ctx context.Context) error { return l.pull(ctx, l.instance, l.head, "head") }) &&
		l.hook(ctx, s, "pre-upgrade") &&
		l.check(ctx, s, "upgrade/secrets", l.addSecrets) &&
		l.check(ctx, s, "upgrade/converged", func(ctx context.Context) error { return l.deploy(ctx, l.head) }) &&
		l.check(ctx, s, "upgrade/commit", l.runsHead) &&
		l.serves(ctx, s, "upgrade") &&
		l.confirmed(ctx, s, "upgrade/verify", func(ctx context.Context) error { return l.verify(ctx, "A", l.canaries) }) &&
		l.hook(ctx, s, "post-upgrade") &&
		l.check(ctx, s, "upgrade/still-head", l.runsHead)
	l.screenshot(ctx, "upgrade")
}

// addSecrets makes the secrets that the head has and the base had not, as an
// operator does on reading the release notes.
func (l *life) addSecrets(ctx context.Context) error {
	known := map[string]bool{}
	for _, s := range l.base.Secrets {
		known[s.Name] = true
	}
	var added []recipe.Secret
	for _, s := range l.head.Secrets {
		if !known[s.Name] {
			added = append(added, s)
		}
	}
	if len(added) == 0 {
		return nil
	}
	if err := l.makeSecrets(l.head); err != nil {
		return err
	}
	more, values := *l.head, map[string]ccci.Secret{}
	more.Secrets = added
	for _, s := range added {
		values[s.Key] = l.secrets[s.Key]
	}
	return l.Deployer.AddSecrets(ctx, &more, values)
}

// runsHead proves that what runs is the very commit under test (U3).
func (l *life) runsHead(ctx context.Context) error {
	got, err := l.Deployer.Label(ctx, l.head, "app", l.head.LabelName("chaos-version"))
	if err != nil {
		return err
	}
	if want := l.Job.Commit.Short(); got != want {
		return &checks.Failure{Message: fmt.Sprintf("the running app is of commit %q, not of %q: the upgrade did not take place", got, want)}
	}
	return nil
}

// backup stores the app's data and looks into what was stored.
func (l *life) backup(ctx context.Context, s *ccci.Stage) {
	plan, err := l.backupPlan(l.current)
	l.plan = plan
	if err != nil {
		l.check(ctx, s, "backup/labels", func(context.Context) error { return err })
		return
	}
	if !l.plan.Enabled {
		l.noBackup(ctx, s)
		return
	}
	l.prepareBackup(ctx)
	_ = l.check(ctx, s, "backup/repository", func(ctx context.Context) error {
		select {
		case err := <-l.prepared:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}) && l.check(ctx, s, "backup/canaries", l.replan) &&
		l.hook(ctx, s, "pre-backup") &&
		l.check(ctx, s, "backup/snapshot", func(ctx context.Context) error {
			return within(ctx, l.settings.Timeouts.Backup, "backup", func(ctx context.Context) (err error) {
				l.snapshot, err = l.Backup.Create(ctx, l.current)
				return err
			})
		}) &&
		l.check(ctx, s, "backup/expected-paths", func(ctx context.Context) error {
			// A backup that succeeded may still lack the database: only its content counts (U5).
			var content SnapshotContent
			err := within(ctx, l.settings.Timeouts.Backup, "backup", func(ctx context.Context) (err error) {
				content, err = l.Backup.Inspect(ctx, l.snapshot, l.settings.Backup.Expect)
				return err
			})
			if err != nil {
				return err
			}
			l.stored = content.Stored
			if len(content.Problems) > 0 {
				return &checks.Failure{Message: "the snapshot lacks data: " + strings.Join(content.Problems, "; "), Detail: content.Beside, Of: "What the snapshot has instead"}
			}
			return nil
		}) &&
		l.hook(ctx, s, "post-backup")
}

// restore changes the data, brings the snapshot back, and reads the old data.
func (l *life) restore(ctx context.Context, s *ccci.Stage) {
	if !l.plan.Enabled {
		l.noBackup(ctx, s)
		return
	}
	change := l.settings.Change
	if change == nil {
		change = l.settings.Seed
	}
	_ = l.hook(ctx, s, "pre-restore") &&
		l.check(ctx, s, "restore/changed", func(ctx context.Context) error {
			if err := l.seed(ctx, "B", change); err != nil {
				return err
			}
			return l.verify(ctx, "B", restorable(l.canaries)) // or a restore that does nothing would look good
		}) &&
		l.check(ctx, s, "restore/restored", func(ctx context.Context) error {
			return within(ctx, l.settings.Timeouts.Restore, "restore", func(ctx context.Context) error {
				return l.Backup.Restore(ctx, l.current, l.snapshot)
			})
		}) &&
		l.check(ctx, s, "restore/converged", l.converge) &&
		l.serves(ctx, s, "restore") &&
		l.confirmed(ctx, s, "restore/verify", func(ctx context.Context) error {
			if err := l.verifySoon(ctx, "A"); err != nil {
				return err
			}
			return l.restoreProof()
		}) &&
		l.hook(ctx, s, "post-restore")
}

// converge waits until what is deployed runs. That swarm keeps it is for the last look: swarm monitors an
// upgrade for seconds, and what follows takes as long.
func (l *life) converge(ctx context.Context) error {
	return l.within(ctx, l.Deployer.Converge)
}

// within gives the app as long as for a deployment.
func (l *life) within(ctx context.Context, wait func(context.Context, *recipe.Stack) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(l.settings.Timeouts.Deploy, l.current.Timeout))
	defer cancel()
	return wait(ctx, l.current)
}

// stillRuns is the last look before the verdict: what the run has tested is there, and is
// the commit under test. Swarm may have rolled it back since the upgrade, and the old
// version answers as well.
func (l *life) stillRuns(ctx context.Context) error {
	if err := l.within(ctx, l.Deployer.Settle); err != nil {
		return err
	}
	if l.current != l.head {
		return nil
	}
	return l.runsHead(ctx)
}

// verifySoon repeats the reading for as long as one step may take: an app's
// database pool may need a moment to notice that its database was replaced.
func (l *life) verifySoon(ctx context.Context, letter string) error {
	end := time.Now().Add(l.settings.Timeouts.Step / 2)
	for {
		err := l.verify(ctx, letter, restorable(l.canaries))
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// checks asks the recipe's own questions, after those that every app is asked.
func (l *life) checks(ctx context.Context, s *ccci.Stage) {
	l.serves(ctx, s, "checks")
	if l.web {
		l.page(ctx, s)
	}
	l.ownChecks(ctx, s)
	l.check(ctx, s, "secrets/not-in-logs", l.logsHoldNoSecrets)
}

// page looks at the app with a browser.
func (l *life) page(ctx context.Context, s *ccci.Stage) {
	l.confirmed(ctx, s, pageCheck, func(ctx context.Context) error {
		if err := l.withBrowser(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, l.settings.Timeouts.Step)
		defer cancel()
		shot, err := l.runner.Screenshot(ctx, l.settings.Screenshot, l.hidden())
		if err != nil && !errors.Is(err, checks.ErrNoPicture) {
			return err
		}
		l.picture("screenshot-final.png", "At the end", shot.PNG)
		if shot.Status >= http.StatusBadRequest && !slices.Contains(l.settings.Health.Status, shot.Status) {
			lines := tail([]byte(shot.Text), 20)
			return &checks.Failure{
				Message: fmt.Sprintf("the browser shows an error page at %s: it was answered with %d", l.settings.Screenshot.Path, shot.Status),
				Detail:  lines, Of: "Text of the page, its last " + lastLines(lines),
			}
		}
		if strings.TrimSpace(shot.Text) == "" && blank(shot.PNG) {
			return &checks.Failure{Message: "the browser shows an empty page at " + l.settings.Screenshot.Path}
		}
		return err
	})
}

func (l *life) ownChecks(ctx context.Context, s *ccci.Stage) {
	if l.hook(ctx, s, "pre-checks") {
		runner := l.runner.WithMarker(l.marker("A"))
		for _, step := range l.settings.Checks {
			l.confirmed(ctx, s, "checks/"+ccci.CheckWord(step.Name), func(ctx context.Context) error {
				if step.Browser != nil {
					if err := l.withBrowser(); err != nil {
						return err
					}
					runner.Target.Browser = l.runner.Target.Browser
				}
				return runner.Run(ctx, step)
			})
		}
		l.goTests(ctx, s)
		l.hook(ctx, s, "post-checks")
	}
}
