package bench

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/examples"
)

const (
	teardowns   = 5
	teardownBar = time.Second
)

// BenchmarkTinyTeardown measures what a person waits for after the last check of a
// tiny app: everything is removed, and the daemon was looked at and holds nothing of it.
// The reference is docker stack rm, with the volume removed as soon as that is possible.
func BenchmarkTinyTeardown(b *testing.B) {
	w := ready(b)
	repo, err := examples.Materialise(filepath.Join(w.dir, "recipes"), "canary-good")
	if err != nil {
		b.Fatal(err)
	}
	config, _ := w.config(b, "")
	for b.Loop() {
		var ours, theirs []time.Duration
		for range teardowns {
			// With the backup there is a container and a volume more to remove.
			_, result := w.run(b, config, repo, "canary-good", "--stages", "install,backup")
			ours = append(ours, result.Teardown.Duration)
			theirs = append(theirs, w.stackRemoval(b))
		}
		ratio := median(ours).Seconds() / median(theirs).Seconds()
		b.ReportMetric(median(ours).Seconds(), "s/teardown")
		verdict(b, median(ours) <= teardownBar, row{
			figure: fmt.Sprintf("teardown of a tiny app, proven empty, median of %d", teardowns), ours: fmt.Sprintf("%s (%s)", seconds(median(ours)), list(ours)),
			reference: fmt.Sprintf("docker stack rm %s (%s)", seconds(median(theirs)), list(theirs)), ratio: fmt.Sprintf("%.2f", ratio), bar: "<= " + seconds(teardownBar),
		})
	}
}

// tiny is the canary's app as a plain compose file.
const tiny = `version: "3.8"
services:
  app:
    image: cc-ci.local/tinyapp:1.0.0
    volumes: ["data:/data"]
    networks: [own]
    deploy: {endpoint_mode: dnsrr}
networks:
  own: {driver: overlay}
volumes:
  data:
`

// stackRemoval deploys the same app and removes it as Docker does.
func (w *world) stackRemoval(b *testing.B) time.Duration {
	b.Helper()
	stack := "bench-rm-" + strings.ToLower(rand.Text()[:6])
	file := filepath.Join(b.TempDir(), "compose.yml")
	if err := os.WriteFile(file, []byte(tiny), 0o644); err != nil {
		b.Fatal(err)
	}
	docker := func(args ...string) (string, error) {
		cmd := exec.CommandContext(b.Context(), "docker", args...)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, &stderr)
		}
		return strings.TrimSpace(out.String()), nil
	}
	if _, err := docker("stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", file, stack); err != nil {
		b.Fatal(err)
	}
	label := "label=com.docker.stack.namespace=" + stack
	err := await(b.Context(), 200*time.Millisecond, func() (bool, error) {
		ids, err := docker("ps", "--quiet", "--filter", label)
		return ids != "", err
	})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if _, err := docker("stack", "rm", stack); err != nil {
		b.Fatal(err)
	}
	err = await(b.Context(), 100*time.Millisecond, func() (bool, error) {
		containers, err := docker("ps", "--all", "--quiet", "--filter", label)
		if err != nil || containers != "" {
			return false, err
		}
		networks, err := docker("network", "ls", "--quiet", "--filter", label)
		if err != nil || networks != "" {
			return false, err
		}
		_, err = docker("volume", "rm", stack+"_data")
		return err == nil, err
	})
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}
