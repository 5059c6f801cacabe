package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
	"github.com/recipe-maintainers/cc-ci/internal/engine/drone"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// closedDrone is a Drone with all the limits that a host has.
func closedDrone(t *testing.T, forge *gitea.Server, o dronetest.Options) *dronetest.Server {
	t.Helper()
	repo := ccci.RepoRef{Owner: dronetest.User, Name: "cc-ci"}
	o.Server, o.Runner = dronelimits.Server(dronetest.User, repo), dronelimits.Runner(repo)
	d := dronetest.Start(t, forge, o)
	if d.Repo != repo {
		t.Fatalf("the limits are of %s, the repository is %s", repo, d.Repo)
	}
	d.API("PATCH", "/api/repos/"+repo.String(), dronelimits.Wanted())
	return d
}

// A9, A13, A14: the shipped .drone.yml, word for word, starts the installed cc-ci on
// a real Drone. It reads the whole job, knows its shell, and its exit code comes
// back: here 3, because there is no Docker. It ends when its shell is killed (N5).
func TestA13_TheShippedPipelineStartsCCCI(t *testing.T) {
	t.Parallel()
	shipped, err := os.ReadFile("../../.drone.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := filepath.Join(dir, "cc-ci.yml")
	sockets, err := os.MkdirTemp("", "sock") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	socket := filepath.Join(sockets, "docker.sock")
	writeFile(t, cfg, "data: "+filepath.Join(dir, "data")+"\n")
	d := closedDrone(t, gitea.Start(t), dronetest.Options{
		Pipeline: string(shipped),
		Environ:  map[string]string{"CC_CI_CONFIG": cfg, "DOCKER_HOST": "unix://" + socket},
	})
	e, err := drone.New(drone.Options{URL: d.URL, Token: d.Token, Repo: d.Repo})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := e.Start(t.Context(), ccci.Job{
		RunID: "260301-120001-aaaaaa", Recipe: "wiki", Commit: "0123456789abcdef0123456789abcdef01234567", Deadline: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := e.Logs(t.Context(), ref, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	text, err := io.ReadAll(log)
	if err != nil || !strings.Contains(string(text), "Cannot connect to the Docker daemon") || strings.Contains(string(text), "+ cc-ci") {
		t.Errorf("the log is %q, %v", text, err)
	}
	if b, err := e.Status(t.Context(), ref); err != nil || b.Ending != ccci.EndExited || b.ExitCode != exitInfra {
		t.Errorf("the build: %+v, %v; want the end of a harness with code %d", b, err, exitInfra)
	}

	// Now there is a daemon, one that takes its time. The runner kills the shell alone
	// when the build is cancelled; cc-ci notices by itself and ends.
	daemon, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	ref, err = e.Start(t.Context(), ccci.Job{RunID: "260301-120002-aaaaaa", Recipe: "wiki", Commit: "0123456789abcdef0123456789abcdef01234567"})
	if err != nil {
		t.Fatal(err)
	}
	daemon.(*net.UnixListener).SetDeadline(time.Now().Add(time.Minute))
	conn, err := daemon.Accept()
	if err != nil {
		t.Fatalf("cc-ci has not come to its daemon: %v", err)
	}
	defer conn.Close()
	if err := e.Cancel(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("cc-ci lives on after the cancellation: %v", err)
	}
}
