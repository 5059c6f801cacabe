package demoimages

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// stillEvery is how often a long step says that it is alive.
const stillEvery = 15 * time.Second

// builder makes images one after the other; it holds the cache folder's lock.
type builder struct {
	docker *client.Client
	cache  string
	arch   string
	out    func(string)
	log    *slog.Logger
}

// build makes one image and hands it to the daemon.
func (b *builder) build(ctx context.Context, img image, count string) error {
	started := time.Now()
	b.out(fmt.Sprintf("%s: %s", count, img.ref))
	var err error
	if img.debian != nil {
		err = b.fromDebian(ctx, img)
	} else {
		err = b.fromPrograms(ctx, img)
	}
	if err != nil {
		return err
	}
	b.out(fmt.Sprintf("%s: %s is ready after %s", count, img.ref, time.Since(started).Round(100*time.Millisecond)))
	return nil
}

// compile returns the path of the compiled program, from the cache when it is there.
func (b *builder) compile(ctx context.Context, p program) (string, error) {
	id := digest(b.arch, fmt.Sprintf("%q", []string{p.name, p.module, p.version, p.pkg, p.ldflags, p.source}))
	path := filepath.Join(b.cache, "programs", fmt.Sprintf("%s-%s-%s-%s", p.name, p.version, b.arch, id[:12]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return "", &ccci.Error{
			Code:    ccci.CodeInvalid,
			Message: fmt.Sprintf("compiling %s %s: the Go toolchain is not on PATH", p.name, p.version),
			Hint:    "install Go (https://go.dev/dl) and put its bin folder on PATH",
			Err:     err,
		}
	}
	module, err := os.MkdirTemp("", "cc-ci-build-")
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "making a folder to compile in: %w", err)
	}
	defer os.RemoveAll(module)
	if err := writeModule(module, p); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "making the cache folder: %w", err)
	}
	pkg := p.pkg
	if p.source != "" {
		pkg = "."
	}
	part := path + ".part"
	cmd := exec.CommandContext(ctx, goCommand, "build", "-mod=mod", "-trimpath", "-buildvcs=false",
		"-ldflags", strings.TrimSpace("-s -w "+p.ldflags), "-o", part, pkg)
	cmd.Dir = module
	// A work file or flags of the checkout around us are not this build's.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch, "GOWORK=off", "GOFLAGS=", "PWD="+module)
	if err := b.run(ctx, fmt.Sprintf("compiling %s %s", p.name, strings.TrimPrefix(p.version, "v")), cmd); err != nil {
		return "", err
	}
	if err := os.Rename(part, path); err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "keeping the compiled %s: %w", p.name, err)
	}
	return path, nil
}

// writeModule makes a module in dir in which go build finds the program. The
// checksum database vouches for what is downloaded.
func writeModule(dir string, p program) error {
	mod := "module cc-ci.local/image\n\ngo 1.24\n"
	files := map[string]string{}
	if p.source != "" {
		files["main.go"] = p.source
	} else {
		mod += fmt.Sprintf("\nrequire %s %s\n", p.module, p.version)
	}
	files["go.mod"] = mod
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "writing the module to compile %s: %w", p.name, err)
		}
	}
	return nil
}

// run runs a long command, saying now and then that it is alive. What the
// command printed is shown only when it failed.
func (b *builder) run(ctx context.Context, activity string, cmd *exec.Cmd) error {
	b.out(activity)
	b.log.Info(activity, "command", cmd.Args)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = 5 * time.Second // a grandchild that keeps the pipe must not keep us
	started := time.Now()
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	alive := time.NewTicker(stillEvery)
	defer alive.Stop()
	for {
		select {
		case <-alive.C:
			b.out(fmt.Sprintf("%s: %s so far", activity, time.Since(started).Round(time.Second)))
		case err := <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", activity, context.Cause(ctx))
			}
			if err != nil {
				return b.failure(activity, output.String(), err)
			}
			return nil
		}
	}
}

// failure tells of a command that failed, and keeps all that it printed.
func (b *builder) failure(activity, output string, err error) error {
	hint := hintFor(output)
	file := filepath.Join(b.cache, "failure.log")
	if os.WriteFile(file, []byte(output), 0o644) == nil {
		hint = strings.TrimPrefix(hint+"; the whole output is in "+file, "; ")
	}
	return &ccci.Error{
		Code:    ccci.CodeInfra,
		Message: fmt.Sprintf("%s: %v: %s", activity, err, lastLines(output, 8)),
		Hint:    hint,
		Err:     err,
	}
}

// hintFor guesses the way out from what a build printed; "" when it cannot.
func hintFor(output string) string {
	switch {
	case strings.Contains(output, "no space left"):
		return "free some disk space (the first build needs about 3 GB) and try again"
	case strings.Contains(output, "dial tcp"), strings.Contains(output, "Could not resolve"),
		strings.Contains(output, "Temporary failure"), strings.Contains(output, "TLS handshake timeout"):
		return "the first build downloads Go modules and Debian packages: check this machine's network, or GOPROXY"
	}
	return ""
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
