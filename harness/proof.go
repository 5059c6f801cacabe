package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// unprovenError says that nothing can be observed that would answer a question. The recipe is not
// to blame for it, and nothing is gained by asking again: the stage is unverified, which holds
// the level down and does not turn the run red.
type unprovenError struct{ why string }

func (e *unprovenError) Error() string { return e.why }

// restoreProof says why a restore that did nothing would look like one that worked; nil when
// something of the app's, or a canary beside it, is read back. Hooks and steps are ours: what they
// read is their affair.
func (l *life) restoreProof() error {
	if len(l.settings.Verify) > 0 || l.hasHook("post-restore") {
		return nil
	}
	var whole, kept []string
	for _, c := range restorable(l.canaries) {
		if kept = append(kept, c.volume); l.stored[c.volume] > 1 { // one is the canary
			whole = append(whole, c.volume)
		}
	}
	apart := slices.Clone(l.plan.Excluded)
	for _, v := range l.plan.Volumes {
		if len(v.Paths) > 0 {
			apart = append(apart, v.Key)
		}
	}
	slices.Sort(apart)
	const remedy = "; state verify steps in recipe.yml that read the app's data"
	switch {
	case len(kept) == 0:
		return &unprovenError{"nothing shows that the restore brought data back: no volume is backed up as a whole, and no step reads the app's data" + remedy}
	case len(apart) > 0 && len(whole) == 0:
		return &unprovenError{fmt.Sprintf("nothing shows that the restore brought data back: the backup leaves out volume %s or parts of it, the rest (%s) holds no data of the app, and no step reads any",
			strings.Join(apart, ", "), strings.Join(kept, ", ")) + remedy}
	case len(apart) > 0:
		l.warn(fmt.Sprintf("no step reads back what the app keeps in volume %s, which the backup leaves out or takes in part: the restore is proven for %s alone", strings.Join(apart, ", "), strings.Join(whole, ", ")))
	}
	return nil
}

// noBackup ends a stage of a version that switches no backup on. Without a volume there is nothing
// to test. A volume that no label backs up could be tested and is not: that is unproven.
func (l *life) noBackup(ctx context.Context, s *ccci.Stage) {
	why, service := l.current.NoBackup()
	if service == "" {
		s.Status, s.Reason, s.Absent = ccci.Skip, why, true
		return
	}
	name, err := "backup/labels", &unprovenError{why}
	if s.Name == ccci.StageRestore {
		name, err = "restore/snapshot", &unprovenError{"there is no backup to restore"}
	} else if i := slices.IndexFunc(l.result.Lint, func(f ccci.Finding) bool { return f.Rule == recipe.RuleNoBackup }); i >= 0 {
		err.why = l.result.Lint[i].At() + why
	}
	l.check(ctx, s, name, func(context.Context) error { return err })
}

// hasHook reports whether the enrolment has a hook of that name.
func (l *life) hasHook(name string) bool {
	if l.settings.Dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(l.settings.Dir, "hooks", name))
	return err == nil
}
