package swarm

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	units "github.com/docker/go-units"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// This file converts what a task may use: processors, memory, limits, capabilities.

func requirements(r types.Resources) (*swarm.ResourceRequirements, error) {
	if r.Limits == nil && r.Reservations == nil {
		return nil, nil
	}
	out := &swarm.ResourceRequirements{}
	if l := r.Limits; l != nil {
		cpus, err := nanoCPUs(l.NanoCPUs)
		if err != nil {
			return nil, fmt.Errorf("deploy.resources.limits.cpus: %w", err)
		}
		out.Limits = &swarm.Limit{NanoCPUs: cpus, MemoryBytes: int64(l.MemoryBytes), Pids: l.Pids}
	}
	if v := r.Reservations; v != nil {
		cpus, err := nanoCPUs(v.NanoCPUs)
		if err != nil {
			return nil, fmt.Errorf("deploy.resources.reservations.cpus: %w", err)
		}
		out.Reservations = &swarm.Resources{NanoCPUs: cpus, MemoryBytes: int64(v.MemoryBytes)}
		for _, g := range v.GenericResources {
			if g.DiscreteResourceSpec == nil {
				continue
			}
			out.Reservations.GenericResources = append(out.Reservations.GenericResources, swarm.GenericResource{
				DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: g.DiscreteResourceSpec.Kind, Value: g.DiscreteResourceSpec.Value},
			})
		}
	}
	return out, nil
}

// nanoCPUs reads a number of processors, "0.5", exactly.
func nanoCPUs(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	cpus, ok := new(big.Rat).SetString(text)
	if !ok || cpus.Sign() < 0 || strings.ContainsAny(text, "eE/xX_") {
		return 0, fmt.Errorf("%q is not a number of processors", text)
	}
	nano := cpus.Mul(cpus, big.NewRat(1e9, 1))
	if !nano.IsInt() || !nano.Num().IsInt64() {
		return 0, fmt.Errorf("%q is too precise or too large", text)
	}
	return nano.Num().Int64(), nil
}

func ulimits(all map[string]*types.UlimitsConfig) []*container.Ulimit {
	var out []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(all)) {
		u := all[name]
		soft, hard := u.Soft, u.Hard
		if u.Single != 0 {
			soft, hard = u.Single, u.Single
		}
		out = append(out, &units.Ulimit{Name: name, Soft: int64(soft), Hard: int64(hard)})
	}
	return out
}

// capabilities brings names into the daemon's form. Adding wins over dropping. What
// Docker gives by default and ordinary images do not need is dropped unless it is added.
func capabilities(add, drop []string) (added, dropped []string) {
	norm := func(names []string) []string {
		var out []string
		for _, n := range names {
			n = strings.ToUpper(strings.TrimSpace(n))
			if n != "ALL" && !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			out = append(out, n)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	added = norm(add)
	if !slices.Contains(added, "ALL") {
		drop = slices.Concat(drop, recipe.DroppedCapabilities)
	}
	for _, n := range norm(drop) {
		if !slices.Contains(added, n) {
			dropped = append(dropped, n)
		}
	}
	return added, dropped
}
