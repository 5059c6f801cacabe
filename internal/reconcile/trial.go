package reconcile

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// What has ports of the host ends before its next version starts, so that one that does
// not run leaves nothing that answers until swarm has gone back. Such a version
// therefore runs beside the present one first, without the ports.

const trialSuffix = "-trial"

func isTrial(service string) bool { return strings.HasSuffix(service, trialSuffix) }

// trial is the service without what there can be only once, its ports, and without
// the routes that lead to it. Nor is it what runs take for the proxy.
func (s Service) trial() Service {
	s.Spec.Name += trialSuffix
	s.Spec.Labels = map[string]string{LabelStack: Stack}
	c := *s.Spec.TaskTemplate.ContainerSpec
	c.Labels = maps.Clone(c.Labels)
	delete(c.Labels, LabelProxy)
	s.Spec.TaskTemplate.ContainerSpec = &c
	endpoint := *s.Spec.EndpointSpec
	endpoint.Ports = nil
	s.Spec.EndpointSpec = &endpoint
	return s
}

// service returns the service of that name, or the trial of one.
func (d Desired) service(name string) (Service, bool) {
	for _, s := range d.Services {
		if s.Name() == name {
			return s, true
		}
		if s.Name()+trialSuffix == name {
			return s.trial(), true
		}
	}
	return Service{}, false
}

// needsTrial reports whether an update puts something else into the place of what
// serves on ports of the host.
func needsTrial(have ServiceSeen, spec swarm.ServiceSpec) bool {
	return len(spec.EndpointSpec.Ports) > 0 && differences(program(have.Spec), program(spec)) != "" &&
		slices.ContainsFunc(have.Tasks, func(t TaskSeen) bool { return t.State == swarm.TaskStateRunning && t.Desired == swarm.TaskStateRunning })
}

// program is what a service's tasks run.
func program(spec swarm.ServiceSpec) swarm.ServiceSpec {
	if spec.TaskTemplate.ContainerSpec == nil {
		return swarm.ServiceSpec{}
	}
	c := *spec.TaskTemplate.ContainerSpec
	c.Labels = nil
	return swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{ContainerSpec: &c}}
}

// failedTrial removes a trial that does not run and says that its service stays as it is.
func (r *unitRun) failedTrial(ctx context.Context, o Observed, trial ServiceSeen, words string) error {
	name := strings.TrimSuffix(trial.Spec.Name, trialSuffix)
	a := Action{Verb: Remove, Kind: KindService, Name: trial.Spec.Name, ID: trial.ID, Why: "it does not run"}
	err := ccci.Errorf(ccci.CodeInfra, "%s stays as it is: its next version, %s, was tried beside it and does not run: %s",
		name, trial.Spec.TaskTemplate.ContainerSpec.Image, words).
		WithHint("what was before serves on; mend the image, or what the configuration makes of it, and reconcile again")
	if failure := r.act(ctx, o, a); failure != nil {
		r.Logger.Warn("a trial is left until the next run", "service", trial.Spec.Name, "error", failure)
	}
	return err
}
