package backup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// service describes a service as "volume,volume" and "label=value" lines.
func service(name, volumes string, lines ...string) types.ServiceConfig {
	svc := types.ServiceConfig{Name: name, Deploy: types.DeployConfig{Labels: types.Labels{}}}
	for v := range strings.SplitSeq(volumes, ",") {
		if v != "" {
			svc.Volumes = append(svc.Volumes, types.ServiceVolumeConfig{Type: "volume", Source: v, Target: "/" + v})
		}
	}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		svc.Deploy.Labels["backupbot."+key] = value
	}
	return svc
}

func stack(services ...types.ServiceConfig) *recipe.Stack {
	return &recipe.Stack{Name: "s_ci", Version: "1.0.0+2", Config: &types.Config{Services: services, Volumes: map[string]types.VolumeConfig{
		"named": {Name: "s_ci_other"}, "foreign": {External: types.External{External: true}},
	}}}
}

// A26: the label contract, row by row.
func TestA26_PlanVolumes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		services []types.ServiceConfig
		want     []Volume
		excluded []string
	}{
		{"all named volumes by default",
			[]types.ServiceConfig{service("app", "data,named", "backup=true"), service("db", "db")},
			[]Volume{{Key: "data", Name: "s_ci_data"}, {Key: "db", Name: "s_ci_db"}, {Key: "named", Name: "s_ci_other"}}, nil},
		{"external volumes are not ours",
			[]types.ServiceConfig{service("app", "data,foreign", "backup=true")},
			[]Volume{{Key: "data", Name: "s_ci_data"}}, nil},
		{"one excluded, by another service's label",
			[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.db=false"), service("db", "db")},
			[]Volume{{Key: "data", Name: "s_ci_data"}}, []string{"db"}},
		{"true excludes nothing",
			[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.data=true")},
			[]Volume{{Key: "data", Name: "s_ci_data"}}, nil},
		{"paths, cleaned",
			[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.data.path=./a, b//c/,")},
			[]Volume{{Key: "data", Name: "s_ci_data", Paths: []string{"a", "b/c"}}}, nil},
		{"the root is the whole",
			[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.data.path=.")},
			[]Volume{{Key: "data", Name: "s_ci_data"}}, nil},
		{"a dump that a hook writes",
			[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.data.path=x"), service("db", "db", "backup.pre-hook=/dump", "backup.volumes.db.path=dump.sql")},
			[]Volume{{Key: "data", Name: "s_ci_data", Paths: []string{"x"}}, {Key: "db", Name: "s_ci_db", Paths: []string{"dump.sql"}, Dumped: true}}, nil},
		{"two services, two paths",
			[]types.ServiceConfig{service("a", "data", "backup=true", "backup.volumes.data.path=x"), service("b", "data", "backup.volumes.data.path=y,x")},
			[]Volume{{Key: "data", Name: "s_ci_data", Paths: []string{"x", "y"}}}, nil},
		{"excluded and limited",
			[]types.ServiceConfig{service("a", "data,db", "backup=true", "backup.volumes.data.path=x", "backup.volumes.data=false")},
			[]Volume{{Key: "db", Name: "s_ci_db"}}, []string{"data"}},
		{"a volume whose key ends in .path",
			[]types.ServiceConfig{service("a", "data,data.path", "backup=true", "backup.volumes.data.path=false")},
			[]Volume{{Key: "data", Name: "s_ci_data"}}, []string{"data.path"}},
	} {
		plan, err := PlanOf(stack(tc.services...))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, plan.Volumes); diff != "" || !slices.Equal(plan.Excluded, tc.excluded) {
			t.Errorf("%s (-want +got):\n%sexcluded %q, want %q", tc.name, diff, plan.Excluded, tc.excluded)
		}
	}
}

func TestA26_PlanHooksAndSwitch(t *testing.T) {
	plan, err := PlanOf(stack(
		service("db", "db", "backup.pre-hook=pg_dump > /d", "restore.post-hook=psql < /d"),
		service("app", "data", "backup=TRUE", "backup.pre-hook=stop", "backup.post-hook=start", "restore.pre-hook=stop"),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := Plan{Stack: "s_ci", Version: "1.0.0+2", Enabled: true, Volumes: plan.Volumes,
		BackupPre: []Hook{{"app", "stop"}, {"db", "pg_dump > /d"}}, BackupPost: []Hook{{"app", "start"}},
		RestorePre: []Hook{{"app", "stop"}}, RestorePost: []Hook{{"db", "psql < /d"}}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	for value, on := range map[string]bool{"true": true, "1": true, "True": true, "false": false, "": false, " true ": true} {
		plan, err := PlanOf(stack(service("app", "data", "backup="+value)))
		if err != nil || plan.Enabled != on {
			t.Errorf("backup=%q gives %t, %v", value, plan.Enabled, err)
		}
	}
}

func TestPlanWarns(t *testing.T) {
	for _, tc := range []struct {
		services []types.ServiceConfig
		warning  string
	}{
		{[]types.ServiceConfig{service("app", "data", "backup=true"), service("db", "db", "backup=true")}, "services app, db all say"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.path=/var/lib/x")}, "version 1"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.command=dump")}, "version 1"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.prehook=x")}, "not part of the contract"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.daat=false")}, "does not have"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.daat.path=x")}, "does not have"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.pre-hook=")}, "is empty"},
		{[]types.ServiceConfig{service("app", "data", "backup=")}, "backupbot.backup is empty and counts as false"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.volumes.data=")}, "backupbot.backup.volumes.data is empty and counts as true"},
		{[]types.ServiceConfig{service("app", "data", "backup=true", "backup.on-failure=x")}, "backupbot.backup.on-failure is not part of the contract"},
		{[]types.ServiceConfig{service("app", "foreign", "backup=true")}, "external"},
		{[]types.ServiceConfig{service("app", "data", "backup.pre-hook=x")}, "nothing is backed up"},
		{[]types.ServiceConfig{service("a", "data", "backup=true", "backup.volumes.data.path=x"), service("b", "data", "backup.volumes.data.path=y")}, "different paths"},
	} {
		plan, err := PlanOf(stack(tc.services...))
		if err != nil || !strings.Contains(fmt.Sprint(plan.Warnings), tc.warning) {
			t.Errorf("warnings %+v, %v do not say %q", plan.Warnings, err, tc.warning)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, label := range []string{
		"backup=maybe", "backup=yes please", "backup.volumes.data=perhaps", "backup.volumes.data.path=", "backup.volumes.data.path= , ",
		"backup.volumes.my.data.path=../../../etc", "backup.volumes.data.path=/etc", "backup.volumes.data.path=../db", "backup.volumes.data.path=a/../../db", "backup.volumes.data.path=..",
	} {
		_, err := PlanOf(stack(service("app", "data", "backup=true", label)))
		key, value, _ := strings.Cut(label, "=")
		value, _, _ = strings.Cut(strings.TrimSpace(value), ",")
		if ccci.CodeOf(err) != ccci.CodeRecipe || ccci.HintOf(err) == "" {
			t.Errorf("%s: %v, want an Error that blames the recipe and has a hint", label, err)
		} else if text := err.Error(); !strings.Contains(text, "service app") || !strings.Contains(text, "backupbot."+key) || !strings.Contains(text, value) {
			t.Errorf("%s: %v, which does not name service, label and value", label, err)
		}
	}
}

// A path as the containers see it fails the stage that reads it, with the path to write; it is no
// danger, for nothing is read. One that leaves the volume is refused by admission before.
func TestA26_PathInTheContainer(t *testing.T) {
	mounted := service("app", "data", "backup=true")
	target := mounted.Volumes[0].Target
	for value, want := range map[string]string{
		target + "/dump/latest.sql": "write dump/latest.sql", "ok," + target + "/x": "write x", target: "write .",
	} {
		_, err := PlanOf(stack(service("app", "data", "backup=true", "backup.volumes.data.path="+value)))
		if err == nil || errors.Is(err, recipe.ErrOutsideVolume) || !strings.Contains(err.Error(), "is a path in the container") || !strings.Contains(ccci.HintOf(err), want) {
			t.Errorf("%s: %v, hint %q", value, err, ccci.HintOf(err))
		}
	}
	for _, value := range []string{"/etc", target + "/x,../y", target + "/../etc"} {
		if _, err := PlanOf(stack(service("app", "data", "backup=true", "backup.volumes.data.path="+value))); !errors.Is(err, recipe.ErrOutsideVolume) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// Whatever a recipe writes, nothing outside of its own volumes is ever read.
func FuzzPlanStaysInVolumes(f *testing.F) {
	f.Add("a,b", "true")
	f.Add("../x", "false")
	f.Add("/x,./..//y", "")
	f.Fuzz(func(t *testing.T, paths, enabled string) {
		plan, err := PlanOf(stack(service("app", "data", "backup="+enabled, "backup.volumes.data.path="+paths)))
		if err != nil {
			return
		}
		for _, v := range plan.Volumes {
			for _, target := range v.Targets() {
				if target != v.Root() && !strings.HasPrefix(target, v.Root()+"/") {
					t.Errorf("%q leads to %q", paths, target)
				}
			}
		}
	})
}

// U5: what a snapshot holds of each volume, and what labels take out, tell whether a restore can be proven.
func TestU5_WhatASnapshotHoldsOfEachVolume(t *testing.T) {
	s := stack(service("app", "data,files,cache", "backup=true", "backup.volumes.cache=false", "backup.volumes.data.path=dump"))
	plan, err := new(App).Plan(s)
	if err != nil || !slices.Equal(plan.Excluded, []string{"cache"}) {
		t.Errorf("excluded %v, %v", plan.Excluded, err)
	}
	own, err := PlanOf(s)
	if err != nil {
		t.Fatal(err)
	}
	root := "/var/lib/docker/volumes/s_ci_"
	got := storedOf(own, []File{
		{Path: root + "data/_data", Type: "dir"}, {Path: root + "data/_data/dump", Type: "file"},
		{Path: root + "files/_data", Type: "dir"}, {Path: root + "files/_data/a", Type: "file"}, {Path: root + "files/_data/b", Type: "symlink"},
		{Path: root + "files2/_data/c", Type: "file"},
	})
	if diff := cmp.Diff(map[string]int{"data": 1, "files": 2}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
