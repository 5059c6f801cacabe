package deploytest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

var failureCases = []testcase{
	{"U3_rollback_is_a_failure_though_the_old_version_answers", rollback},
	{"U3_rollback_after_a_healthy_start_is_seen_by_Settle", lateRollback},
	{"A24_service_that_ends_for_ever_is_seen_by_Settle", endless},
	{"U3_paused_update_is_a_failure", paused},
	{"U19_image_that_cannot_be_had_is_an_error_of_its_own", missingImage},
	{"A24_rejected_task_fails_early", rejected},
	{"A24_restart_loop_fails_early_with_its_last_lines", restartLoop},
	{"A24_exhausted_restarts_fail_early", exhausted},
	{"A24_unhealthy_task_fails_early_with_its_probe", unhealthy},
	{"A24_deadline_tells_the_state_of_each_service", deadline},
	{"A24_cancelled_deployment_is_not_the_recipe", cancelled},
	{"A24_missing_secret_is_named_and_nothing_is_made", missingSecret},
	{"A24_missing_network_is_named_and_nothing_is_made", missingNetwork},
	{"N6_missing_external_volume_is_named_and_nothing_is_made", missingVolume},
	{"N15_config_changed_without_its_version_is_named", changedConfig},
	{"A24_oversized_specification_is_the_recipes_and_nothing_is_made", oversized},
	{"A24_service_nobody_can_place_fails_early", unplaceable},
}

func rollback(t *testing.T, s *suite) {
	a := s.newApp(t)
	a.deploy(a.stack(upgradable))
	broken := a.stack(strings.NewReplacer(
		"which=one", "which=two", "[VERSION=one]", "[VERSION=two, EXIT_AFTER=100ms, EXIT_CODE=7, SAY=no such table]").Replace(upgradable))
	de := a.deployFails(broken, 40*time.Second)
	if de.Reason != "rollback" {
		t.Errorf("reason = %s", de.Reason)
	}
	wantWords(t, de, "app", "7", "no such table")
	if got := a.get(broken, "app", "/"); got != "one" {
		t.Errorf("the old version should answer, and %q does", got)
	}
	if err := a.Settle(a.deadline(40*time.Second), broken); err == nil {
		t.Error("Settle is content with a rolled back version")
	}
}

// lateRollback is healthy at first and dies while swarm still monitors the update.
func lateRollback(t *testing.T, s *suite) {
	a := s.newApp(t)
	slow := strings.ReplaceAll(upgradable, "monitor: 2s", "monitor: 6s")
	a.deploy(a.stack(slow))
	broken := a.stack(strings.ReplaceAll(slow, "[VERSION=one]", "[VERSION=two, EXIT_AFTER=3s, EXIT_CODE=7]"))
	ctx := a.deadline(60 * time.Second)
	err := a.Deploy(ctx, broken)
	if err == nil {
		err = a.Settle(ctx, broken)
	}
	var de *harness.DeployError
	if !errors.As(err, &de) || de.Reason != "rollback" {
		t.Errorf("Deploy and Settle: %v, want a rollback", err)
	}
}

// endless has a second service that runs for a while each time: long enough for Deploy.
func endless(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack(`
version: "3.8"
services:
  app:` + healthy + `
  worker:
    image: IMAGE
    environment: [SAY=no such queue, EXIT_AFTER=4s, EXIT_CODE=7]
    deploy: {restart_policy: {condition: any, delay: 100ms}}
`)
	a.deploy(stack)
	// Once it has ended, Settle is not content with it again.
	ctx := a.deadline(60 * time.Second)
	var err error
	for err == nil && ctx.Err() == nil {
		err = a.Settle(ctx, stack)
	}
	var de *harness.DeployError
	if !errors.As(err, &de) || de.Reason != "restart-loop" {
		t.Fatalf("Settle: %v, want a restart loop", err)
	}
	wantWords(t, de, "worker", "7", "no such queue")
}

func paused(t *testing.T, s *suite) {
	a := s.newApp(t)
	pause := strings.ReplaceAll(upgradable, "failure_action: rollback", "failure_action: pause")
	a.deploy(a.stack(pause))
	de := a.deployFails(a.stack(strings.ReplaceAll(pause, "[VERSION=one]", "[VERSION=two, EXIT_AFTER=100ms, EXIT_CODE=7]")), 40*time.Second)
	if de.Reason != "paused" {
		t.Errorf("reason = %s", de.Reason)
	}
	wantWords(t, de, "app", "7", "ending with 7")
}

