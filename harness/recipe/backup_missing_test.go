package recipe_test

import (
	"testing"

	"github.com/docker/cli/cli/compose/types"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// U7, A26: no backup for want of data is told apart from data without a backup, which is named
// with the label to add.
func TestU7_WhyThereIsNoBackup(t *testing.T) {
	mount := func(keys ...string) (list []types.ServiceVolumeConfig) {
		for _, key := range keys {
			list = append(list, types.ServiceVolumeConfig{Type: "volume", Source: key, Target: "/" + key})
		}
		return list
	}
	app := func(mounts []types.ServiceVolumeConfig) types.ServiceConfig {
		return types.ServiceConfig{Name: "app", Volumes: mounts}
	}
	const nothing = "the recipe has no volume, so there is nothing to back up"
	const none = "no service has the deploy label backupbot.backup=true; add it under deploy: labels: of service "
	for name, c := range map[string]struct {
		services     []types.ServiceConfig
		why, service string
	}{
		"no volume":           {[]types.ServiceConfig{app(nil)}, nothing, ""},
		"an anonymous volume": {[]types.ServiceConfig{app(mount(""))}, nothing, ""},
		"an external volume":  {[]types.ServiceConfig{app(mount("theirs"))}, "external volumes (theirs) are in no backup", "app"},
		"an external one too": {[]types.ServiceConfig{app(mount("theirs")), {Name: "db", Volumes: mount("sql")}}, "volume sql is not backed up: " + none + "db", "db"},
		"a bind mount":        {[]types.ServiceConfig{app([]types.ServiceVolumeConfig{{Type: "bind", Source: "/srv", Target: "/srv"}})}, nothing, ""},
		"a volume":            {[]types.ServiceConfig{app(mount("data"))}, "volume data is not backed up: " + none + "app", "app"},
		"several":             {[]types.ServiceConfig{app(nil), {Name: "db", Volumes: mount("sql", "wal")}}, "volumes sql, wal are not backed up: " + none + "db", "db"},
		"a lost label": {[]types.ServiceConfig{app(mount("data")), {Name: "db", Labels: types.Labels{"backupbot.backup": "true"}}},
			"volume data is not backed up: service db has backupbot.backup under labels:, where it has no effect; it belongs under deploy: labels:", "db"},
	} {
		t.Run(name, func(t *testing.T) {
			stack := recipe.Stack{Config: &types.Config{Services: c.services, Volumes: map[string]types.VolumeConfig{"theirs": {External: types.External{External: true}}}}}
			if why, service := stack.NoBackup(); why != c.why || service != c.service {
				t.Errorf("%q of %q, want %q of %q", why, service, c.why, c.service)
			}
		})
	}
}
