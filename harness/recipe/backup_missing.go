package recipe

import (
	"fmt"
	"slices"

	"github.com/docker/cli/cli/compose/types"
)

// NoBackup says why a stack whose backup no label switches on has none, with the volumes that are
// left out and the label to add. service is the one to add it to; "" when there is no volume, and so
// nothing to back up.
func (s *Stack) NoBackup() (why, service string) {
	volumes, external, service := s.mounted()
	switch {
	case len(volumes)+len(external) == 0:
		return "the recipe has no volume, so there is nothing to back up", ""
	case len(volumes) == 0:
		return fmt.Sprintf("external volumes (%s) are in no backup", enumerate(external)), service
	}
	what := "volume " + shorten(volumes[0]) + " is"
	if len(volumes) > 1 {
		what = "volumes " + enumerate(volumes) + " are"
	}
	if lost := s.lostSwitch(); lost != "" {
		return fmt.Sprintf("%s not backed up: service %s has %s under labels:, where it has no effect; it belongs under deploy: labels:", what, shorten(lost), BackupEnable), lost
	}
	return fmt.Sprintf("%s not backed up: no service has the deploy label %s=true; add it under deploy: labels: of service %s", what, BackupEnable, shorten(service)), service
}

// mounted lists the keys of the named volumes that services mount, the stack's own and external ones,
// with a service that mounts the first of its own or, without any, of the others.
func (s *Stack) mounted() (own, external []string, service string) {
	seen := map[string]bool{}
	for _, svc := range s.Config.Services {
		for _, m := range svc.Volumes {
			list := &own
			if s.Config.Volumes[m.Source].External.External {
				list = &external
			}
			if m.Type != "volume" || m.Source == "" || seen[m.Source] {
				continue
			}
			seen[m.Source] = true
			if service == "" || list == &own && len(own) == 0 {
				service = svc.Name
			}
			*list = append(*list, m.Source)
		}
	}
	return own, external, service
}

// backedUp reports whether a service switches the backup on. Labels that cannot be read count as
// such: the stage backup judges them.
func (s *Stack) backedUp() bool {
	return slices.ContainsFunc(s.Config.Services, func(svc types.ServiceConfig) bool {
		labels, err := s.BackupLabels(svc.Name, svc.Deploy.Labels)
		return err != nil || slices.ContainsFunc(labels, func(l BackupLabel) bool { return l.Kind == BackupSwitch && l.On })
	})
}

// lostSwitch names the service that has the switch where swarm does not put it; "" when none has.
func (s *Stack) lostSwitch() string {
	for _, svc := range s.Config.Services {
		if _, lost := svc.Labels[BackupEnable]; lost {
			return svc.Name
		}
	}
	return ""
}
