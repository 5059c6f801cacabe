package backup

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// U20: what is kept is all of every own volume, whatever the backup leaves out, and
// the same whatever the app is called.
func TestU20_KeptIsEveryVolumeAsAWhole(t *testing.T) {
	a := stack(service("app", "data", "backup=true", "backup.volumes.data.path=dump"), service("cache", "scratch", "backup.volumes.scratch=false"), service("files", "shared"))
	a.Config.Volumes["shared"] = types.VolumeConfig{External: types.External{External: true}}
	b := *a
	b.Name = "other"
	one, errOne := wholePlan(a)
	two, errTwo := wholePlan(&b)
	if errOne != nil || errTwo != nil {
		t.Fatal(errOne, errTwo)
	}
	if !one.Enabled || len(one.BackupPre) != 0 || len(one.Volumes) != 2 {
		t.Fatalf("%+v", one)
	}
	for i, want := range []string{"data", "scratch"} {
		v, w := one.Volumes[i], two.Volumes[i]
		if v.Key != want || v.Paths != nil || v.Root() != "/kept/"+want || w.Root() != v.Root() || v.Name == w.Name {
			t.Errorf("%+v, of another app %+v", v, w)
		}
	}
}

// A volume is mounted below /kept, whatever its key is.
func TestN3_KeptVolumesHaveAFolderEach(t *testing.T) {
	for _, key := range []string{".", "..", "a/b", "../x", ""} {
		s := stack(service("app", key))
		s.Config.Volumes = map[string]types.VolumeConfig{key: {}}
		if plan, err := wholePlan(s); ccci.CodeOf(err) != ccci.CodeInvalid && len(plan.Volumes) > 0 {
			t.Errorf("%q is mounted at %q, %v", key, plan.Volumes[0].At, err)
		}
	}
}

func TestU20_KeptSecretsAndNames(t *testing.T) {
	dir := t.TempDir()
	k := NewKept(dir, Options{RunID: "261121-030000-abcdef"})
	s := stack(service("app", ""))
	s.Recipe = "wiki"
	kept, err := k.Keep(t.Context(), s, map[string]ccci.Secret{"db_password": ccci.NewSecret("hunter2")})
	if err != nil || kept.Snapshot != "" || len(kept.Volumes) != 0 {
		t.Fatalf("%+v, %v", kept, err)
	}
	file := filepath.Join(dir, "wiki", "261121-030000-abcdef", "secrets.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	c := ccci.Canonical{Recipe: "wiki", Run: "261121-030000-abcdef", Kept: kept}
	if secrets, err := k.Secrets(c); err != nil || secrets["db_password"].Reveal() != "hunter2" {
		t.Errorf("%v, %v", secrets, err)
	}
	if err := k.Fill(t.Context(), s, c); err != nil {
		t.Errorf("an app without volumes: %v", err)
	}
	c.Kept.Volumes = []string{"data"}
	if err := k.Fill(t.Context(), s, c); err == nil || !strings.Contains(err.Error(), `is of the volumes ["data"]`) {
		t.Errorf("volumes that are not those kept: %v", err)
	}
	for _, odd := range []ccci.Canonical{{Recipe: "wiki", Run: "../other"}, {Recipe: "..", Run: "x"}, {Recipe: "a/b", Run: "x"}, {Recipe: "", Run: "x"}} {
		if _, err := k.Secrets(odd); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%+v: %v", odd, err)
		}
	}
	if _, err := k.Secrets(ccci.Canonical{Recipe: "wiki", Run: "gone"}); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("%v", err)
	}
}

func TestU20_Prune(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"wiki/1", "wiki/2/restic", "wiki/3", "blog/1"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Prune(dir, "wiki", "2", "3"); err != nil {
			t.Fatal(err)
		}
	}
	if err := Prune(dir, "none"); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	for i := range left {
		left[i], _ = filepath.Rel(dir, left[i])
	}
	if !slices.Equal(left, []string{"blog/1", "wiki/2", "wiki/3"}) {
		t.Errorf("left: %q", left)
	}
}

// N3: Docker answers a request for a volume with the one that is there, whoever made it. Nothing is restored into that.
func TestN3_KeptDataFillsNoVolumeOfTheOperators(t *testing.T) {
	for labels, want := range map[string]ccci.Code{"{}": ccci.CodeRecipe, `{"cc-ci.run": "kept-two"}`: ""} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"Name": "media", "Labels": %s}`, labels)
		}))
		defer server.Close()
		docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
		if err != nil {
			t.Fatal(err)
		}
		k := NewKept(t.TempDir(), Options{Docker: docker, RunID: "kept-two"})
		if err := k.makeVolume(t.Context(), stack(service("app", "data")), Volume{Key: "data", Name: "media"}); err == nil && want != "" || err != nil && ccci.CodeOf(err) != want {
			t.Errorf("labels %s: %v, want code %q", labels, err, want)
		}
	}
}

// U20, A26: what one app's volume held another app's volume holds, owners and modes
// included, before anything of it is deployed.
func TestU20_KeptDataFillsAnotherApp(t *testing.T) {
	a := newApp(t)
	a.sh("echo A > /data/file; umask 077; echo secret > '/data/odd [name]*'")
	dir := t.TempDir()
	s := stack(service("app", "data", "backup=true"))
	s.Recipe, s.Name = "wiki", strings.TrimSuffix(a.volume, "_data")
	keeper := NewKept(dir, Options{Docker: a.docker, Box: a.box, RunID: "kept-one"})
	if err := a.docker.ContainerStop(t.Context(), a.container, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	kept, err := keeper.Keep(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := *s
	other.Name = s.Name + "-other"
	filler := NewKept(dir, Options{Docker: a.docker, Box: a.box, RunID: "kept-two"})
	after := context.WithoutCancel(t.Context())
	t.Cleanup(func() { _ = a.docker.VolumeRemove(after, other.Name+"_data", true) })
	if err := filler.Fill(t.Context(), &other, ccci.Canonical{Recipe: "wiki", Run: "kept-one", Kept: kept}); err != nil {
		t.Fatal(err)
	}
	made, err := a.docker.VolumeInspect(t.Context(), other.Name+"_data")
	if err != nil || made.Labels[labelStack] != other.Name || a.left("kept-two") != "0 containers, 1 volumes" || a.left("kept-one") != "0 containers, 0 volumes" {
		t.Errorf("%+v, %v; left: %s, %s", made, err, a.left("kept-one"), a.left("kept-two"))
	}
	again, err := filler.Keep(t.Context(), &other, nil) // read back what the other volume holds
	if err != nil {
		t.Fatal(err)
	}
	own, folder, err := filler.read(ccci.Canonical{Recipe: "wiki", Run: "kept-two"})
	if err != nil {
		t.Fatal(err)
	}
	read := New(filler.options(folder, ccci.NewSecret(own.Password)))
	defer read.Close(t.Context())
	plan, err := wholePlan(&other)
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Open(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	files, err := read.List(t.Context(), Snapshot{ID: again.Snapshot})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/kept/data/file", "/kept/data/odd [name]*"} {
		if !slices.ContainsFunc(files, func(f File) bool { return f.Path == want && f.Size > 0 }) {
			t.Errorf("%s is not there: %+v", want, files)
		}
	}
}
