// Package box makes the one helper image of cc-ci, and runs commands in its
// containers.
//
// The image is built from files of this machine and no registry: the running
// cc-ci binary, restic, the shared libraries these two need, and the
// certificate authorities. It is imported under a tag that is the digest of its
// content, so that the same cc-ci never makes it twice and another one never
// uses the wrong one. The ingress and the backups run in it.
package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Label marks every box image; its value is the digest in the tag.
const Label = "cc-ci.box"

// Paths of the two programs within a box.
const (
	Program = "/cc-ci"
	Restic  = "/usr/bin/restic"
)

// repository is the image name; the tag is the digest. No registry is ever asked for it: an image that
// a recipe has pulled could otherwise stand under the tag of the next version (recipe.HelperImage).
const repository = "cc-ci.local/box"

// formerRepository is where versions before had it: a name of Docker Hub.
const formerRepository = "cc-ci/box"

// keepFor is how long a box of another cc-ci, or with another restic, is left alone after its
// owner asked for it: a run needs it again for each container, and may last for hours.
const keepFor = 24 * time.Hour

// building lets one goroutine of a process build at a time. Two processes that
// build the same box at once both succeed, and the one without a tag is removed.
var building sync.Mutex

// Ensure returns the reference of the box made of these two programs, building
// it when the daemon does not have it. Both paths must name ELF programs of this
// machine's architecture; they may be linked dynamically. Boxes of other
// versions that no container uses are removed when nothing has asked for them for a day. It is idempotent and
// safe for concurrent use. Programs that cannot be packed are an
// Error with CodeInvalid, trouble with the daemon is CodeInfra.
func Ensure(ctx context.Context, docker *client.Client, binary, restic string) (string, error) {
	files, err := contents(binary, restic)
	if err != nil {
		return "", err
	}
	digest, err := files.digest()
	if err != nil {
		return "", fmt.Errorf("reading the files of the helper image: %w", err)
	}
	ref := repository + ":" + digest

	building.Lock()
	defer building.Unlock()
	// The daemon notes when an image was tagged last, also where the tag is there already: that is
	// how another version knows that this one is in use.
	err = docker.ImageTag(ctx, ref, ref)
	if cerrdefs.IsNotFound(err) {
		err = build(ctx, docker, files, digest)
	}
	if err != nil {
		return "", infra(err, "making the helper image %s", ref)
	}
	removeOld(ctx, docker, ref)
	return ref, nil
}

// build imports the files as one layer.
func build(ctx context.Context, docker *client.Client, files fileset, digest string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(files.writeTar(w)) }()
	defer r.Close()

	body, err := docker.ImageImport(ctx,
		image.ImportSource{Source: r, SourceName: "-"},
		repository+":"+digest,
		image.ImportOptions{
			Message: "cc-ci helper image",
			Changes: []string{
				fmt.Sprintf("LABEL %s=%s", Label, digest),
				"ENV PATH=/usr/bin:/",
				"WORKDIR /",
				fmt.Sprintf("CMD [%q, %q, %q]", Program, "box", "hold"),
			},
		})
	if err != nil {
		return err
	}
	defer body.Close()
	return readProgress(body)
}

// readProgress reads the daemon's stream of messages to its end; an import that
// fails says so in there, after the status line said 200.
func readProgress(body io.Reader) error {
	dec := json.NewDecoder(body)
	for {
		var line struct {
			Error string `json:"error"`
		}
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the daemon's answer: %w", err)
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
	}
}

// removeOld removes boxes nobody uses. What cannot be removed now (in use, the
// daemon busy) is tried again by the next Ensure, so errors do not matter here.
func removeOld(ctx context.Context, docker *client.Client, keep string) {
	images, err := docker.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("label", Label))})
	if err != nil {
		return
	}
	for _, img := range images {
		used := time.Unix(img.Created, 0)
		if full, err := docker.ImageInspect(ctx, img.ID); err == nil && full.Metadata.LastTagTime.After(used) {
			used = full.Metadata.LastTagTime
		}
		if !outdated(img, keep, time.Since(used)) {
			continue
		}
		// Without force: the daemon refuses when a container uses it.
		_, _ = docker.ImageRemove(ctx, img.ID, image.RemoveOptions{PruneChildren: true})
	}
}

// outdated reports whether an image with our label, last asked for so long ago, may go.
func outdated(img image.Summary, keep string, unused time.Duration) bool {
	tagged := false
	for _, tag := range img.RepoTags {
		ours := strings.HasPrefix(tag, repository+":") || strings.HasPrefix(tag, formerRepository+":")
		if tag == keep || !ours && tag != "<none>:<none>" {
			return false
		}
		tagged = tagged || ours
	}
	return !tagged || unused > keepFor
}

// infra classifies trouble with the daemon, keeping a class that is there.
func infra(err error, format string, args ...any) error {
	var e *ccci.Error
	if errors.As(err, &e) {
		return err
	}
	activity := fmt.Sprintf(format, args...)
	return ccci.Errorf(ccci.CodeInfra, "%s: %w", activity, err).
		WithHint("look at the Docker daemon's log and its free disk space")
}
