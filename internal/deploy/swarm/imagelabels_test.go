package swarm

import (
	"archive/tar"
	"context"
	"maps"
	"slices"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// An image brings labels of its own along. None of them decides what the janitor removes.
func TestN3_AnImageNamesNoStackToTheJanitor(t *testing.T) {
	const run, victim = "010203-040506-1abe15", "cc-ci"
	snapshot := harness.Snapshot{
		object(kindContainer, "c", "c", map[string]string{LabelRun: run, LabelStack: victim}),
		object(kindService, "s", "cc-ci_traefik", map[string]string{LabelStack: victim}),
		object(kindVolume, "cc-ci_drone", "cc-ci_drone", map[string]string{"cc-ci.unit": "drone"}),
		object(kindService, "own", "x_ci_test_app", map[string]string{LabelRun: run, LabelStack: "x_ci_test"}),
		object(kindConfig, "config", "media", map[string]string{LabelRun: run, LabelStack: "x_ci_test"}),
		object(kindVolume, "media", "media", nil), // the operator's, of the same name
	}
	var removed []string
	for _, app := range apps(snapshot) {
		for _, o := range snapshot {
			if belongs(o, app) {
				removed = append(removed, o.ID)
			}
		}
		if app.StackName == victim {
			t.Errorf("the janitor takes %q for a stack of run %s", victim, app.RunID)
		}
	}
	for _, id := range removed {
		if id == "s" || id == "cc-ci_drone" || id == "media" {
			t.Errorf("the janitor removes %s", id)
		}
	}
	if !slices.Contains(removed, "config") || !slices.Contains(removed, "own") {
		t.Errorf("the janitor removes %q alone", removed)
	}
}

// Docker gives a container the labels of its image. One that is never started shows none of them.
func TestN3_LabelsOfAnImageAreSetToNothing(t *testing.T) {
	cli := docker(t)
	base := deploytest.BuildImage(t, daemon(cli))
	const ref = "cc-ci.local/labeltest:1"
	derive(t, cli, base, ref, func(*tar.Writer) error { return nil },
		"LABEL "+LabelStack+"=other_stack", "LABEL "+labelServiceName+"=other_stack_app", "LABEL "+LabelTaskID+"=x", "LABEL "+LabelProxy+"=true", "LABEL other=1")
	img, err := cli.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	const run = ccci.RunID("010203-040506-1abe15")
	d := newDeployer(t, cli, run)
	defer func() {
		if _, err := d.Remove(context.WithoutCancel(t.Context()), harness.App{RunID: run}); err != nil {
			t.Error(err)
		}
	}()
	id, err := d.createContainer(t.Context(), "for looking into "+ref, "", neverStarted(img, run), nil)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := cli.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	got := maps.Clone(seen.Config.Labels)
	maps.DeleteFunc(got, func(_, value string) bool { return value == "" })
	if want := map[string]string{LabelRun: string(run)}; !maps.Equal(got, want) {
		t.Errorf("the container has the labels %v, want %v", got, want)
	}
	apps, err := d.Apps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range apps {
		if app.RunID == run && app.StackName != "" {
			t.Errorf("the janitor takes %q for a stack of the run", app.StackName)
		}
	}
}
