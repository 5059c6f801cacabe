// Package demoimages builds the container images of the example recipes on
// this machine, so that a demonstration and the end-to-end tests deploy real
// software without any image registry.
//
// PocketBase, Miniflux and the small programs beside them are compiled from
// their Go modules at the tagged version; PostgreSQL, MariaDB and WordPress come
// from Debian's own packages. What is slow to make (programs, root file systems) is kept in a
// cache folder, and an image that the daemon already has in its present
// definition is left alone: a second call does nothing but look.
package demoimages

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/client"
	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// definitionLabel carries, on every image made here, the hash of what it was
// made from. A tag with another hash is stale and is made again.
const definitionLabel = "cc-ci.image-definition"

// Options say which images are made, and how.
type Options struct {
	// CacheDir keeps programs and root file systems between calls; "" is
	// DefaultCacheDir. Calls that share a folder, in this process or another, wait
	// for each other.
	CacheDir string

	// Only names the images that are wanted: "pocketbase" for all versions of
	// it, "pocketbase:0.36.8" or "cc-ci.local/pocketbase:0.36.8" for one. Empty: all.
	Only []string

	// Out is told one line of progress at a time, without a line end; nil is allowed.
	Out func(line string)

	// Log takes the commands that run; nil discards.
	Log *slog.Logger
}

// DefaultCacheDir is cc-ci/images in the user's cache folder.
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", &ccci.Error{
			Code:    ccci.CodeInvalid,
			Message: "finding a folder to keep built images in: this user has no cache folder",
			Hint:    "set HOME or XDG_CACHE_HOME",
			Err:     err,
		}
	}
	return filepath.Join(dir, "cc-ci", "images"), nil
}

// References lists the references of all images that can be built, in the
// order in which Ensure builds them.
func References() []string {
	refs := make([]string, len(catalogue))
	for i, img := range catalogue {
		refs[i] = img.ref
	}
	return refs
}

// Ensure makes every wanted image that the daemon lacks. It is idempotent; what
// was built before a failure is kept. The daemon's architecture decides what is
// compiled; what comes from Debian's packages can only be made where it is the
// machine's own.
//
// Errors: CodeInvalid for a name in o.Only that no image has and for a missing
// program (go, mmdebstrap) with a hint how to get it; CodeInfra when building or
// talking to the daemon goes wrong.
func Ensure(ctx context.Context, docker *client.Client, o Options) error {
	wanted, err := selectImages(o.Only)
	if err != nil {
		return err
	}
	if o.CacheDir == "" {
		if o.CacheDir, err = DefaultCacheDir(); err != nil {
			return err
		}
	}
	if o.Out == nil {
		o.Out = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	arch, err := daemonArch(ctx, docker)
	if err != nil {
		return err
	}
	wanted, err = missing(ctx, docker, wanted, arch)
	if err != nil || len(wanted) == 0 {
		return err
	}
	unlock, err := lock(ctx, o)
	if err != nil {
		return err
	}
	defer unlock()
	// Another process may have made them while we waited.
	if wanted, err = missing(ctx, docker, wanted, arch); err != nil {
		return err
	}
	b := &builder{docker: docker, cache: o.CacheDir, arch: arch, out: o.Out, log: o.Log}
	for i, img := range wanted {
		if err := b.build(ctx, img, fmt.Sprintf("image %d of %d", i+1, len(wanted))); err != nil {
			return fmt.Errorf("building the image %s: %w", img.ref, err)
		}
	}
	return nil
}

// selectImages picks from the catalogue, in its order.
func selectImages(only []string) ([]image, error) {
	if len(only) == 0 {
		return catalogue, nil
	}
	var picked []image
	used := make(map[string]bool)
	for _, img := range catalogue {
		short := strings.TrimPrefix(img.ref, registry)
		name, _, _ := strings.Cut(short, ":")
		hit := false
		for _, want := range only {
			if want == img.ref || want == short || want == name {
				used[want], hit = true, true
			}
		}
		if hit {
			picked = append(picked, img)
		}
	}
	for _, want := range only {
		if !used[want] {
			return nil, ccci.Errorf(ccci.CodeInvalid, "building demo images: there is no image %q", want).
				WithHint("these can be built: %s", strings.Join(References(), ", "))
		}
	}
	return picked, nil
}

// missing returns the images that the daemon lacks or has in another definition.
func missing(ctx context.Context, docker *client.Client, images []image, arch string) ([]image, error) {
	images = slices.Clone(images)
	var failure error
	images = slices.DeleteFunc(images, func(img image) bool {
		found, err := docker.ImageInspect(ctx, img.ref)
		switch {
		case client.IsErrNotFound(err):
			return false
		case err != nil:
			failure = daemonError(fmt.Sprintf("looking for the image %s", img.ref), err)
			return false
		}
		return found.Config != nil && found.Config.Labels[definitionLabel] == img.hash(arch)
	})
	return images, failure
}

// daemonArch returns the daemon's architecture in Go's words.
func daemonArch(ctx context.Context, docker *client.Client) (string, error) {
	info, err := docker.Info(ctx)
	if err != nil {
		return "", daemonError("asking Docker for its architecture", err)
	}
	names := map[string]string{"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
	if arch, ok := names[info.Architecture]; ok {
		return arch, nil
	}
	return info.Architecture, nil
}

// lock waits for the cache folder; only one process builds in it at a time.
func lock(ctx context.Context, o Options) (unlock func(), err error) {
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the cache folder for images: %w", err)
	}
	l := flock.New(filepath.Join(o.CacheDir, "lock"))
	got, err := l.TryLock()
	if err == nil && !got {
		o.Out("another process is building images in " + o.CacheDir + ": waiting for it")
		_, err = l.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "locking the cache folder %s: %w", o.CacheDir, err)
	}
	return func() { _ = l.Unlock() }, nil
}

func daemonError(activity string, err error) error {
	return &ccci.Error{
		Code:    ccci.CodeInfra,
		Message: fmt.Sprintf("%s: %v", activity, err),
		Hint:    "is Docker running, and may this user reach its socket?",
		Err:     err,
	}
}
