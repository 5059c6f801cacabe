package swarm

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// movingRegistry has one repository, app, whose tag 1 can be moved. It counts what is asked for manifests.
type movingRegistry struct {
	mu        sync.Mutex
	blobs     map[string][]byte // by digest
	manifests map[string][]byte // by digest
	tag       string            // digest
	asked     []string
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

// push makes an image of the tiny app that answers with version, and moves the tag to it.
func (r *movingRegistry) push(t *testing.T, rootfs []byte, version string) {
	t.Helper()
	var layer bytes.Buffer
	w := gzip.NewWriter(&layer)
	if _, err := w.Write(rootfs); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text := func(v any) []byte {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	type object = map[string]any
	config := text(object{
		"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
		"config": object{"Entrypoint": []string{"/app"}, "Env": []string{"VERSION=" + version}},
		"rootfs": object{"type": "layers", "diff_ids": []string{digestOf(rootfs)}},
	})
	manifest := text(object{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": object{"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digestOf(config)},
		"layers": []object{{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer.Len(), "digest": digestOf(layer.Bytes())}},
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[digestOf(config)], r.blobs[digestOf(layer.Bytes())] = config, layer.Bytes()
	r.tag = digestOf(manifest)
	r.manifests[r.tag] = manifest
}

func (r *movingRegistry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	name := request.URL.Path[strings.LastIndex(request.URL.Path, "/")+1:]
	content := []byte("{}")
	switch {
	case strings.Contains(request.URL.Path, "/manifests/"):
		r.asked = append(r.asked, request.Method+" "+name)
		if name == "1" {
			name = r.tag
		}
		content = r.manifests[name]
		w.Header().Set("Content-Type", manifestType)
	case strings.Contains(request.URL.Path, "/blobs/"):
		content = r.blobs[name]
	}
	if content == nil {
		http.NotFound(w, request)
		return
	}
	w.Header().Set("Docker-Content-Digest", digestOf(content))
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if request.Method != http.MethodHead {
		_, _ = w.Write(content)
	}
}

// questions returns what was asked for the tag, and forgets it.
func (r *movingRegistry) questions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.asked = nil }()
	return r.asked
}

// moving is a run's app whose image comes from a registry that can move its tag.
type moving struct {
	*movingRegistry
	t      *testing.T
	cli    *client.Client
	app    harness.App
	ref    string
	rootfs []byte
	stack  *recipe.Stack
}

func newMoving(t *testing.T, id string) *moving {
	m := &moving{
		movingRegistry: &movingRegistry{blobs: map[string][]byte{}, manifests: map[string][]byte{}},
		t:              t, cli: docker(t), rootfs: deploytest.RootFS(t).Bytes(),
		app: harness.App{RunID: ccci.RunID("010203-040506-" + id), StackName: "moving" + id + "_ci_test"},
	}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.ref = server.Listener.Addr().String() + "/app:1"
	m.stack = deploytest.Stack(t, m.app.StackName, t.TempDir(), `
version: "3.8"
services:
  app:
    image: `+m.ref+`
    deploy: {replicas: 2}
    healthcheck: {test: ["CMD", "/app", "health"], interval: 250ms, timeout: 2s, retries: 8}
    stop_grace_period: 1s
`)
	t.Cleanup(func() {
		if _, err := m.deployer().Remove(context.Background(), m.app); err != nil {
			t.Errorf("removing the app: %v", err)
		}
	})
	return m
}

func (m *moving) deployer() *Deployer { return newDeployer(m.t, m.cli, m.app.RunID) }

// pull returns the image of the only service, which leaves the daemon at the end.
func (m *moving) pull(d *Deployer) ccci.Image {
	m.t.Helper()
	images, err := d.Pull(m.t.Context(), m.stack)
	if err != nil || len(images) != 1 || images[0].Reference != m.ref {
		m.t.Fatalf("Pull: %v, %v", images, err)
	}
	m.t.Cleanup(func() {
		_, _ = m.cli.ImageRemove(context.Background(), images[0].Digest, image.RemoveOptions{Force: true})
	})
	return images[0]
}

func (m *moving) deploy(d *Deployer) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	return d.Deploy(ctx, m.stack)
}

// containers returns the running containers, and complains of those that have another image.
func (m *moving) containers(image string) []string {
	m.t.Helper()
	list, err := m.cli.ContainerList(m.t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+m.app.StackName))})
	if err != nil {
		m.t.Fatal(err)
	}
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
		if c.ImageID != image {
			m.t.Errorf("container %s runs %s, and the result says %s", c.Names, c.ImageID, image)
		}
	}
	slices.Sort(ids)
	return ids
}

