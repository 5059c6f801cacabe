package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// Repeat is what a run takes from the one that it repeats (N9), in place of choosing by rule.
type Repeat struct {
	Base   *ccci.Revision // what the upgrade is tried from first; nil: nothing
	NoBase string         // why not, when Base is nil
}

// archiveLimit bounds the making of an archive. It comes after the teardown.
const archiveLimit = time.Minute

// enrolmentOf keeps how a recipe is enrolled. One that is not has nothing to keep.
func enrolmentOf(settings ccci.Recipe) repro.Enrolment {
	if settings.Dir == "" {
		return repro.Enrolment{}
	}
	return repro.ReadEnrolment(settings.Dir, enrol.Masked(settings))
}

// keepArchive leaves among the artifacts what is needed to repeat the run. It changes no verdict.
func (l *life) keepArchive(ctx context.Context) {
	if l.clone == nil || l.Job.Options.Quick {
		return // nothing was fetched; a canonical's data is not kept with a run
	}
	ctx, enough := context.WithTimeout(ctx, archiveLimit)
	defer enough()
	left, size, err := l.writeArchive(ctx)
	if err != nil {
		l.warn(fmt.Sprintf("the run cannot be repeated elsewhere: writing %s: %v", ccci.ReproArchive, err))
		return
	}
	for _, part := range left {
		l.warn(fmt.Sprintf("%s has no %s: %s", ccci.ReproArchive, part.Part, part.Why))
	}
	l.result.Artifacts = append(l.result.Artifacts, ccci.Artifact{Path: ccci.ReproArchive, Title: "Archive for cc-ci repro", Kind: "archive", Size: size})
}

func (l *life) writeArchive(ctx context.Context) (left []repro.LeftOut, size int64, err error) {
	contents := repro.Contents{
		Manifest: repro.Manifest{RunID: l.Job.RunID, Recipe: l.Job.Recipe, Commit: l.Job.Commit, Environment: l.Environment},
		Recipe:   repro.Repository{Dir: l.clone.dir, Head: l.Job.Commit}, Limits: l.Git, TempDir: l.WorkDir,
		Dependencies: map[string]repro.Repository{}, Enrolments: map[string]repro.Enrolment{},
	}
	if base := l.result.FirstBase(); base != nil {
		contents.Recipe.From = base.Commit
	}
	releases, err := recipe.Releases(ctx, l.clone.dir)
	if err != nil {
		return nil, 0, err
	}
	for _, r := range releases {
		contents.Recipe.Tags = append(contents.Recipe.Tags, r.Tag)
	}
	if l.settings.Dir != "" {
		contents.Enrolments[l.Job.Recipe] = l.enrolled
	}
	for _, d := range l.dependencies {
		if d.settings.Dir != "" {
			contents.Enrolments[d.recipe] = d.enrolled
		}
	}
	for _, deployed := range l.result.Dependencies {
		for _, d := range l.dependencies {
			if d.recipe == deployed.Recipe {
				contents.Dependencies[d.recipe] = repro.Repository{Dir: d.clone.dir, Tags: []string{deployed.Version}}
			}
		}
	}
	file, err := os.CreateTemp(l.OutDir, "."+ccci.ReproArchive+"-") // whole or not at all
	if err != nil {
		return nil, 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if left, err = repro.Write(ctx, file, contents); err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(l.OutDir, ccci.ReproArchive))
	}
	if err != nil {
		return nil, 0, err
	}
	return left, info.Size(), nil
}
