package swarm

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// docker returns a client of a daemon that manages a swarm. Without one the test
// is skipped on a person's machine and fails in CI.
func docker(t *testing.T) *client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("starts services")
	}
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	info, err := cli.Info(t.Context())
	if err == nil {
		err = swarmState(info.Swarm)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs Docker in swarm mode: %v", err)
		}
		t.Skipf("this test needs Docker in swarm mode: %v", err)
	}
	return cli
}

func newDeployer(t *testing.T, cli *client.Client, run ccci.RunID) *Deployer {
	t.Helper()
	d, err := New(Options{
		RunID: run, Docker: cli,
		Logger:         slog.New(slog.NewTextHandler(t.Output(), nil)),
		PollInterval:   100 * time.Millisecond,
		LoopWindow:     2 * time.Second,
		MemoryInterval: 200 * time.Millisecond,
		Ceilings:       Ceilings{HealthInterval: 100 * time.Millisecond, RestartDelay: 100 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pullAndDeploy brings a stack up as the harness does.
func pullAndDeploy(ctx context.Context, d *Deployer, stack *recipe.Stack) error {
	if _, err := d.Pull(ctx, stack); err != nil {
		return err
	}
	return d.Deploy(ctx, stack)
}

func TestA24_Conformance(t *testing.T) {
	cli := docker(t)
	box := tinyBox(deploytest.BuildImage(t, daemon(cli)))
	deploytest.Run(t, func(t *testing.T, run ccci.RunID) harness.Deployer {
		d := newDeployer(t, cli, run)
		d.o.Box = box
		return d
	}, deploytest.Options{Daemon: daemon(cli), Network: "proxy", Held: func(t *testing.T, run ccci.RunID, kind string) deploytest.Held {
		return held(t, cli, run, kind)
	}})
}

// tinyBox is a helper image that copies, of the tiny app.
func tinyBox(image string) Box {
	return Box{
		Image: image, Hold: []string{"/app", "sleep", "10m"},
		Get: func(dir, name string, limit int64) []string {
			return []string{"/app", "get", dir, name, strconv.FormatInt(limit, 10)}
		},
		Put: func(dir, name string) []string { return []string{"/app", "put", dir, name} },
	}
}

// daemon hands the suite what the port does not offer.
func daemon(cli *client.Client) deploytest.Daemon {
	return deploytest.Daemon{
		Import: func(ctx context.Context, ref string, rootfs io.Reader) error {
			answer, err := cli.ImageImport(ctx, image.ImportSource{Source: rootfs, SourceName: "-"}, ref,
				image.ImportOptions{Changes: []string{`ENTRYPOINT ["/app"]`}})
			if err != nil {
				return err
			}
			defer answer.Close()
			return pullProgress(answer)
		},
		RemoveImage: func(ctx context.Context, ref string) error {
			_, err := cli.ImageRemove(ctx, ref, image.RemoveOptions{Force: true})
			return err
		},
		Volume: func(ctx context.Context, name string, labels map[string]string) error {
			_, err := cli.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: labels})
			return err
		},
		RemoveVolume: func(ctx context.Context, name string) error {
			if err := cli.VolumeRemove(ctx, name, true); !cerrdefs.IsNotFound(err) {
				return err
			}
			return nil
		},
		Kill: func(ctx context.Context, service string) error {
			list, err := cli.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelServiceName+"="+service))})
			for _, c := range list {
				err = cli.ContainerKill(ctx, c.ID, "KILL")
			}
			return err
		},
	}
}