// What runs is what was pulled, bounded and recorded: a registry that moves a tag between the pull and the start
// of a task, or during a run, is not asked again.
func TestN3_ATagThatMovesDuringARun(t *testing.T) {
	m := newMoving(t, "a0a0a0")
	m.push(t, m.rootfs, "one")
	d := m.deployer()
	first := m.pull(d)
	byTag := func(asked []string) (n int) {
		for _, q := range asked {
			if q == "GET 1" {
				n++
			}
		}
		return n
	}
	if asked := m.questions(); byTag(asked) > 1 || len(asked) == 0 {
		t.Errorf("the pull asks %v", asked)
	}
	if !strings.HasSuffix(first.RepoDigest, "@"+m.tag) {
		t.Errorf("the result has the digest %s of %s", first.RepoDigest, m.tag)
	}

	m.push(t, m.rootfs, "two")
	if err := m.deploy(d); err != nil {
		t.Fatalf("Deploy: %v", err)
	}
	before := m.containers(first.Digest)
	if len(before) != 2 {
		t.Errorf("%d containers run", len(before))
	}
	if asked := m.questions(); len(asked) > 0 {
		t.Errorf("after the pull the registry is asked %v", asked)
	}
	svc, _, err := m.cli.ServiceInspectWithRaw(t.Context(), m.app.StackName+"_app", swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := svc.Spec.TaskTemplate.ContainerSpec; c.Image != first.Digest || svc.Spec.Labels[labelStackImage] != m.ref {
		t.Errorf("the service has %s, %v", c.Image, svc.Spec.Labels)
	}

	// The next version of the same run names the same tag.
	if again := m.pull(d); again != first {
		t.Errorf("the same run has %v and %v for one reference", first, again)
	}
	if err := m.deploy(d); err != nil {
		t.Fatalf("deploying again: %v", err)
	}
	if after := m.containers(first.Digest); !slices.Equal(after, before) {
		t.Error("the same image makes new tasks")
	}
	if asked := m.questions(); len(asked) > 0 {
		t.Errorf("the second pull of a run asks %v", asked)
	}

	// Another run asks again. On the same service the other image makes new tasks.
	other := m.deployer()
	second := m.pull(other)
	if second.Digest == first.Digest || second.Reference != first.Reference || !strings.HasSuffix(second.RepoDigest, "@"+m.tag) {
		t.Errorf("after the tag has moved: %v, before: %v", second, first)
	}
	if asked := m.questions(); byTag(asked) > 1 || len(asked) == 0 {
		t.Errorf("the other run asks %v", asked)
	}
	if err := m.deploy(other); err != nil {
		t.Fatalf("deploying the other image: %v", err)
	}
	after := m.containers(second.Digest)
	if len(after) != 2 || slices.ContainsFunc(after, func(id string) bool { return slices.Contains(before, id) }) {
		t.Errorf("the other image runs in %v, before %v", after, before)
	}
	if asked := m.questions(); len(asked) > 0 {
		t.Errorf("after the pull the registry is asked %v", asked)
	}
}

// An image of this machine is used when no registry answers for it, as docker stack deploy does.
func TestU19_ARegistryThatIsDownFailsNoRunThatHasTheImage(t *testing.T) {
	m := newMoving(t, "b0b0b0")
	m.push(t, m.rootfs, "one")
	first := m.pull(m.deployer())
	m.mu.Lock()
	m.tag = ""
	m.mu.Unlock()
	if again := m.pull(m.deployer()); again != first {
		t.Errorf("%v, want %v", again, first)
	}
}

// What removes an image during a run is named, and is no fault of the recipe.
func TestU19_AnImageThatIsRemovedBeforeItsTask(t *testing.T) {
	m := newMoving(t, "c0c0c0")
	m.push(t, m.rootfs, "one")
	d := m.deployer()
	pulled := m.pull(d)
	if _, err := m.cli.ImageRemove(t.Context(), pulled.Digest, image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	err := m.deploy(d)
	var de *harness.DeployError
	if !errors.As(err, &de) || de.Reason != "rejected" || ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" || !strings.Contains(err.Error(), m.ref) {
		t.Errorf("%v: %s, hint %q", err, ccci.CodeOf(err), ccci.HintOf(err))
	}
}

// Docker resolves the ID of an image, and the beginning of one, to an image of this machine, which a run must not get.
func TestN3_AnIDIsNoReference(t *testing.T) {
	cli := docker(t)
	ref := deploytest.BuildImage(t, daemon(cli))
	img, err := cli.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	_, hex, _ := strings.Cut(img.ID, ":")
	for _, id := range []string{img.ID, hex} {
		d := newDeployer(t, cli, "010203-040506-d0d0d0")
		stack := deploytest.Stack(t, "ids_ci_test", t.TempDir(), "services:\n  app:\n    image: "+id+"\n")
		if got, err := d.Pull(t.Context(), stack); ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "app") {
			t.Errorf("%s: %v, %v", id, got, err)
		}
	}
	short := hex[:12]
	if found, err := cli.ImageInspect(t.Context(), short); err != nil || found.ID != img.ID {
		t.Fatalf("Docker resolves %s to %s, %v: the test shows nothing", short, found.ID, err)
	}
	name, err := qualified(short)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := cli.ImageInspect(t.Context(), name); err == nil {
		t.Errorf("Docker resolves %s to %s", name, found.ID)
	}
}
