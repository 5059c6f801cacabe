package deploytest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

var confinementCases = []testcase{
	{"N3_runs_do_not_reach_each_other", runsApart},
	{"U10_stacks_of_one_run_reach_each_other", stacksOfOneRun},
	{"N3_no_capability_beyond_those_of_ordinary_images", capabilities},
}

const proxied = `
version: "3.8"
services:
  app:` + healthy + `
    environment: [VERSION=STACK]
    networks: {proxy: {aliases: [neighbour]}}
networks: {proxy: {external: true, name: NETWORK}}
`

// reach asks hosts from inside an app, and returns the answers of those that are reached.
func (a *app) reach(stack *recipe.Stack, hosts ...string) map[string]string {
	a.t.Helper()
	result := a.exec(stack, harness.ExecCmd{Service: "app", Args: append([]string{"/app", "reach"}, hosts...)})
	answers := map[string]string{}
	for line := range strings.Lines(string(result.Stdout)) {
		host, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
		answers[host] = answer
	}
	return answers
}

func (a *app) addresses(stack *recipe.Stack) []string {
	a.t.Helper()
	result := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "addresses"}})
	return strings.Fields(string(result.Stdout))
}

// runsApart: no name and no address of one run leads to another, in no spelling.
func runsApart(t *testing.T, s *suite) {
	a, b := s.newApp(t), s.newApp(t)
	one, other := a.stack(proxied), b.stack(proxied)
	a.deploy(one)
	b.deploy(other)
	names := slices.Concat([]string{
		b.StackName + "_app", strings.ToUpper(b.StackName) + "_APP", "tasks." + b.StackName + "_app", "app", "APP", "neighbour",
	}, b.addresses(other))
	if len(names) < 8 {
		t.Fatalf("the other app has too few addresses: %v", names)
	}
	itself := a.StackName + "_app"
	answers := a.reach(one, append(names, itself)...)
	if answers[itself] != a.StackName {
		t.Errorf("the app gets %q from itself", answers[itself])
	}
	for name, answer := range answers {
		if answer == b.StackName {
			t.Errorf("%s leads to the other run", name)
		}
	}
}

// stacksOfOneRun: an app reaches the one that it depends on by the name of its service.
func stacksOfOneRun(t *testing.T, s *suite) {
	a := s.newApp(t)
	first := a.stack(proxied)
	dependent := *a
	dependent.StackName = strings.Replace(a.StackName, "dt", "dd", 1)
	second := dependent.stack(proxied)
	t.Cleanup(func() {
		if _, err := a.Remove(context.Background(), harness.App{StackName: dependent.StackName}); err != nil {
			t.Error(err)
		}
	})
	a.deploy(first)
	a.deploy(second)
	for _, stack := range []*recipe.Stack{first, second} {
		answers := a.reach(stack, first.Name+"_app", second.Name+"_app")
		if answers[first.Name+"_app"] != first.Name || answers[second.Name+"_app"] != second.Name {
			t.Errorf("%s is answered %v", stack.Name, answers)
		}
	}
}

// capabilities reads what the kernel lets a process of an app have at most.
func capabilities(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack(strings.Replace(proxied, "    environment:", "    cap_add: [SYS_CHROOT]\n    environment:", 1))
	a.deploy(stack)
	status := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "read", "/proc/1/status"}})
	_, rest, _ := strings.Cut(string(status.Stdout), "CapBnd:")
	text, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	set, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatalf("reading %q: %v", status.Stdout, err)
	}
	// Numbers of capabilities, from the kernel's linux/capability.h.
	numbers := map[string]int{"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18}
	var want uint64
	for _, name := range recipe.Capabilities {
		number, ok := numbers[name]
		if !ok {
			t.Fatalf("capability %s has no number here", name)
		}
		want |= 1 << number
	}
	if set != want {
		t.Errorf("the app has the capabilities %s, want %s", fmt.Sprintf("%016x", set), fmt.Sprintf("%016x", want))
	}
}
