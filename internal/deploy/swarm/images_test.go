package swarm

import (
	"archive/tar"
	"bytes"
	"context"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// derive makes an image from another one until the test ends: with the files that fill writes, and with changes as
// in a Dockerfile.
func derive(t *testing.T, cli *client.Client, base, ref string, fill func(*tar.Writer) error, changes ...string) {
	t.Helper()
	made, err := cli.ContainerCreate(t.Context(), &container.Config{Image: base}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer cli.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{Force: true})
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := fill(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cli.CopyToContainer(t.Context(), made.ID, "/", &archive, container.CopyToContainerOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.ContainerCommit(t.Context(), made.ID, container.CommitOptions{Reference: ref, Changes: changes}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = cli.ImageRemove(context.WithoutCancel(t.Context()), ref, image.RemoveOptions{Force: true})
	})
}
