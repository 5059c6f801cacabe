// Package repro is the archive that a run keeps beside its result, so that the run can be
// repeated on a machine that has neither the forge nor the enrolment of that day (N9).
//
// The archive is a tar with plain files: manifest.json, recipe.bundle (the commit under test,
// the upgrade base and the releases, as git bundles them), dependencies/<recipe>.bundle and
// tests/<recipe>/…, the enrolments. What does not fit is left out, and the manifest says so.
//
// An archive may come from anybody. [Open] takes nothing from it but these files, bounded,
// and runs none of them.
package repro

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// Schema is the version of the archive's form.
const Schema = 1

// Bounds of an archive, for who writes and for who reads it.
const (
	// Limit bounds an archive, in bytes.
	Limit = 40 << 20

	maxBundle    = 16 << 20 // bytes of one repository
	maxBundles   = 28 << 20 // bytes of all repositories
	maxEnrolment = 4 << 20  // bytes of the files of all enrolments
	maxFiles     = 1000     // files of an archive
	maxManifest  = 1 << 20  // bytes
)

const (
	manifestName = "manifest.json"
	recipeBundle = "recipe.bundle"
	bundleDir    = "dependencies"
	testsDir     = "tests"
)

// Names of what a bundle holds besides tags.
const (
	refPrefix = "refs/cc-ci/"
	headRef   = refPrefix + "head"
	fromRef   = refPrefix + "from" // what the upgrade was tried from first
)

// Manifest says what an archive is of.
type Manifest struct {
	Schema int         `json:"schema"`
	RunID  ccci.RunID  `json:"runId"`
	Recipe string      `json:"recipe"`
	Commit ccci.Commit `json:"commit"`
	// Enrolled are the recipes whose enrolments are in the archive; one that is neither here nor in
	// LeftOut had none.
	Enrolled []string `json:"enrolled"`
	// Environment is what the run found of its machine and its configuration, by name.
	Environment map[string]string `json:"environment"`
	// Replaced are the settings whose values were secrets and are dummies in the archive: "wiki:
	// secrets.api_key".
	Replaced []string  `json:"replaced"`
	LeftOut  []LeftOut `json:"leftOut"`
}

// LeftOut is a part that the archive has not.
type LeftOut struct {
	Part string `json:"part"` // path within the archive, as "recipe.bundle" or "tests/wiki"
	Why  string `json:"why"`
}

// Repository is what is kept of a repository.
type Repository struct {
	Dir  string      // the run's clone, which is changed: it gets refs
	Head ccci.Commit // "" keeps only the tags
	From ccci.Commit // "" when no upgrade was tested
	Tags []string    // of releases
}

// Contents are what an archive is made of.
type Contents struct {
	Manifest     Manifest // its lists and its schema are filled in
	Recipe       Repository
	Dependencies map[string]Repository
	Enrolments   map[string]Enrolment
	Limits       gitcmd.Limits
	TempDir      string
}

// Write writes an archive to out, and returns what it left out.
func Write(ctx context.Context, out io.Writer, c Contents) ([]LeftOut, error) {
	w := &writer{ctx: ctx, tar: tar.NewWriter(out), limits: c.Limits, dir: c.TempDir, left: maxBundles}
	w.manifest = c.Manifest
	w.manifest.Schema, w.manifest.Enrolled, w.manifest.Replaced, w.manifest.LeftOut = Schema, []string{}, []string{}, []LeftOut{}
	if err := w.bundle(recipeBundle, c.Recipe); err != nil {
		return nil, err
	}
	for _, name := range sorted(c.Dependencies) {
		if err := w.bundle(bundleDir+"/"+name+".bundle", c.Dependencies[name]); err != nil {
			return nil, err
		}
	}
	files, size := 2+len(c.Dependencies), 0 // with the manifest and the recipe
	for _, name := range sorted(c.Enrolments) {
		e := c.Enrolments[name]
		part := testsDir + "/" + name
		switch {
		case e.err != nil:
			w.leaveOut(part, e.err.Error())
			continue
		case size+e.size() > maxEnrolment:
			w.leaveOut(part, fmt.Sprintf("the enrolments have more than %d MiB", maxEnrolment>>20))
			continue
		case files+len(e.files) > maxFiles:
			w.leaveOut(part, fmt.Sprintf("the archive would have more than %d files", maxFiles))
			continue
		}
		size += e.size()
		files += len(e.files)
		w.manifest.Enrolled = append(w.manifest.Enrolled, name)
		w.manifest.LeftOut = append(w.manifest.LeftOut, e.leftOut(part)...)
		for _, key := range e.replaced {
			w.manifest.Replaced = append(w.manifest.Replaced, name+": "+key)
		}
		for _, f := range e.files {
			if err := w.file(part+"/"+f.path, f.mode(), f.content); err != nil {
				return nil, err
			}
		}
	}
	text, err := json.MarshalIndent(w.manifest, "", "  ")
	if err == nil {
		err = w.file(manifestName, 0o644, append(text, '\n'))
	}
	if err == nil {
		err = w.tar.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("writing the archive: %w", err)
	}
	return w.manifest.LeftOut, nil
}

type writer struct {
	ctx      context.Context
	tar      *tar.Writer
	manifest Manifest
	limits   gitcmd.Limits
	dir      string // for temporary files
	left     int64  // bytes that bundles may still have
}

func (w *writer) leaveOut(part, why string) {
	w.manifest.LeftOut = append(w.manifest.LeftOut, LeftOut{part, why})
}

func (w *writer) file(name string, mode int64, content []byte) error {
	if err := w.header(name, mode, int64(len(content))); err != nil {
		return err
	}
	_, err := w.tar.Write(content)
	return err
}

func (w *writer) header(name string, mode, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size})
}

// bundle adds a repository. One that git cannot bundle, or that is too large, is left out.
func (w *writer) bundle(name string, r Repository) error {
	tmp, err := os.CreateTemp(w.dir, ".bundle-")
	if err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	most := min(maxBundle, w.left)
	err = r.bundle(w.ctx, &bounded{w: tmp, left: most}, w.limits)
	switch {
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case errors.Is(err, errTooLarge):
		w.leaveOut(name, fmt.Sprintf("the repository has more than %d MiB", most>>20))
		return nil
	case err != nil:
		w.leaveOut(name, err.Error())
		return nil
	}
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = w.header(name, 0o644, size)
	}
	if err == nil {
		_, err = io.Copy(w.tar, tmp)
	}
	if err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	w.left -= size
	return nil
}

// bundle writes what is kept of the repository.
func (r Repository) bundle(ctx context.Context, out io.Writer, limits gitcmd.Limits) error {
	var refs []string
	for ref, commit := range map[string]ccci.Commit{headRef: r.Head, fromRef: r.From} {
		if commit == "" {
			continue
		}
		if _, err := gitcmd.Run(ctx, r.Dir, "update-ref", ref, string(commit)); err != nil {
			return err
		}
		refs = append(refs, ref)
	}
	for _, tag := range r.Tags {
		refs = append(refs, "refs/tags/"+tag)
	}
	return gitcmd.Bundle(ctx, r.Dir, out, limits, refs)
}

var errTooLarge = errors.New("it is too large")

// bounded fails at the first byte beyond its bound.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errTooLarge
	}
	b.left -= int64(len(p))
	return b.w.Write(p)
}
