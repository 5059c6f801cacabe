package box

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// format is part of the digest: raise it when the image changes in a way that
// its files do not show.
const format = "box 1"

// authorities are the places where systems keep their certificate authorities;
// the first that is there is packed. None is fine: nothing in a box must reach out.
var authorities = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt"}

// entry is one file or directory of the image.
type entry struct {
	path   string // within the image, absolute
	source string // on this machine; "" when data counts
	data   []byte
	mode   int64
	dir    bool
}

// fileset is the content of the image, ordered by path, without duplicates.
type fileset []entry

// contents lists what goes into the box.
func contents(binary, restic string) (fileset, error) {
	if restic == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making the helper image: restic is not on this machine").
			WithHint("install the package restic")
	}
	restic = unwrapped(restic)
	set := fileset{
		{path: "/tmp", dir: true, mode: 0o1777},
		{path: "/etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/tmp:/cc-ci\n")},
		{path: "/etc/group", mode: 0o644, data: []byte("root:x:0:\n")},
		{path: Program, source: binary, mode: 0o755},
		{path: Restic, source: restic, mode: 0o755},
	}
	for _, program := range []string{binary, restic} {
		libraries, err := closure(program)
		if err != nil {
			return nil, err
		}
		for _, library := range libraries {
			set = append(set, entry{path: library, source: library, mode: 0o755})
		}
	}
	for _, name := range authorities {
		if _, err := os.Stat(name); err == nil {
			set = append(set, entry{path: "/etc/ssl/certs/ca-certificates.crt", source: name, mode: 0o644})
			break
		}
	}
	return set.normal(), nil
}

// unwrapped returns the program behind a wrapper script as Nix makes them.
func unwrapped(program string) string {
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return program
	}
	hidden := filepath.Join(filepath.Dir(real), "."+filepath.Base(real)+"-wrapped")
	if _, err := os.Stat(hidden); err != nil {
		return program
	}
	f, err := elf.Open(real)
	if err == nil {
		f.Close()
		return program
	}
	return hidden
}

// normal adds parent directories, sorts and removes duplicates.
func (s fileset) normal() fileset {
	all := map[string]entry{}
	for _, e := range s {
		for dir := path.Dir(e.path); dir != "/"; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = entry{path: dir, dir: true, mode: 0o755}
			}
		}
		all[e.path] = e
	}
	sorted := make(fileset, 0, len(all))
	for _, e := range all {
		sorted = append(sorted, e)
	}
	slices.SortFunc(sorted, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	return sorted
}

// digest returns 12 hexadecimal digits over paths, modes and bytes.
func (s fileset) digest() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, format)
	for _, e := range s {
		r, size, err := e.open()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %o %t %d\n", e.path, e.mode, e.dir, size)
		_, err = io.Copy(h, r)
		r.Close()
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", e.source, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// writeTar writes the layer. It holds no times and no owners of this machine.
func (s fileset) writeTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range s {
		r, size, err := e.open()
		if err != nil {
			return err
		}
		header := &tar.Header{Name: strings.TrimPrefix(e.path, "/"), Mode: e.mode, Size: size, Typeflag: tar.TypeReg}
		if e.dir {
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		}
		err = tw.WriteHeader(header)
		if err == nil {
			_, err = io.Copy(tw, r)
		}
		r.Close()
		if err != nil {
			return fmt.Errorf("packing %s: %w", e.path, err)
		}
	}
	return tw.Close()
}

// open returns the bytes of an entry and how many they are.
func (e entry) open() (io.ReadCloser, int64, error) {
	if e.source == "" {
		return io.NopCloser(bytes.NewReader(e.data)), int64(len(e.data)), nil
	}
	f, err := os.Open(e.source)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
