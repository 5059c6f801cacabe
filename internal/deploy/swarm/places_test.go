package swarm

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// files are those of an image: folders end with a slash, links hold an arrow. Folders above them are there.
type files []string

func (f files) look(name string) (entry, error) {
	for _, one := range f {
		from, to, isLink := strings.Cut(one, " -> ")
		switch {
		case isLink && from == name:
			return entry{link: to}, nil
		case one == name:
			return entry{}, nil
		case strings.HasPrefix(from, name+"/"):
			return entry{folder: true}, nil
		}
	}
	return entry{missing: true}, nil
}

func TestN3_LinksOfAnImageAreFollowed(t *testing.T) {
	image := files{"/data -> /dev", "/a/b -> ../../proc", "/up -> ../../../etc", "/etc/passwd", "/srv/real/", "/one -> two", "/two -> three/x", "/three -> srv/real",
		"/circle -> /other", "/other -> circle", "/dots -> ./srv/./real/..", "/self -> .", "/shm -> /dev/shm", "/etc/dir -> /etc/passwd", "/root -> /", "/dead -> /nowhere/x"}
	for name, want := range map[string]string{
		"/srv/real/x":                   "/srv/real/x",
		"/new/a/b":                      "/new/a/b",
		"/":                             "/",
		"/data":                         "/dev | /data to /dev",
		"/data/x/y":                     "/dev/x/y | /data to /dev",
		"/a/b/self/fd/7":                "/proc/self/fd/7 | /a/b to /proc",
		"/up/x":                         "/etc/x | /up to /etc",
		"/one/deep":                     "/srv/real/x/deep | /one to /two, /two to /three/x, /three to /srv/real",
		"/dots/real":                    "/srv/real | /dots to /srv",
		"/self/self/new":                "/new | /self to /, /self to /",
		"/shm/x":                        "/dev/shm/x | /shm to /dev/shm",
		"/etc/passwd/x":                 "/etc/passwd/x",
		"/etc/dir/x":                    "/etc/passwd/x | /etc/dir to /etc/passwd",
		"/root":                         "/ | /root to /",
		"/dead/y":                       "/nowhere/x/y | /dead to /nowhere/x",
		"/circle/x":                     "more than 64 folders or 40 links",
		"/" + strings.Repeat("d/", 100): "more than 64 folders or 40 links",
	} {
		got, err := follow(image.look, name)
		var links []string
		for _, l := range got.links {
			links = append(links, l.from+" to "+l.to)
		}
		text := got.end
		if len(links) > 0 {
			text += " | " + strings.Join(links, ", ")
		}
		if err != nil {
			text = err.Error()
		}
		if text != want && (err == nil || ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(text, want)) {
			t.Errorf("%s: %s, want %s", name, text, want)
		}
	}
}

// imageOfTest is an image with what its configuration asks for.
func imageOfTest(id, workingDir string, volumes ...string) image.InspectResponse {
	config := &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{WorkingDir: workingDir, Volumes: map[string]struct{}{}}}
	for _, v := range volumes {
		config.Volumes[v] = struct{}{}
	}
	return image.InspectResponse{ID: id, Config: config}
}

