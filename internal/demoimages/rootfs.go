package demoimages

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	dockerimage "github.com/docker/docker/api/types/image"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// fromPrograms makes an image that holds compiled programs and nothing else
// but the few files that any program expects.
func (b *builder) fromPrograms(ctx context.Context, img image) error {
	contents := make(map[string]string)
	for _, where := range slices.Sorted(maps.Keys(img.programs)) {
		file, err := b.compile(ctx, img.programs[where])
		if err != nil {
			return err
		}
		contents[where] = file
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(writeRoot(writer, contents, img.dirs)) }()
	defer reader.Close()
	return b.load(ctx, img, reader)
}

// caBundles are the places where systems keep the certificates that programs trust.
var caBundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// writeRoot writes a root file system as a tar: folders, the programs
// (path -> file on this machine), a user and this machine's certificates.
func writeRoot(w io.Writer, programs map[string]string, dirs []directory) error {
	t := rootWriter{tar.NewWriter(w), map[string]bool{"/": true}}
	for _, d := range append([]directory{{"/tmp", 0, 0o1777}, {"/etc", 0, 0o755}}, dirs...) {
		if err := t.dir(d); err != nil {
			return err
		}
	}
	files := map[string]string{
		"/etc/passwd": fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\napp:x:%[1]d:%[1]d:app:/:/bin/sh\n", appUser),
		"/etc/group":  fmt.Sprintf("root:x:0:\napp:x:%d:\n", appUser),
	}
	for _, bundle := range caBundles {
		if content, err := os.ReadFile(bundle); err == nil {
			files[caBundles[0]] = string(content)
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := t.file(name, 0o644, int64(len(files[name])), strings.NewReader(files[name])); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		if err := t.program(name, programs[name]); err != nil {
			return err
		}
	}
	return t.Close()
}

// rootWriter writes tar entries, parents first.
type rootWriter struct {
	*tar.Writer
	made map[string]bool
}

func (t rootWriter) dir(d directory) error {
	if t.made[d.path] {
		return nil
	}
	if err := t.dir(directory{path.Dir(d.path), 0, 0o755}); err != nil {
		return err
	}
	t.made[d.path] = true
	return t.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: strings.TrimPrefix(d.path, "/") + "/",
		Mode: d.mode, Uid: d.uid, Gid: d.uid, ModTime: time.Unix(0, 0),
	})
}

func (t rootWriter) file(name string, mode, size int64, content io.Reader) error {
	if err := t.dir(directory{path.Dir(name), 0, 0o755}); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: size, ModTime: time.Unix(0, 0)}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}

func (t rootWriter) program(name, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return t.file(name, 0o755, info.Size(), f)
}

// load imports a root file system as the image img.
func (b *builder) load(ctx context.Context, img image, root io.Reader) error {
	changes := append(slices.Clone(img.config), fmt.Sprintf("LABEL %s=%s", definitionLabel, img.hash(b.arch)))
	answer, err := b.docker.ImageImport(ctx, dockerimage.ImportSource{Source: root, SourceName: "-"}, img.ref,
		dockerimage.ImportOptions{Message: "built by cc-ci", Changes: changes, Platform: "linux/" + b.arch})
	if err != nil {
		return daemonError("handing the image to Docker", err)
	}
	defer answer.Close()
	return importError(answer)
}

// importError reads the daemon's progress messages for an error among them.
func importError(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var message struct {
			Error string `json:"error"`
		}
		if err := json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &message); err == nil && message.Error != "" {
			return daemonError("handing the image to Docker", errors.New(message.Error))
		}
	}
	if err := lines.Err(); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "reading Docker's answer: %w", err)
	}
	return nil
}
