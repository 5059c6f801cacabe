package deploytest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

var removalCases = []testcase{
	{"A19_removal_is_legal_before_creation_and_twice", removeTwice},
	{"A19_removal_after_a_failed_deployment_leaves_nothing", removeAfterFailure},
	{"A19_removal_during_a_deployment_leaves_nothing", removeDuring},
	{"A19_removal_by_another_process_needs_only_the_name", removeByName},
	{"A19_removal_finds_unlabelled_leftovers_and_spares_others", leftovers},
	{"A19_removal_outlives_requests_without_an_answer", outlivesCreation},
	{"A19_jobs_are_refused_and_nothing_is_made", jobs},
	{"A21_new_refuses_what_exists_and_makes_nothing", conflict},
	{"N3_what_somebody_else_made_is_neither_used_nor_removed", somebodyElses},
	{"A21_secrets_are_made_all_or_none", allOrNone},
	{"secrets_are_added_once", addSecrets},
	{"N6_snapshot_is_the_same_before_and_after", snapshots},
}

const twoServices = `
version: "3.8"
services:
  app:` + healthy + `
    networks: [inside]
    volumes: ["data:/data", "/tmp"]
  db:` + healthy + `
    networks: [inside]
    deploy: {replicas: 2}
volumes: {data: {}}
networks: {inside: {}}
`

func removeTwice(t *testing.T, s *suite) {
	a := s.newApp(t)
	for range 2 {
		removed, err := a.Remove(a.deadline(20*time.Second), a.App)
		if err != nil || len(removed) != 0 {
			t.Errorf("Remove of nothing: %v, %v", removed, err)
		}
	}
	a.deploy(a.stack(twoServices))
	for i := range 2 {
		removed, err := a.Remove(a.deadline(time.Minute), a.App)
		if err != nil || (len(removed) == 0) != (i == 1) {
			t.Errorf("Remove %d: %v, %v", i, removed, err)
		}
		a.wantNothing()
	}
	if _, err := a.Remove(a.deadline(time.Minute), harness.App{}); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("Remove of nameless: %v, want invalid", err)
	}
}

func removeAfterFailure(t *testing.T, s *suite) {
	a := s.newApp(t)
	a.deployFails(a.stack(strings.ReplaceAll(twoServices, "  db:"+healthy, "  db:"+healthy+"    volumes: ["+noMount+"]\n")), time.Minute)
	if _, err := a.Remove(a.deadline(time.Minute), a.App); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	a.wantNothing()
}

// removeDuring removes while swarm is making the tasks' containers.
func removeDuring(t *testing.T, s *suite) {
	for _, after := range []time.Duration{20, 150, 300, 600} {
		a := s.newApp(t)
		stack := a.stack(twoServices)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.Deploy(ctx, stack) })
		<-time.After(after * time.Millisecond)
		cancel()
		wg.Wait()
		if _, err := a.Remove(a.deadline(time.Minute), a.App); err != nil {
			t.Fatalf("Remove after %d ms: %v", after, err)
		}
		a.wantNothing()
		// A task that was on its way would show up a moment later.
		<-time.After(time.Second)
		a.wantNothing()
	}
}

func removeByName(t *testing.T, s *suite) {
	a := s.newApp(t)
	a.deploy(a.stack(twoServices))
	other := s.make(t, "010203-040506-ffffff")
	if _, err := other.Remove(a.deadline(time.Minute), a.App); err != nil {
		t.Fatalf("Remove by another: %v", err)
	}
	a.wantNothing()
}

