package demoimages

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// fromDebian makes an image from Debian's packages with mmdebstrap.
func (b *builder) fromDebian(ctx context.Context, img image) error {
	root, err := b.bootstrap(ctx, img)
	if err != nil {
		return err
	}
	f, err := os.Open(root)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "reading the root file system: %w", err)
	}
	defer f.Close()
	return b.load(ctx, img, f)
}

// bootstrap returns the path of the image's root file system as a tar, from
// the cache when it is there.
func (b *builder) bootstrap(ctx context.Context, img image) (string, error) {
	name := strings.NewReplacer(registry, "", ":", "-").Replace(img.ref)
	path := filepath.Join(b.cache, "roots", fmt.Sprintf("%s-%s-%s.tar", name, b.arch, img.hash(b.arch)[:12]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if b.arch != runtime.GOARCH || runtime.GOOS != "linux" {
		return "", ccci.Errorf(ccci.CodeInvalid, "installing Debian packages for %s on %s/%s is not possible", b.arch, runtime.GOOS, runtime.GOARCH).
			WithHint("build on a Linux machine of the daemon's architecture")
	}
	command, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return "", &ccci.Error{
			Code:    ccci.CodeInvalid,
			Message: fmt.Sprintf("installing %s: mmdebstrap is not on PATH", strings.Join(img.debian.packages, " ")),
			Hint:    "install it: apt-get install mmdebstrap",
			Err:     err,
		}
	}
	work, err := os.MkdirTemp("", "cc-ci-debian-")
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "making a folder to build in: %w", err)
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "making the cache folder: %w", err)
	}
	args, err := bootstrapArgs(work, img.debian)
	if err != nil {
		return "", err
	}
	part := path + ".part.tar" // mmdebstrap picks the format from the ending
	defer os.Remove(part)
	cmd := exec.CommandContext(ctx, command, append(args, img.debian.suite, part)...)
	cmd.Dir = work
	// An interrupted mmdebstrap unmounts and removes its work tree; a killed one does not.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := b.run(ctx, "installing "+strings.Join(img.debian.packages, " ")+" from Debian", cmd); err != nil {
		return "", err
	}
	if err := os.Rename(part, path); err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "keeping the root file system: %w", err)
	}
	return path, nil
}

// bootstrapArgs writes the definition down as hooks of mmdebstrap. Hooks are
// shell text; everything in it is a constant of the catalogue.
func bootstrapArgs(work string, d *debian) ([]string, error) {
	args := []string{
		"--quiet", "--variant=minbase",
		"--include=" + strings.Join(d.packages, ","),
	}
	if d.passwd != "" {
		args = append(args, "--essential-hook=echo '"+d.passwd+`' >> "$1/etc/passwd"; echo '`+d.group+`' >> "$1/etc/group"`)
	}
	if len(d.unpacked) > 0 {
		args = append(args, `--customize-hook=cd "$1/tmp" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq download `+strings.Join(d.unpacked, " ")+
			` && for p in *.deb; do dpkg-deb --extract "$p" "$1" || exit 1; done && rm *.deb`)
	}
	for i, name := range slices.Sorted(maps.Keys(d.files)) {
		file := filepath.Join(work, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(d.files[name]), 0o644); err != nil {
			return nil, ccci.Errorf(ccci.CodeInfra, "writing %s for the image: %w", name, err)
		}
		mode := "0644"
		if strings.HasPrefix(d.files[name], "#!") {
			mode = "0755"
		}
		args = append(args, fmt.Sprintf(`--customize-hook=install -D -m %s '%s' "$1%s"`, mode, file, name))
	}
	for _, name := range d.remove {
		args = append(args, fmt.Sprintf(`--customize-hook=rm -rf "$1"%s`, name))
	}
	for _, name := range slices.Sorted(maps.Keys(d.owned)) {
		owner := strings.Split(d.owned[name], ":")
		args = append(args, fmt.Sprintf(`--customize-hook=mkdir -p "$1%[1]s" && chown %[2]s:%[3]s "$1%[1]s" && chmod %[4]s "$1%[1]s"`,
			name, owner[0], owner[1], owner[2]))
	}
	return args, nil
}
