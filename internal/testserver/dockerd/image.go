package dockerd

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// ImportImage streams a file system with these programs into the daemon.
func ImportImage(ctx context.Context, docker *client.Client, reference string, programs map[string]string, changes []string) error {
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(writeRoot(w, programs)) }()
	answer, err := docker.ImageImport(ctx, image.ImportSource{Source: r, SourceName: "-"}, reference, image.ImportOptions{Changes: changes})
	if err != nil {
		return err
	}
	defer answer.Close()
	return answerError(json.NewDecoder(answer))
}

func writeRoot(w io.Writer, programs map[string]string) error {
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return err
	}
	for name, source := range programs {
		f, err := os.Open(source)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Size: info.Size()}); err != nil {
			return err
		}
		if _, err := io.Copy(t, f); err != nil {
			return err
		}
	}
	return t.Close()
}
