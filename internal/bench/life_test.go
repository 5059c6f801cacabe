package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// pairs is how many lives of each kind are measured, in turn. The ratio is the median of theirs: a machine's
// speed drifts, and a healthcheck each second moves a life by a second.
const pairs = 5

// How much longer cc-ci may take than the script by hand.
const minifluxBar, wordpressBar = 1.05, 1.10

// BenchmarkMinifluxLife and the one after it compare whole lives, from the checkout to nothing left.
func BenchmarkMinifluxLife(b *testing.B) { life(b, miniflux, minifluxBar) }

func BenchmarkWordPressLife(b *testing.B) { life(b, wordpress, wordpressBar) }

func life(b *testing.B, a app, bar float64) {
	if os.Geteuid() != 0 {
		b.Fatal("the script by hand runs restic on the daemon's own volume folder: run make bench as root")
	}
	w := ready(b)
	const parent = "bench.localhost"
	repo, err := examples.Materialise(filepath.Join(w.dir, "recipes"), a.recipe)
	if err != nil {
		b.Fatal(err)
	}
	proxy := newProxy(b, w, parent)
	config, _ := w.config(b, "")
	for b.Loop() {
		var ours, theirs []time.Duration
		program := func() {
			took, result := w.run(b, config, repo, a.recipe)
			if result.Level != 5 {
				b.Fatalf("cc-ci run came to level %d: %s", result.Level, result.LevelReason)
			}
			ours = append(ours, took)
			b.Logf("cc-ci   %5.1f s: %s", took.Seconds(), stages(took, result))
		}
		person := func() {
			o := newOperator(b, w, proxy, parent, repo, a)
			took := o.life()
			theirs = append(theirs, took)
			b.Logf("by hand %5.1f s: %s", took.Seconds(), strings.Join(o.phases, ", "))
		}
		for i := range pairs { // who goes first changes, since the machine's load drifts
			if i%2 == 0 {
				program()
				person()
			} else {
				person()
				program()
			}
		}
		var ratios []float64
		var each []string
		for i := range pairs {
			ratios = append(ratios, ours[i].Seconds()/theirs[i].Seconds())
			each = append(each, fmt.Sprintf("%.2f", ratios[i]))
		}
		ratio := median(ratios)
		b.ReportMetric(ratio, "ratio")
		verdict(b, ratio <= bar, row{
			figure: fmt.Sprintf("whole life of %s, median of %d", a.recipe, pairs), ours: fmt.Sprintf("%s (%s)", seconds(median(ours)), list(ours)),
			reference: fmt.Sprintf("by hand %s (%s)", seconds(median(theirs)), list(theirs)), ratio: fmt.Sprintf("%.2f (pairs %s)", ratio, strings.Join(each, " ")), bar: fmt.Sprintf("ratio <= %.2f", bar),
		})
	}
}

// stages tells where the time of a run went.
func stages(took time.Duration, r ccci.Result) string {
	var words []string
	rest := took - r.Teardown.Duration
	for _, s := range r.Stages {
		words = append(words, fmt.Sprintf("%s %.1f", s.Name, s.Duration.Seconds()))
		rest -= s.Duration
	}
	return strings.Join(append(words, fmt.Sprintf("teardown %.1f, around it %.1f", r.Teardown.Duration.Seconds(), rest.Seconds())), ", ")
}

// run lets the shipped program test the pull request of an example recipe. It
// returns the time that the person waits, and the result.
func (w *world) run(b *testing.B, config, repo, name string, more ...string) (time.Duration, ccci.Result) {
	b.Helper()
	branch, err := examples.UpgradeBranch(name)
	if err != nil {
		b.Fatal(err)
	}
	out := b.TempDir()
	args := append([]string{"--config", config, "run", repo, "--head", branch, "--out", out}, more...)
	cmd := exec.CommandContext(b.Context(), w.program, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	began := time.Now()
	runErr := cmd.Run()
	took := time.Since(began)
	var result ccci.Result
	text, err := os.ReadFile(filepath.Join(out, "result.json"))
	if err != nil {
		b.Fatalf("cc-ci %s: %v\n%s", strings.Join(args, " "), runErr, &log)
	}
	if err := json.Unmarshal(text, &result); err != nil {
		b.Fatal(err)
	}
	if result.Teardown == nil {
		b.Fatalf("nothing was made:\n%s", &log)
	}
	if left := w.left(b, result); len(left) > 0 {
		b.Fatalf("left of run %s: %s", result.RunID, strings.Join(left, ", "))
	}
	if result.Cause != nil && !(result.Cause.Check == "teardown/clean" && othersWork(result)) {
		b.Fatalf("cc-ci %s: %s: %s\n%s", strings.Join(args, " "), result.Cause.Check, result.Cause.Message, &log)
	}
	return took, result
}

// othersWork reports whether a teardown was blamed only for what is not of this
// run by label and name: on a daemon that is used by others too, their objects
// appear meanwhile. What is of this run was looked for separately.
func othersWork(r ccci.Result) bool {
	stack := recipe.StackName(r.Domain)
	for _, left := range r.Teardown.Leftovers {
		_, name, _ := strings.Cut(left, " ")
		if strings.HasPrefix(name, stack) || strings.Contains(name, string(r.RunID)) {
			return false
		}
	}
	return r.Teardown.Error == ""
}

// left asks the daemon itself, with other means than cc-ci's, what a run left.
func (w *world) left(b *testing.B, r ccci.Result) []string {
	b.Helper()
	var found []string
	stack := recipe.StackName(r.Domain)
	for _, label := range []string{"cc-ci.run=" + string(r.RunID), "com.docker.stack.namespace=" + stack} {
		only := filters.NewArgs(filters.Arg("label", label))
		containers, err := w.docker.ContainerList(b.Context(), container.ListOptions{All: true, Filters: only})
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range containers {
			found = append(found, "container "+strings.Join(c.Names, " "))
		}
		volumes, err := w.docker.VolumeList(b.Context(), volume.ListOptions{Filters: only})
		if err != nil {
			b.Fatal(err)
		}
		for _, v := range volumes.Volumes {
			found = append(found, "volume "+v.Name)
		}
		for _, kind := range []string{"service", "network", "secret", "config"} {
			out, err := exec.CommandContext(b.Context(), "docker", kind, "ls", "--quiet", "--filter", "label="+label).Output()
			if err != nil {
				b.Fatal(err)
			}
			for _, id := range strings.Fields(string(out)) {
				found = append(found, kind+" "+id)
			}
		}
	}
	return found
}
