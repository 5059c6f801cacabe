package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Firewall looks whether the kernel has the rules that cc-ci reconcile firewall would give it; differs says
// in what it has not, "" for in nothing, and cure which command mends that.
func Firewall(differs func(context.Context) (string, error), cure string) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		const name = "firewall: rules"
		why, err := differs(ctx)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeRefused, Warning: true, Message: "the rules of the kernel are not visible here: " + err.Error(), Hint: "run cc-ci doctor as root"}}
		case err != nil:
			return []ccci.Diagnosis{Problem(name, err)}
		case why != "":
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Message: "the rules in the kernel are not those of the configuration: " + why,
				Hint: cure + "; if the rules were there before, find the program that removes them: nft monitor shows it at work"}}
		}
		return []ccci.Diagnosis{Well(name, "the kernel has the rules of cc-ci reconcile firewall")}
	}
}

// Dockerd looks whether dockerd is in the control group of that folder, by which the firewall knows it;
// setting is what names it. Without a folder no group is named.
func Dockerd(dir, setting string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "firewall: dockerd"
		if dir == "" {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInvalid, Warning: true,
				Message: "dockerd reaches this host and private networks, where the registries that recipes name may lead it",
				Hint:    "let docker.service be in a slice of its own and name it in " + setting + ": docs/reconcile.md, firewall"}}
		}
		found := false
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Base(path) != "cgroup.procs" {
				return err
			}
			text, err := os.ReadFile(path)
			for _, pid := range strings.Fields(string(text)) {
				// A wrapped program has a name around it, as .dockerd-wrapped.
				called, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
				found = found || strings.Contains(string(called), "dockerd")
			}
			return err
		})
		if err != nil {
			return []ccci.Diagnosis{Problem(name, ccci.Errorf(ccci.CodeInfra, "looking for dockerd in its control group: %w", err).
				WithHint("systemctl show docker --property=ControlGroup says where it is; name its slice in %s (docs/reconcile.md, firewall)", setting))}
		}
		if !found {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInvalid, Message: "there is no dockerd in " + dir + ", so that the firewall lets it reach everything",
				Hint: "systemctl show docker --property=ControlGroup says where it is; restart Docker when its slice was changed, else name its slice in " + setting}}
		}
		return []ccci.Diagnosis{Well(name, "dockerd is in %s, and reaches what the firewall lets it", dir)}
	}
}