func wantWords(t *testing.T, de *harness.DeployError, service, message, line string) {
	t.Helper()
	if len(de.Tasks) == 0 {
		t.Fatal("no task is told of")
	}
	task := de.Tasks[0]
	if task.Service != service || !strings.Contains(task.Message, message) {
		t.Errorf("the task says %+v, want %q of service %s", task, message, service)
	}
	if line != "" && !strings.Contains(strings.Join(task.Log, "\n"), line) {
		t.Errorf("its last lines are %q, want %q", task.Log, line)
	}
	if !strings.Contains(de.Error(), service) {
		t.Errorf("the message %q does not name service %s", de.Error(), service)
	}
}

const noImage = "127.0.0.1:9/ccci-deploytest/none:1.2.3"

func missingImage(t *testing.T, s *suite) {
	a := s.newApp(t)
	_, err := a.Pull(a.deadline(time.Minute), a.stack("version: '3.8'\nservices:\n  app:\n    image: "+noImage+"\n"))
	if err == nil {
		t.Fatal("Pull of an image that is nowhere succeeds")
	}
	for _, want := range []string{"app", noImage} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	if ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" {
		t.Errorf("an unreachable registry has code %s and hint %q", ccci.CodeOf(err), ccci.HintOf(err))
	}
	a.wantNothing()
}

// noMount is what Docker refuses as a container is created.
const noMount = "/nonexistent/ccci-deploytest:/data"

func rejected(t *testing.T, s *suite) {
	a := s.newApp(t)
	de := a.deployFails(a.stack("version: '3.8'\nservices:\n  app:\n    image: IMAGE\n    volumes: ["+noMount+"]\n"), 60*time.Second)
	if de.Reason != "rejected" {
		t.Errorf("reason = %s", de.Reason)
	}
	wantWords(t, de, "app", "bind source path does not exist", "")
}

func restartLoop(t *testing.T, s *suite) {
	a := s.newApp(t)
	de := a.deployFails(a.stack(`
version: "3.8"
services:
  app:
    image: IMAGE
    environment: [SAY=bad key, EXIT_AFTER=50ms, EXIT_CODE=9]
    deploy: {restart_policy: {condition: any, delay: 100ms}}
  db:`+healthy), 60*time.Second)
	if de.Reason != "restart-loop" {
		t.Errorf("reason = %s", de.Reason)
	}
	wantWords(t, de, "app", "9", "bad key")
}

func exhausted(t *testing.T, s *suite) {
	a := s.newApp(t)
	de := a.deployFails(a.stack(`
version: "3.8"
services:
  app:
    image: IMAGE
    command: ["exit", "5"]
    deploy: {restart_policy: {condition: on-failure, delay: 100ms, max_attempts: 1}}
`), 60*time.Second)
	if de.Reason != "restart-loop" {
		t.Errorf("reason = %s", de.Reason)
	}
	wantWords(t, de, "app", "5", "")
}

func unhealthy(t *testing.T, s *suite) {
	a := s.newApp(t)
	de := a.deployFails(a.stack(`
version: "3.8"
services:
  app:
    image: IMAGE
    environment: [SICK=1]
    healthcheck: {test: ["CMD", "/app", "health"], interval: 100ms, timeout: 2s, retries: 2}
    stop_grace_period: 1s
    deploy: {restart_policy: {delay: 100ms}}
`), 60*time.Second)
	if de.Reason != "unhealthy" {
		t.Errorf("reason = %s", de.Reason)
	}
	wantWords(t, de, "app", "unhealthy", "listening")
	if !strings.Contains(de.Tasks[0].Message, "503") {
		t.Errorf("the probe's output is missing in %q", de.Tasks[0].Message)
	}
}

func deadline(t *testing.T, s *suite) {
	a := s.newApp(t)
	de := a.deployFails(a.stack(`
version: "3.8"
services:
  app:
    image: IMAGE
    environment: [SICK=1]
    healthcheck: {test: ["CMD", "/app", "health"], interval: 200ms, timeout: 2s, retries: 1000}
  db:`+healthy), 12*time.Second)
	if de.Reason != "timeout" {
		t.Errorf("reason = %s", de.Reason)
	}
	if len(de.Tasks) != 1 {
		t.Errorf("%d tasks are told of, want the one that is not up", len(de.Tasks))
	}
	wantWords(t, de, "app", "503", "listening")
}