func leftovers(t *testing.T, s *suite) {
	a := s.newApp(t)
	volume := func(name string, labels map[string]string) {
		t.Helper()
		if err := s.Daemon.Volume(t.Context(), name, labels); err != nil {
			t.Fatalf("making volume %s: %v", name, err)
		}
		t.Cleanup(func() { _ = s.Daemon.RemoveVolume(context.Background(), name) })
	}
	stray, named, labelled := a.StackName+"_stray", "own"+a.StackName, "lab"+a.StackName
	foreign, longer, theirs := "far"+a.StackName, a.StackName+"more_data", a.StackName+"_theirs"
	volume(stray, nil)
	volume(named, nil)
	volume(labelled, map[string]string{"cc-ci.run": string(a.RunID)})
	volume(foreign, nil)
	volume(longer, nil)
	volume(theirs, map[string]string{"cc-ci.run": "990101-000000-aaaaaa"})
	a.Names = []string{named}
	removed, err := a.Remove(a.deadline(time.Minute), a.App)
	if err != nil || removed["volume"] != 3 {
		t.Errorf("Remove: %v, %v, want 3 volumes", removed, err)
	}
	all, err := a.Snapshot(a.deadline(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, o := range all {
		there[o.Name] = true
	}
	for name, want := range map[string]bool{stray: false, named: false, labelled: false, foreign: true, longer: true, theirs: true} {
		if there[name] != want {
			t.Errorf("volume %s is there: %v, want %v", name, there[name], want)
		}
	}
}

const withSecrets = "version: '3.8'\nservices:\n  app:" + healthy + "    secrets: [one, two]\nsecrets:\n  one: {external: true, name: STACK_one_v1}\n  two: {external: true, name: STACK_two_v1}\n"

func (a *app) secretStack() (*recipe.Stack, map[string]ccci.Secret) {
	stack := a.stack(withSecrets)
	stack.Secrets = []recipe.Secret{{Key: "one", Name: a.StackName + "_one_v1"}, {Key: "two", Name: a.StackName + "_two_v1"}}
	return stack, map[string]ccci.Secret{"one": ccci.NewSecret("1"), "two": ccci.NewSecret("2")}
}

func conflict(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack, values := a.secretStack()
	if err := s.Daemon.Volume(t.Context(), a.StackName+"_old", nil); err != nil {
		t.Fatal(err)
	}
	err := a.New(a.deadline(20*time.Second), stack, values)
	if ccci.CodeOf(err) != ccci.CodeConflict || !strings.Contains(err.Error(), a.StackName+"_old") {
		t.Errorf("New: %v, want a conflict that names the volume", err)
	}
	if have := a.objects(); len(have) != 1 {
		t.Errorf("New made something: %v", have)
	}
	if _, err := a.Remove(a.deadline(20*time.Second), a.App); err != nil {
		t.Fatal(err)
	}
	if err := a.New(a.deadline(20*time.Second), stack, values); err != nil {
		t.Errorf("New after Remove: %v", err)
	}
	if err := a.New(a.deadline(20*time.Second), stack, values); ccci.CodeOf(err) != ccci.CodeConflict {
		t.Errorf("New twice: %v, want a conflict", err)
	}
}

func somebodyElses(t *testing.T, s *suite) {
	a := s.newApp(t)
	far := "far" + a.StackName
	if err := s.Daemon.Volume(t.Context(), far, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Daemon.RemoveVolume(context.Background(), far) })
	// An upgrade to this meets no New.
	compose := "version: '3.8'\nservices:\n  app:" + healthy + "    volumes: ['data:/data']\nvolumes: {data: "
	a.deploy(a.stack(compose + "{}}\n"))
	err := a.Deploy(a.deadline(time.Minute), a.stack(compose+"{name: "+far+"}}\n"))
	if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "volume "+far+" exists") {
		t.Errorf("Deploy: %v, want an error of the recipe's that names the volume", err)
	}
	a.deploy(a.stack(compose + "{name: " + far + ", external: true}}\n"))
	if _, err := a.Remove(a.deadline(time.Minute), a.App); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	all, err := a.Snapshot(a.deadline(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(o harness.Object) bool { return o.Kind == "volume" && o.Name == far }) {
		t.Errorf("volume %s is gone", far)
	}
}

func allOrNone(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack, values := a.secretStack()
	stack.Secrets[1].Name = a.StackName + "_" + strings.Repeat("x", 80) // too long for the daemon
	if err := a.New(a.deadline(20*time.Second), stack, values); err == nil {
		t.Error("New with an impossible name succeeds")
	}
	a.wantNothing()
	values["three"] = ccci.NewSecret("3")
	if err := a.New(a.deadline(20*time.Second), stack, values); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("New with a value for no secret: %v, want invalid", err)
	}
}

func addSecrets(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack, values := a.secretStack()
	first := *stack
	first.Secrets = stack.Secrets[:1]
	if err := a.New(a.deadline(20*time.Second), &first, map[string]ccci.Secret{"one": values["one"]}); err != nil {
		t.Fatalf("New: %v", err)
	}
	for range 2 {
		if err := a.AddSecrets(a.deadline(20*time.Second), stack, values); err != nil {
			t.Fatalf("AddSecrets: %v", err)
		}
		if have := a.objects(); len(have) != 2 {
			t.Errorf("there are %v, want two secrets", have)
		}
	}
}

// snapshots compares everything that the daemon has, except what other runs make meanwhile.
func snapshots(t *testing.T, s *suite) {
	a := s.newApp(t)
	mine := func() string {
		var names []string
		for _, o := range a.objects() {
			names = append(names, o.Kind+" "+o.Name)
		}
		return strings.Join(names, ", ")
	}
	before := mine()
	a.deploy(a.stack(twoServices))
	if during := mine(); during == before {
		t.Error("the snapshot does not show the app")
	}
	if _, err := a.Remove(a.deadline(time.Minute), a.App); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	if after := mine(); after != before {
		t.Errorf("before: %s; after: %s", before, after)
	}
}