// What a link of an image takes to where admission refuses it is refused, with service, target, link and path.
func TestN3_PlacesInImages(t *testing.T) {
	linked := files{"/data -> /dev", "/a/b -> ../../proc", "/run/", "/var/run -> /run", "/srv/files/"}
	for name, c := range map[string]struct {
		app    string // of the service app, whose image is a
		more   string // further services; those of image b
		a, b   files
		dir    string   // of image a
		ask    []string // VOLUME of image a
		accept []string // of the error; none for none
	}{
		"ordinary":           {app: "volumes: ['data:/srv/files', '/cache', {type: tmpfs, target: /run/x}], configs: [c], secrets: [s], working_dir: /srv", a: linked},
		"secret by /var/run": {app: "secrets: [{source: s, target: /var/run/secrets/s}]", a: linked},
		"volume": {app: "volumes: ['data:/data/x']", a: linked,
			accept: []string{"image a:1 of service app: the volume data would be at /dev/x, where /data/x in its image has /data is a link to /dev", "choose another folder"}},
		"the link itself":       {app: "volumes: ['data:/data']", a: linked, accept: []string{"the volume data would be at /dev, where /data"}},
		"a volume without name": {app: "volumes: [/a/b/c]", a: linked, accept: []string{"the volume without a name would be at /proc/c, where /a/b/c in its image has /a/b is a link to /proc"}},
		"tmpfs":                 {app: "volumes: [{type: tmpfs, target: /data}]", a: linked, accept: []string{"the tmpfs would be at /dev,"}},
		"config":                {app: "configs: [{source: c, target: /data/null}]", a: linked, accept: []string{"the config c would be at /dev/null,"}},
		"config without target": {app: "configs: [c]", a: files{"/c -> /sys/x"}, accept: []string{"the config c would be at /sys/x,"}},
		"secret":                {app: "secrets: [s]", a: files{"/run -> /dev"}, accept: []string{"the secret s would be at /dev/secrets/s,"}},
		"bind mount":            {app: "volumes: ['/srv:/data']", a: linked, accept: []string{"the bind mount would be at /dev,"}},
		"shared memory":         {app: "volumes: [{type: tmpfs, target: /shm}]", a: files{"/shm -> /dev/shm"}},
		"to the root":           {app: "volumes: ['data:/r']", a: files{"/r -> /"}, accept: []string{"the volume data would be at /,"}},
		"a waived place":        {app: "volumes: ['data:/dev/x'], working_dir: /proc/1", a: files{"/dev/"}},
		"working_dir":           {app: "working_dir: /a/b/self/fd/7", a: linked, accept: []string{"the working directory would be at /proc/self/fd/7, where /a/b/self/fd/7"}},
		"working_dir at /":      {app: "working_dir: /r", a: files{"/r -> /"}},
		"WORKDIR":               {a: linked, dir: "/proc/self/fd/7", accept: []string{"the working directory would be at /proc/self/fd/7", "another VOLUME or WORKDIR"}},
		"WORKDIR by a link":     {a: linked, dir: "data/fd/7", accept: []string{"the working directory would be at /dev/fd/7, where /data/fd/7"}},
		"another WORKDIR":       {app: "working_dir: /srv", a: linked, dir: "/proc/self/fd/7"},
		"VOLUME":                {a: linked, ask: []string{"/data/"}, accept: []string{"the volume of the image would be at /dev, where /data"}},
		"VOLUME in /dev":        {a: linked, ask: []string{"/dev/pts"}, accept: []string{"the volume of the image would be at /dev/pts", "another VOLUME or WORKDIR"}},
		"VOLUME of memory":      {a: linked, ask: []string{"/dev/shm", "/srv/files"}},
		"circle":                {app: "volumes: ['data:/x']", a: files{"/x -> x"}, accept: []string{"image a:1 of service app: looking for the place of the volume data: /x leads through"}},
		"link within a volume": {app: "volumes: ['data:/v', 'more:/v/x']", a: files{"/v/x -> /srv"},
			accept: []string{"the volume more would be at /srv, where /v/x in its image has /v/x is a link to /srv; the link lies within the volume data"}},
		"the volume itself is there by a link within": {app: "volumes: ['data:/var/lib/pg/data']", a: files{"/var/lib/pg/data -> ."}, ask: []string{"/var/lib/pg"}}, // as in postgres:18
		"volume of the image over it":                 {app: "volumes: ['data:/v', 'more:/v/x/dev']", a: files{"/q -> /v", "/u -> /v/x/dev"}, ask: []string{"/q"}},
		"place over it": {app: "volumes: ['data:/v', 'more:/u']", a: files{"/q -> /v", "/u -> /v/x/dev"}, ask: []string{"/q"},
			accept: []string{"service app can write the volume and put a link in place of /v/x"}},
		"through another link into a volume": {app: "volumes: ['data:/v', 'more:/q']", a: files{"/q -> /v/x", "/v/x -> /srv"}, accept: []string{"the link lies within the volume data"}},
		"exposed by a link": {app: "volumes: ['data:/v', 'more:/q/y/dev']", a: files{"/q -> /v"},
			accept: []string{"service app: the volume more would be at /v/y/dev, where /q/y/dev in its image has /q is a link to /v, within the volume data: service app can write the volume and put a link in place of /v/y"}},
		"exposed besides what is waived":       {app: "volumes: ['data:/v', 'more:/v/y/dev', 'more:/q/z/dev']", a: files{"/q -> /v"}, accept: []string{"the volume more would be at /v/z/dev"}},
		"exposed as admission has waived it":   {app: "volumes: ['data:/v', 'more:/v/y/dev']"},
		"uncovered by a link of another image": {app: "volumes: ['data:/html:ro', 'more:/html/up:ro']", more: "{image: 'b:1', volumes: ['data:/html', 'more:/html/up']}", b: files{"/html -> /srv/html"}},
		"covered elsewhere": {app: "volumes: ['data:/html:ro', 'more:/html/up:ro']", more: "{image: 'b:1', volumes: ['data:/data', 'more:/data/up']}", b: files{"/data/up -> /srv"},
			accept: []string{"image b:1 of service more: the volume more would be at /srv"}},
		"filled with a link": {app: "volumes: ['data:/v:ro', 'more:/v/x:ro']", more: "{image: 'b:1', volumes: ['data:/data', {type: tmpfs, target: /data/x}]}", a: files{"/v/x/"}, b: files{"/data/x -> /dev"},
			accept: []string{"image b:1 of service more: the tmpfs would be at /dev"}},
		"filled with a link by whom it does not concern": {app: "volumes: ['data:/v:ro', 'more:/v/x/y:ro']", more: "{image: 'b:1', volumes: ['data:/data:ro']}", a: files{"/v/x/"}, b: files{"/data/x -> /dev"},
			accept: []string{"service app: the volume more would be at /v/x/y, within the volume data, which is filled from the image of service more: there /data/x is a link to /dev"}},
		"filled with nothing": {app: "volumes: ['data:/v:ro', 'more:/v/x/y:ro']", more: "{image: 'b:1', volumes: [{type: volume, source: data, target: /data, read_only: true, volume: {nocopy: true}}]}", b: files{"/data/x -> /dev"}},
		"working_dir in what is filled": {app: "volumes: ['data:/v'], working_dir: /v/x", more: "{image: 'b:1', volumes: ['data:/data']}", b: files{"/data/x -> /proc/self/fd/7"},
			accept: []string{"service app: the working directory would be at /v/x, within the volume data"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := "version: '3.8'\nservices:\n  app: {image: 'a:1'"
			if c.app != "" {
				text += ", " + c.app
			}
			text += "}\n"
			if c.more != "" {
				text += "  more: " + c.more + "\n"
			}
			text += "volumes: {data: {}, more: {}}\nconfigs: {c: {file: ./c}}\nsecrets: {s: {file: ./s}}\n"
			stack := deploytest.Stack(t, "s_ci_test", "/recipe", text)
			images := map[string]image.InspectResponse{"a:1": imageOfTest("a", c.dir, c.ask...), "b:1": imageOfTest("b", "")}
			err := judgePlaces(stack, func(s types.ServiceConfig) image.InspectResponse { return images[s.Image] }, func(img image.InspectResponse, name string) (entry, error) {
				return map[string]files{"a": c.a, "b": c.b}[img.ID].look(name)
			})
			if len(c.accept) == 0 {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || ccci.CodeOf(err) != ccci.CodeRecipe {
				t.Fatalf("%v, want %q", err, c.accept)
			}
			for _, want := range c.accept {
				if !strings.Contains(err.Error()+ccci.HintOf(err), want) {
					t.Errorf("no %q in %v (%s)", want, err, ccci.HintOf(err))
				}
			}
		})
	}
}

// Each folder on the way to a place is asked for once, in the container that is there already; a link costs one more request.
func TestN3_EachFolderOfAnImageIsAskedForOnce(t *testing.T) {
	image := files{"/var/lib/data/", "/var/run -> /run", "/run/"}
	var asked []string
	var made int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("path")
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/create"):
			made++
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"Id": "c"}`)
			return
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
			return
		case name != "/etc/passwd" && name != "/etc/group":
			asked = append(asked, r.Method+" "+name)
		}
		at, _ := image.look(name)
		if at.missing {
			http.Error(w, `{"message": "no such file"}`, http.StatusNotFound)
			return
		}
		mode := fs.FileMode(0o755)
		if at.folder {
			mode |= fs.ModeDir
		} else if at.link != "" {
			mode |= fs.ModeSymlink
		}
		stat, _ := json.Marshal(container.PathStat{Name: path.Base(name), Mode: mode})
		w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(stat))
		if r.Method == http.MethodGet {
			files := tar.NewWriter(w)
			files.WriteHeader(&tar.Header{Name: path.Base(name), Typeflag: tar.TypeSymlink, Linkname: at.link})
			files.Close()
		}
	}))
	defer server.Close()
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{RunID: "r", Docker: cli})
	if err != nil {
		t.Fatal(err)
	}
	stack := deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n  app: {image: 'x:1', volumes: ['data:/var/lib/data', 'more:/var/lib/other/deep'], secrets: [s, {source: s, target: /var/run/secrets/x}]}\n"+
		"volumes: {data: {}, more: {}}\nsecrets: {s: {file: ./s}}\n")
	for round, want := range [][]string{
		{"HEAD /run", "HEAD /run/secrets", "HEAD /var", "HEAD /var/lib", "HEAD /var/lib/data", "HEAD /var/lib/other", "HEAD /var/run", "GET /var/run"},
		nil, // what is known is not asked for again
	} {
		asked, made = nil, 0
		if err := d.checkFiles(t.Context(), stack, []*looker{{d: d, ref: "x:1", services: "app", img: imageOfTest("i", "/")}}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(asked)
		slices.Sort(want)
		if !slices.Equal(asked, want) || made != len(want[:min(1, len(want))]) {
			t.Errorf("round %d: asked %q and made %d containers, want %q", round, asked, made, want)
		}
	}
}

// On a real daemon: an image with a link to /dev, /proc or by another link is refused before anything runs,
// and one with a link elsewhere runs with its volume there.
func TestN3_LinksOfRealImages(t *testing.T) {
	cli := docker(t)
	base := deploytest.BuildImage(t, daemon(cli))
	build := func(ref string, links map[string]string, changes ...string) {
		t.Helper()
		derive(t, cli, base, ref, func(w *tar.Writer) error {
			for from, to := range links {
				head := &tar.Header{Name: strings.TrimPrefix(from, "/"), Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
				if to == "" {
					head.Typeflag, head.Mode = tar.TypeDir, 0o755
				}
				if err := w.WriteHeader(head); err != nil {
					return err
				}
			}
			return nil
		}, changes...)
	}
	links := map[string]string{"/a/": "", "/devices": "/dev", "/a/b": "../../proc", "/x": "/y", "/y": "devices", "/elsewhere": "srv/real", "/srv/": "", "/srv/real/": ""}
	build("cc-ci.local/places:links", links)
	build("cc-ci.local/places:workdir", links, "WORKDIR /a/b/self/fd/7")
	build("cc-ci.local/places:volume", links, "VOLUME /x/pts")

	const run = ccci.RunID("010203-040506-91ace5")
	app := harness.App{RunID: run, StackName: "places_ci_test"}
	d := newDeployer(t, cli, run)
	t.Cleanup(func() {
		if _, err := d.Remove(context.WithoutCancel(t.Context()), app); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct{ tag, service, want string }{
		{"links", "volumes: ['data:/devices']", "the volume data would be at /dev, where /devices in its image has /devices is a link to /dev"},
		{"links", "volumes: ['data:/x']", "/x is a link to /y and /y is a link to /devices and /devices is a link to /dev"},
		{"links", "volumes: [{type: tmpfs, target: /a/b/sys}]", "the tmpfs would be at /proc/sys, where /a/b/sys in its image has /a/b is a link to /proc"},
		{"links", "working_dir: /a/b/self/fd/7", "the working directory would be at /proc/self/fd/7"},
		{"workdir", "", "the working directory would be at /proc/self/fd/7"},
		{"volume", "", "the volume of the image would be at /dev/pts"},
	} {
		stack := deploytest.Stack(t, app.StackName, t.TempDir(), "version: '3.8'\nservices:\n  app:\n    image: cc-ci.local/places:"+c.tag+"\n    "+c.service+"\nvolumes: {data: {}}\n")
		if _, err := d.Pull(t.Context(), stack); err == nil || ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s: %v, want %q", c.service, c.tag, err, c.want)
		}
	}
	left, err := cli.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", LabelRun+"="+string(run)))})
	if err != nil || len(left) > 0 {
		t.Errorf("containers are left: %v, %v", left, err)
	}

	stack := deploytest.Stack(t, app.StackName, t.TempDir(), "version: '3.8'\nservices:\n  app:\n    image: cc-ci.local/places:links\n    volumes: ['data:/elsewhere/in']\n    working_dir: /elsewhere\nvolumes: {data: {}}\n")
	if err := pullAndDeploy(t.Context(), d, stack); err != nil {
		t.Fatal(err)
	}
	running, err := d.runningContainer(t.Context(), stack, "app")
	if err != nil {
		t.Fatal(err)
	}
	seen, err := cli.ContainerInspect(t.Context(), running.ID)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(seen.State.Pid), "mountinfo"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(table), " /srv/real/in ") {
		t.Errorf("the volume is not at /srv/real/in:\n%s", table)
	}
}