func cancelled(t *testing.T, s *suite) {
	a := s.newApp(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	err := a.Deploy(ctx, a.stack("version: '3.8'\nservices:\n  app:\n    image: IMAGE\n    environment: [SICK=1]\n    healthcheck: {test: [CMD, /app, health], interval: 1s, retries: 99}\n"))
	if !errors.Is(err, context.Canceled) || ccci.CodeOf(err) == ccci.CodeRecipe {
		t.Errorf("Deploy: %v with code %s", err, ccci.CodeOf(err))
	}
}

func missingSecret(t *testing.T, s *suite) {
	a := s.newApp(t)
	err := a.Deploy(a.deadline(20*time.Second), a.stack(`
version: "3.8"
services:
  app:`+healthy+`
    secrets: [password]
    networks: [inside]
networks: {inside: {}}
secrets: {password: {external: true, name: STACK_password_v1}}
`))
	if err == nil || !strings.Contains(err.Error(), a.StackName+"_password_v1") || ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("Deploy: %v with code %s", err, ccci.CodeOf(err))
	}
	a.wantNothing()
}

func missingNetwork(t *testing.T, s *suite) {
	a := s.newApp(t)
	err := a.Deploy(a.deadline(20*time.Second), a.stack(`
version: "3.8"
services:
  app:`+healthy+`
    networks: [inside, STACK-none]
networks: {inside: {}, STACK-none: {external: true}}
`))
	if err == nil || !strings.Contains(err.Error(), a.StackName+"-none") || ccci.HintOf(err) == "" {
		t.Errorf("Deploy: %v, hint %q", err, ccci.HintOf(err))
	}
	a.wantNothing()
}

func missingVolume(t *testing.T, s *suite) {
	a := s.newApp(t)
	err := a.Deploy(a.deadline(20*time.Second), a.stack(`
version: "3.8"
services:
  app:`+healthy+`
    volumes: [theirs:/theirs]
    networks: [inside]
networks: {inside: {}}
volumes: {theirs: {external: true, name: STACK-theirs}}
`))
	if err == nil || !strings.Contains(err.Error(), "no volume "+a.StackName+"-theirs") || ccci.HintOf(err) == "" {
		t.Errorf("Deploy: %v, hint %q", err, ccci.HintOf(err))
	}
	a.wantNothing()
}

func changedConfig(t *testing.T, s *suite) {
	a := s.newApp(t)
	file := filepath.Join(a.dir, "nginx.conf")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	stack := a.stack("version: '3.8'\nservices:\n  app:" + healthy + "    configs: [nginx_conf]\nconfigs: {nginx_conf: {name: STACK_nginx_conf_v1, file: ./nginx.conf}}\n")
	a.deploy(stack)
	a.deploy(stack) // the same content again is no change
	write("two")
	err := a.Deploy(a.deadline(20*time.Second), stack)
	if err == nil || ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "config nginx_conf changed without its version variable") {
		t.Errorf("Deploy: %v", err)
	}
	if !strings.Contains(ccci.HintOf(err), "raise the version in the name of the config") || !strings.Contains(ccci.HintOf(err), "nginx.conf") {
		t.Errorf("hint = %q", ccci.HintOf(err))
	}
}

func unplaceable(t *testing.T, s *suite) {
	a := s.newApp(t)
	de := a.deployFails(a.stack("version: '3.8'\nservices:\n  app:"+healthy+"    deploy: {placement: {constraints: [node.labels.nowhere == 1]}}\n"), 60*time.Second)
	if de.Reason != "rejected" || !strings.Contains(de.Error(), "no suitable node") {
		t.Errorf("%s: %v", de.Reason, de)
	}
}

// oversized has more text in labels or environment than swarm takes.
func oversized(t *testing.T, s *suite) {
	large := strings.Repeat("x", 1<<20)
	for _, part := range []string{"    environment: {A: " + large + "}\n", "    deploy: {labels: {a: " + large + "}}\n", "    labels: {a: " + large + "}\n"} {
		a := s.newApp(t)
		err := a.Deploy(a.deadline(20*time.Second), a.stack("version: '3.8'\nservices:\n  app:\n    image: IMAGE\n"+part))
		if ccci.CodeOf(err) != ccci.CodeRecipe || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "service app") {
			t.Errorf("Deploy: code %s, %.200s", ccci.CodeOf(err), err)
		}
		a.wantNothing()
	}
}
