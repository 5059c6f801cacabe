package harness

import (
	"strings"

	"github.com/docker/cli/cli/compose/types"
	units "github.com/docker/go-units"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// parseSize reads "512M" or "2G" into bytes; "" is 0.
func parseSize(text string) (int64, error) {
	if strings.TrimSpace(text) == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil {
		return 0, ccci.Errorf(ccci.CodeInvalid, "%q is not a size", text).WithHint("write 512M or 2G")
	}
	return n, nil
}

// limitMemory lowers the memory limit of every container to limit; it never raises one.
func limitMemory(stack *recipe.Stack, limit string) error {
	bytes, err := parseSize(limit)
	if err != nil || bytes == 0 {
		return err
	}
	for i := range stack.Config.Services {
		r := &stack.Config.Services[i].Deploy.Resources
		if r.Limits == nil {
			r.Limits = &types.ResourceLimit{}
		}
		if r.Limits.MemoryBytes <= 0 || int64(r.Limits.MemoryBytes) > bytes {
			r.Limits.MemoryBytes = types.UnitBytes(bytes)
		}
	}
	return nil
}
