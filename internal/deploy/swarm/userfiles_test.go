package swarm

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// dockerd opens some files of an image by itself when a container starts. An image in which they are pipes or
// devices is refused before anything is deployed; one that has none of them, or links, is not.
func TestN3_FilesThatDockerdOpensAreRegular(t *testing.T) {
	cli := docker(t)
	long := strings.Repeat("x:x:1:1::/:/\n", 100_000)
	for name, c := range map[string]struct {
		files []tar.Header
		text  string // of regular files
		want  string
	}{
		"none":    {[]tar.Header{{Name: "app", Typeflag: tar.TypeReg}}, "x", ""},
		"regular": {[]tar.Header{{Name: "etc/passwd", Typeflag: tar.TypeReg}, {Name: "etc/group", Typeflag: tar.TypeReg}}, "root:x:0:0::/:/bin/sh\n", ""},
		"link":    {[]tar.Header{{Name: "etc/passwd", Typeflag: tar.TypeSymlink, Linkname: "../usr/passwd"}, {Name: "usr/passwd", Typeflag: tar.TypeReg}}, "root:x:0:0::/:/bin/sh\n", ""},
		"pipe":    {[]tar.Header{{Name: "etc/passwd", Typeflag: tar.TypeFifo}}, "", "its /etc/passwd is no regular file"},
		"link to a pipe": {[]tar.Header{{Name: "etc/group", Typeflag: tar.TypeSymlink, Linkname: "other"}, {Name: "etc/other", Typeflag: tar.TypeSymlink, Linkname: "/pipe"},
			{Name: "pipe", Typeflag: tar.TypeFifo}}, "", "its /etc/group is no regular file"},
		"circle": {[]tar.Header{{Name: "etc/passwd", Typeflag: tar.TypeSymlink, Linkname: "passwd"}}, "", "its /etc/passwd cannot be looked at"},
		"device": {[]tar.Header{{Name: "etc/group", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5}}, "", "its /etc/group is no regular file"},
		"long":   {[]tar.Header{{Name: "etc/passwd", Typeflag: tar.TypeReg}}, long, "its /etc/passwd has 1.24MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			ref := "cc-ci.local/user-files-" + strings.ReplaceAll(name, " ", "-") + ":1"
			var root bytes.Buffer
			w := tar.NewWriter(&root)
			for _, head := range c.files {
				head.Mode = 0o644
				if head.Typeflag == tar.TypeReg {
					head.Size = int64(len(c.text))
				}
				if err := w.WriteHeader(&head); err != nil {
					t.Fatal(err)
				}
				if head.Typeflag == tar.TypeReg {
					io.WriteString(w, c.text)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			answer, err := cli.ImageImport(t.Context(), image.ImportSource{Source: &root, SourceName: "-"}, ref, image.ImportOptions{Changes: []string{"VOLUME /data /data/ /etc", "USER nobody"}})
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, answer)
			answer.Close()
			t.Cleanup(func() { cli.ImageRemove(context.Background(), ref, image.RemoveOptions{Force: true}) })
			d := newDeployer(t, cli, "010203-040506-0f11e5")
			_, err = d.Pull(t.Context(), deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: "+ref+"\n"))
			if (err == nil) != (c.want == "") || err != nil && (ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			left, err := cli.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", LabelRun+"=010203-040506-0f11e5"))})
			if err != nil || len(left) > 0 {
				t.Errorf("containers are left: %v, %v", left, err)
			}
		})
	}
}
