package swarm

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// A volume without a name is new in each container, others once; what has no copy counts nothing.
func TestN3_CopiesIntoVolumesAreCounted(t *testing.T) {
	stack := deploytest.Stack(t, "s_ci_test", "/recipe", `
version: "3.8"
services:
  app:
    image: x:1
    deploy: {replicas: 3}
    volumes: ["data:/a/", "/b", {type: volume, source: other, target: /c, volume: {nocopy: true}}, {type: tmpfs, target: /d}]
volumes: {data: {}, other: {}}
`)
	var img image.InspectResponse
	if err := json.Unmarshal([]byte(`{"Config": {"Volumes": {"/a": {}, "/c": {}, "/d/": {}, "/e": {}, "e/": {}}}}`), &img); err != nil {
		t.Fatal(err)
	}
	got := copiesOf(stack.Config.Services[0], img)
	if want := []copied{{"/a", 1}, {"/b", 3}, {"/e", 3}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// dockerd ends no copy of an image's files into a new volume. An image that holds one file at many places is
// refused before anything is deployed; one that is large beside its volumes is not.
func TestN3_CopiesIntoVolumesAreBounded(t *testing.T) {
	cli := docker(t)
	const mib, places = 1 << 20, 12
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	write := func(head tar.Header, data []byte) {
		head.Mode, head.Size = 0o755, int64(len(data))
		if err := w.WriteHeader(&head); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	write(tar.Header{Name: "app", Typeflag: tar.TypeReg}, make([]byte, mib))
	for i := range places {
		write(tar.Header{Name: fmt.Sprintf("d%d/file", i), Typeflag: tar.TypeLink, Linkname: "app"}, nil)
	}
	write(tar.Header{Name: "to-d", Typeflag: tar.TypeSymlink, Linkname: "d0"}, nil)
	write(tar.Header{Name: "small/file", Typeflag: tar.TypeReg}, []byte("x"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const ref = "cc-ci.local/many-places:1"
	answer, err := cli.ImageImport(t.Context(), image.ImportSource{Source: &root, SourceName: "-"}, ref, image.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, answer)
	answer.Close()
	t.Cleanup(func() { cli.ImageRemove(context.Background(), ref, image.RemoveOptions{Force: true}) })

	volumes := func(targets ...string) string {
		return "volumes: ['" + strings.Join(targets, "', '") + "']"
	}
	var all, none []string
	for i := range places {
		all, none = append(all, fmt.Sprintf("/d%d", i)), append(none, fmt.Sprintf("/small/%d", i))
	}
	for name, c := range map[string]struct{ service, want string }{
		"many places":             {volumes(all...), "disk limit: what Docker copies from the images into new volumes is more than 8MiB, with /d"},
		"few of them":             {volumes(all[:3]...), ""},
		"few in many tasks":       {volumes(all[:1]...) + ", deploy: {replicas: 9}", "with /d0 of service app"},
		"by a link":               {volumes("/to-d") + ", deploy: {replicas: 9}", "with /to-d of service app"},
		"many small folders":      {volumes(append(none, "/small")...), ""},
		"folders that it has not": {volumes("/x0", "/x1", "/x2", "/x3", "/x4", "/x5", "/x6", "/x7", "/x8", "/x9"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeployer(t, cli, "010203-040506-c0b1e5")
			d.o.DiskLimit = 8 * mib
			_, err := d.Pull(t.Context(), deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n  app: {image: '"+ref+"', "+c.service+"}\n"))
			if (err == nil) != (c.want == "") || err != nil && (ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// Folders are read only where whole images would be too much, and no further than the limit.
func TestN3_FoldersAreReadWhenImagesAreLarge(t *testing.T) {
	const mib = 1 << 20
	var read atomic.Int64
	var asked, made, removed atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/create"):
			made.Add(1)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"Id": "c"}`)
		case r.Method == http.MethodDelete:
			removed.Add(1)
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Query().Get("path") == "/none/.":
			http.Error(w, `{"message": "no such file"}`, http.StatusNotFound)
		default:
			asked.Add(1)
			w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString([]byte(`{"name": "d"}`)))
			files := tar.NewWriter(w)
			for n := 0; r.URL.Query().Get("path") == "/dirs/." && n < 10_000; n++ {
				if files.WriteHeader(&tar.Header{Name: fmt.Sprintf("%d/", n), Typeflag: tar.TypeDir}) != nil {
					return
				}
			}
			if r.URL.Query().Get("path") == "/dirs/." {
				return
			}
			for {
				if files.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Size: mib}) != nil || r.URL.Query().Get("path") == "/small/." {
					return
				}
				n, err := files.Write(make([]byte, mib))
				if read.Add(int64(n)); err != nil {
					return
				}
			}
		}
	}))
	defer server.Close()
	cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		volume string
		size   int64 // of the image
		looks  int32
		want   string
	}{
		"small image":           {"/endless", mib, 0, ""},
		"large image":           {"/endless", 100 * mib, 1, "disk limit: what Docker copies from the images into new volumes is more than 8MiB, with /endless of service app"},
		"it has no such folder": {"/none", 100 * mib, 0, ""},
		"empty folders, few":    {"/dirs', '/none', '/none', '/none", 0, 0, ""},
		"empty folders, many":   {strings.Repeat("/none', '", 8) + "/dirs", 0, 1, "disk limit: what Docker copies from the images into new volumes is more than 8MiB, with /dirs of service app"},
	} {
		asked.Store(0)
		made.Store(0)
		removed.Store(0)
		d, err := New(Options{RunID: "r", Docker: cli, DiskLimit: 8 * mib})
		if err != nil {
			t.Fatal(err)
		}
		stack := deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n  app: {image: 'x:1', volumes: ['"+c.volume+"']}\n")
		l := &looker{d: d, img: image.InspectResponse{ID: "i", Size: c.size}}
		err = d.checkCopies(t.Context(), stack, func(types.ServiceConfig) *looker { return l })
		l.close(t.Context())
		if (err == nil) != (c.want == "") || err != nil && (ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if asked.Load() != c.looks || made.Load() != removed.Load() {
			t.Errorf("%s: %d folders were read, want %d; %d containers, of which %d were removed", name, asked.Load(), c.looks, made.Load(), removed.Load())
		}
	}
	if n := read.Load(); n > 64*mib {
		t.Errorf("%d bytes were sent of an endless folder", n)
	}
}
