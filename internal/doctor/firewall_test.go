package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestFirewall(t *testing.T) {
	answer := func(why string, err error) Check {
		return Firewall(func(context.Context) (string, error) { return why, err }, "run this")
	}
	expect(t, "well", said(t, answer("", nil)), "ok       firewall: rules")
	expect(t, "differs", said(t, answer("chain input has 0 rules, not 7", nil)), "problem  firewall: rules", "the rules in the kernel are not those of the configuration: chain input has 0 rules, not 7", "hint: run this; if")
	expect(t, "differs on a machine that is no appliance", said(t, Advised(answer("the firewall is not there", nil))), "warning  firewall: rules", "the firewall is not there", "hint: run this;")
	expect(t, "well on such a machine", said(t, Advised(answer("", nil))), "ok       firewall: rules")
	expect(t, "not root", said(t, answer("", fmt.Errorf("asking: %w", syscall.EPERM))), "warning  firewall: rules", "as root")
	expect(t, "no answer", said(t, answer("", ccci.Errorf(ccci.CodeInfra, "no").WithHint("modprobe"))), "problem  firewall: rules", "modprobe")
}

func TestDockerdIsWhereTheFirewallLooks(t *testing.T) {
	dir := t.TempDir()
	expect(t, "not named", said(t, Dockerd("", "a.setting")), "warning  firewall: dockerd", "a.setting")
	expect(t, "not there", said(t, Dockerd(filepath.Join(dir, "none"), "a.setting")), "problem  firewall: dockerd")
	inner := filepath.Join(dir, "docker.service")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	members := filepath.Join(inner, "cgroup.procs")
	if err := os.WriteFile(members, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "another program", said(t, Dockerd(dir, "a.setting")), "problem  firewall: dockerd", "ControlGroup", "a.setting")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	wrapped := filepath.Join(dir, ".dockerd-wrapped")
	if err := os.Symlink(sleep, wrapped); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(wrapped, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(members, []byte(strconv.Itoa(os.Getpid())+"\n"+strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "well", said(t, Dockerd(dir, "a.setting")), "ok       firewall: dockerd")
}
