package swarm

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// CopyIn writes files into the newest running container of a service. A file that
// exists keeps its owner and mode; a new one gets its folder's owner and mode 0644.
// Missing folders are made.
func (d *Deployer) CopyIn(ctx context.Context, stack *recipe.Stack, service string, files map[string][]byte) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !path.IsAbs(name) || path.Clean(name) != name || name == "/" {
			return ccci.Errorf(ccci.CodeInvalid, "copying into service %s: %q is not an absolute, clean path", service, name)
		}
	}
	id, err := d.runningContainer(ctx, stack, service)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := d.copyFile(ctx, id, name, files[name]); err != nil {
			return d.copyFault(fmt.Sprintf("copying %s into service %s", name, service), err)
		}
	}
	return nil
}

// copyFault blames the recipe for what its container has in a file's place. The daemon
// reports that as an error of its own when it unpacks the archive.
func (d *Deployer) copyFault(activity string, err error) error {
	text := words(err)
	for _, theirs := range []string{
		"cannot overwrite", "not a directory", "is a directory", "file exists", "too many levels of symbolic links", "too many links",
		"read-only", "operation not permitted", "permission denied", "disk quota exceeded", "file name too long",
	} {
		if strings.Contains(strings.ToLower(text), theirs) {
			return &ccci.Error{Code: ccci.CodeRecipe, Message: activity + ": " + clip(text, 300), Err: err}
		}
	}
	return d.fault(activity, err)
}

// copyFile extracts an archive at the nearest folder that exists: the daemon lets a
// container with a read-only root write below a volume only when told so.
func (d *Deployer) copyFile(ctx context.Context, id, name string, data []byte) error {
	head := tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}
	base := path.Dir(name)
	for {
		_, err := d.docker.ContainerStatPath(ctx, id, base)
		if err == nil {
			break
		}
		if !cerrdefs.IsNotFound(err) || base == "/" {
			return err
		}
		base = path.Dir(base)
	}
	if old, err := d.header(ctx, id, name); err == nil && old.Typeflag == tar.TypeReg {
		head.Uid, head.Gid, head.Mode = old.Uid, old.Gid, old.Mode
	} else if folder, err := d.header(ctx, id, base); err == nil {
		head.Uid, head.Gid = folder.Uid, folder.Gid
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	rel := strings.TrimPrefix(strings.TrimPrefix(name, base), "/")
	for i, c := range rel {
		if c != '/' {
			continue
		}
		folder := tar.Header{Typeflag: tar.TypeDir, Name: rel[:i] + "/", Mode: 0o755, Uid: head.Uid, Gid: head.Gid}
		if err := w.WriteHeader(&folder); err != nil {
			return err
		}
	}
	head.Name = rel
	if err := w.WriteHeader(&head); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return d.docker.CopyToContainer(ctx, id, base, &archive, container.CopyToContainerOptions{CopyUIDGID: false})
}

// header reads how a path is stored, without its content.
func (d *Deployer) header(ctx context.Context, id, name string) (*tar.Header, error) {
	stream, _, err := d.docker.CopyFromContainer(ctx, id, name)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return tar.NewReader(stream).Next()
}

// CopyOut reads a file of at most limit bytes. A link is followed within the container.
func (d *Deployer) CopyOut(ctx context.Context, stack *recipe.Stack, service, name string, limit int64) ([]byte, error) {
	activity := fmt.Sprintf("copying %s out of service %s", name, service)
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if !path.IsAbs(name) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s: the path is not absolute", activity)
	}
	id, err := d.runningContainer(ctx, stack, service)
	if err != nil {
		return nil, err
	}
	const links = 8
	for range links {
		data, target, err := d.readFile(ctx, id, name, limit)
		switch {
		case cerrdefs.IsNotFound(err):
			return nil, ccci.Errorf(ccci.CodeNotFound, "%s: there is no such file", activity)
		case err != nil:
			return nil, d.fault(activity, err)
		case target == "":
			return data, nil
		case path.IsAbs(target):
			name = target
		default:
			name = path.Join(path.Dir(name), target)
		}
	}
	return nil, ccci.Errorf(ccci.CodeRecipe, "%s: it is a chain of more than %d links", activity, links)
}

// readFile returns a file's content, or where a link points to.
func (d *Deployer) readFile(ctx context.Context, id, name string, limit int64) (data []byte, target string, err error) {
	stream, _, err := d.docker.CopyFromContainer(ctx, id, name)
	if err != nil {
		return nil, "", err
	}
	defer stream.Close()
	r := tar.NewReader(stream)
	head, err := r.Next()
	switch {
	case err != nil:
		return nil, "", err
	case head.Typeflag == tar.TypeSymlink:
		return nil, head.Linkname, nil
	case head.Typeflag != tar.TypeReg:
		return nil, "", ccci.Errorf(ccci.CodeRecipe, "copying out of a container: %s is not a regular file", name)
	case head.Size > limit:
		return nil, "", ccci.Errorf(ccci.CodeRecipe, "copying out of a container: %s has %d bytes, more than %d", name, head.Size, limit)
	}
	data, err = io.ReadAll(r)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the daemon sent only a part of %s: %w", name, err)
	}
	return data, "", err
}
