package swarm

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dswarm "github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// held puts a proxy in front of the daemon that keeps the first request to create an
// object of a kind.
func held(t *testing.T, cli *client.Client, run ccci.RunID, kind string) deploytest.Held {
	t.Helper()
	path := regexp.MustCompile(`^(/v[0-9.]+)?/` + kind + `s/create$`)
	asked, release := make(chan struct{}), make(chan bool, 1)
	var once sync.Once
	var looks atomic.Int64
	daemon := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	daemon.FlushInterval = -1
	daemon.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", strings.TrimPrefix(cli.DaemonHost(), "unix://"))
	}}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/services") {
			looks.Add(1)
		}
		first := false
		if r.Method == http.MethodPost && path.MatchString(r.URL.Path) {
			once.Do(func() { first = true })
		}
		if !first {
			daemon.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		close(asked)
		answer := <-release
		// The daemon does what it was asked to, whether the client is still there or not.
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		if answer {
			daemon.ServeHTTP(w, r)
			return
		}
		daemon.ServeHTTP(httpDiscard{http.Header{}}, r)
		panic(http.ErrAbortHandler)
	})
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	through, err := client.NewClientWithOpts(client.WithHost("unix://"+socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select { // a test that failed has not released it
		case release <- false:
		default:
		}
		through.Close()
		server.Close()
	})
	d := newDeployer(t, through, run)
	d.o.AbsencePatience = 3 * time.Second
	return deploytest.Held{
		Deployer: d, Asked: asked, Looks: func() int { return int(looks.Load()) },
		Release: func(answer bool) { release <- answer },
	}
}

type httpDiscard struct{ header http.Header }

func (d httpDiscard) Header() http.Header       { return d.header }
func (httpDiscard) Write(p []byte) (int, error) { return len(p), nil }
func (httpDiscard) WriteHeader(int)             {}

// The proof of a teardown includes tasks: swarm keeps those of a job.
func TestA19_TasksThatSwarmKeepsAreNamed(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	const run = ccci.RunID("010203-040506-70b5aa")
	app := harness.App{RunID: run, StackName: "job70b5aa_ci_test"}
	labels := owned(nil, run, app.StackName)
	made, err := cli.ServiceCreate(t.Context(), dswarm.ServiceSpec{
		Annotations:  dswarm.Annotations{Name: app.StackName + "_job", Labels: labels},
		Mode:         dswarm.ServiceMode{GlobalJob: &dswarm.GlobalJob{}},
		TaskTemplate: dswarm.TaskSpec{ContainerSpec: &dswarm.ContainerSpec{Image: img, Args: []string{"exit", "0"}, Labels: labels}},
	}, dswarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	of := dswarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", made.ID))}
	var task string
	for task == "" {
		tasks, err := cli.TaskList(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		if len(tasks) > 0 && tasks[0].Status.State == dswarm.TaskStateComplete {
			task = tasks[0].ID
		}
		time.Sleep(50 * time.Millisecond)
	}
	d := newDeployer(t, cli, run)
	d.o.RemovePatience = time.Second
	if _, err := d.Remove(t.Context(), app); ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), task) {
		t.Errorf("Remove: %v, want an error that names task %s", err, task)
	}
}

// A volume that an image asked for bears no label. It is the run's all the same, also when
// its container went without it.
func TestN6_AnonymousVolumesOfTheRunAreItsOwn(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	const run = ccci.RunID("010203-040506-a0101e")
	app := harness.App{RunID: run, StackName: "anonymous_ci_test"}
	d := newDeployer(t, cli, run)
	made, err := cli.ContainerCreate(t.Context(),
		&container.Config{Image: img, Labels: owned(nil, run, app.StackName), Volumes: map[string]struct{}{"/x": {}}}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	ours := func() (names []string) {
		all, err := d.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if o.Kind == kindVolume && o.Run == string(run) {
				names = append(names, o.Name)
			}
		}
		return names
	}
	if len(ours()) != 1 {
		t.Fatalf("the run's volumes are %v", ours())
	}
	if err := cli.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if len(ours()) != 1 {
		t.Errorf("without the container the run's volumes are %v", ours())
	}
	if removed, err := d.Remove(t.Context(), app); err != nil || removed[kindVolume] != 1 {
		t.Errorf("Remove: %v, %v", removed, err)
	}
	if len(ours()) != 0 {
		t.Errorf("after the removal the run's volumes are %v", ours())
	}
}

// Docker from 23 on labels the volumes that it names itself.
func TestN6_AnonymousVolumesOfLaterDockers(t *testing.T) {
	name := strings.Repeat("a1", 32)
	a := anonymous{names: map[string]bool{name: true}, since: time.Now().Add(-time.Minute)}
	created := time.Now().Format(time.RFC3339)
	for _, c := range []struct {
		labels map[string]string
		ours   bool
	}{
		{nil, true},
		{map[string]string{"com.docker.volume.anonymous": ""}, true},
		{map[string]string{"com.docker.volume.anonymous": "", "owner": "another"}, false},
		{map[string]string{"owner": "another"}, false},
	} {
		if got := a.has(&volume.Volume{Name: name, CreatedAt: created, Labels: c.labels}); got != c.ours {
			t.Errorf("%v: %t", c.labels, got)
		}
	}
}

// A volume that another part of the run asks for, and that Docker makes when nothing waits for it any more, does
// not outlive the removal of the run.
func TestA19_RemovalOutlivesRequestsOfTheBackup(t *testing.T) {
	cli := docker(t)
	const run = ccci.RunID("010203-040506-1a7e00")
	name := "cc-ci-backup-" + string(run)
	d := newDeployer(t, cli, run)
	ctx, cancel := context.WithCancel(t.Context())
	asked, release := make(chan struct{}), make(chan struct{})
	made := make(chan error, 1)
	go func() {
		made <- d.Creating(ctx, kindVolume, name, func(ctx context.Context) error {
			close(asked)
			<-release
			_, err := cli.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: owned(nil, run, "")})
			return err
		})
	}()
	<-asked
	cancel()
	if err := <-made; err == nil {
		t.Fatal("a request whose caller has given up succeeds")
	}
	removed := make(chan error, 1)
	go func() {
		_, err := d.Remove(t.Context(), harness.App{RunID: run, StackName: "late_ci_test"})
		removed <- err
	}()
	select {
	case err := <-removed:
		t.Errorf("Remove ends while Docker may still make the volume: %v", err)
	case <-time.After(5 * d.o.PollInterval):
	}
	close(release)
	if err := <-removed; err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := cli.VolumeInspect(t.Context(), name); !cerrdefs.IsNotFound(err) {
		t.Errorf("the volume stays: %v", err)
	}
}
