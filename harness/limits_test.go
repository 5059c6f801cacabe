package harness

import (
	"math"
	"testing"

	"github.com/docker/cli/cli/compose/types"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// An operator's limit for a recipe holds whatever the recipe states. 1e30 bytes are less than nothing
// once they are a number.
func TestN3_TheLimitOfARecipeHolds(t *testing.T) {
	for _, stated := range []types.UnitBytes{0, 1 << 20, 1 << 40, -1, math.MinInt64} {
		stack := &recipe.Stack{Config: &types.Config{Services: types.Services{{Name: "app"}}}}
		stack.Config.Services[0].Deploy.Resources.Limits = &types.ResourceLimit{MemoryBytes: stated}
		if err := limitMemory(stack, "512M"); err != nil {
			t.Fatal(err)
		}
		want := types.UnitBytes(512 << 20)
		if stated == 1<<20 {
			want = stated
		}
		if got := stack.Config.Services[0].Deploy.Resources.Limits.MemoryBytes; got != want {
			t.Errorf("%d becomes %d", stated, got)
		}
	}
}
