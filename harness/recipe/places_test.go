package recipe

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"
)

func TestN3_GuardedPath(t *testing.T) {
	for name, want := range map[string]bool{
		"/": true, "": true, "/dev": true, "/dev/null": true, "/DEV/null": true, "/proc/self/fd/7": true, "/sys/": true, "data/../proc": true,
		"/dev/shm": false, "/dev/shm/x": false, "/dev/shm/..": true, "/device": false, "/data": false, "/data/proc": false, "/run/secrets/x": false,
	} {
		if got := GuardedPath(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// A place in a volume is exposed where a service can exchange a folder on the way to it.
func TestN3_ExposedPlacesInVolumes(t *testing.T) {
	type mounts = []Mount
	vol := func(service, volume, target string, more ...func(*Mount)) Mount {
		m := Mount{Service: service, What: "volume " + volume, Volume: volume, Target: target, Subpath: "/", Write: true}
		for _, change := range more {
			change(&m)
		}
		return m
	}
	reads := func(m *Mount) { m.Write = false }
	sub := func(dir string) func(*Mount) { return func(m *Mount) { m.Subpath = dir } }
	config := func(service, target string) Mount {
		return Mount{Service: service, What: "config", Target: target, File: true}
	}
	plain := func(service, target string) Mount {
		return Mount{Service: service, What: "tmpfs", Target: target, Write: true}
	}
	for name, c := range map[string]struct {
		mounts mounts
		want   string // targets that are exposed, and where
	}{
		"apart":                     {mounts{vol("a", "v", "/v"), vol("b", "v", "/v"), config("b", "/etc/x"), vol("b", "w", "/vv")}, ""},
		"another service's link":    {mounts{vol("a", "v", "/data"), vol("b", "v", "/v"), config("b", "/v/x/y")}, "/v/x/y by a at /data/x"},
		"folder for uploads":        {mounts{vol("a", "v", "/html"), vol("a", "w", "/html/apps"), vol("b", "v", "/html", reads), vol("b", "w", "/html/apps", reads)}, ""},
		"uploads at another place":  {mounts{vol("a", "v", "/html"), vol("b", "v", "/html", reads), vol("b", "w", "/html/apps", reads)}, "/html/apps by a at /html/apps"},
		"nobody writes":             {mounts{vol("a", "v", "/v", reads), vol("b", "v", "/v", reads), config("b", "/v/x")}, ""},
		"own file":                  {mounts{vol("a", "v", "/v"), config("a", "/v/x/y")}, ""},
		"own folder, covered":       {mounts{vol("a", "v", "/v"), vol("a", "w", "/v/x")}, ""},
		"own folder, deep":          {mounts{vol("a", "v", "/v"), vol("a", "w", "/v/x/y")}, "/v/x/y by a at /v/x"},
		"deep through another":      {mounts{vol("a", "v", "/v"), plain("a", "/v/x"), vol("a", "w", "/v/x/y")}, ""},
		"mounted twice":             {mounts{vol("a", "v", "/v"), vol("a", "w", "/v/x"), vol("a", "v", "/again")}, "/v/x by a at /again/x"},
		"below a tmpfs":             {mounts{plain("a", "/v"), vol("a", "w", "/v/x/y")}, ""},
		"volume at the root":        {mounts{vol("a", "v", "/"), vol("a", "w", "/x/y")}, "/x/y by a at /x"},
		"subpath of the way":        {mounts{vol("a", "v", "/data", sub("/x")), vol("b", "v", "/v"), config("b", "/v/x/y")}, "/v/x/y by a at /data/y"},
		"subpath elsewhere":         {mounts{vol("a", "v", "/data", sub("/z")), vol("b", "v", "/v"), config("b", "/v/x/y")}, ""},
		"subpath is the place":      {mounts{vol("a", "v", "/data", sub("/x/y")), vol("b", "v", "/v", reads), vol("b", "w", "/v/x/y")}, ""},
		"mounted by subpath":        {mounts{vol("a", "v", "/data"), vol("b", "v", "/v", sub("/x"), reads), vol("b", "w", "/v/y")}, "/v/y by a at /data/x"},
		"another at the same place": {mounts{vol("a", "v", "/v"), plain("a", "/v"), vol("a", "w", "/v/x/y")}, "/v/x/y by a at /v/x"},
		"covered beside":            {mounts{vol("a", "v", "/data"), vol("a", "w", "/data/xx"), vol("b", "v", "/v", reads), vol("b", "w", "/v/x")}, "/v/x by a at /data/x"},
	} {
		var got []string
		for _, e := range Exposed(c.mounts) {
			got = append(got, fmt.Sprintf("%s by %s at %s", e.Mount.Target, e.Writer.Service, e.Way))
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// Many mounts of one volume are compared a bounded number of times.
func TestN3_ExposedIsBounded(t *testing.T) {
	var all []Mount
	for i := range 20_000 {
		all = append(all, Mount{Service: "a", Target: fmt.Sprintf("/%d", i), Volume: "v", Subpath: "/", Write: true}, Mount{Service: "a", Target: fmt.Sprintf("/%d/x", i), Volume: "w"})
	}
	if got := Exposed(all); len(got) < 19_000 { // what is beyond the bound is refused
		t.Errorf("%d of them are exposed", len(got))
	}
}

func TestMountsOf(t *testing.T) {
	stack := &Stack{Name: "s", Config: &types.Config{Volumes: map[string]types.VolumeConfig{"data": {Name: "s_data"}}}}
	got := MountsOf(stack, types.ServiceConfig{
		Name: "app",
		Volumes: []types.ServiceVolumeConfig{
			{Source: "data", Target: "/data/"}, {Type: "volume", Source: "data", Target: "/sub", ReadOnly: true, Volume: &types.ServiceVolumeVolume{Subpath: "a/b"}},
			{Type: "volume", Target: "/own"}, {Type: "tmpfs", Target: "/tmp"}, {Type: "bind", Source: "/srv", Target: "/srv"},
			{Type: "volume", Source: "data", Target: "/bare", Volume: &types.ServiceVolumeVolume{NoCopy: true}},
		},
		Configs: []types.ServiceConfigObjConfig{{Source: "c"}, {Source: "d", Target: "/etc/d"}},
		Secrets: []types.ServiceSecretConfig{{Source: "p"}, {Source: "q", Target: "other"}, {Source: "r", Target: "/etc/r"}},
	})
	want := []Mount{
		{"app", "volume data", "/data", "s_data", "/", true, false, true},
		{"app", "volume data", "/sub", "s_data", "/a/b", false, false, false},
		{"app", "volume without a name", "/own", "", "/", true, false, false},
		{"app", "tmpfs", "/tmp", "", "/", true, false, false},
		{"app", "bind mount", "/srv", "", "/", true, false, false},
		{"app", "volume data", "/bare", "s_data", "/", true, false, false},
		{"app", "config c", "/c", "", "", false, true, false},
		{"app", "config d", "/etc/d", "", "", false, true, false},
		{"app", "secret p", "/run/secrets/p", "", "", false, true, false},
		{"app", "secret q", "/run/secrets/other", "", "", false, true, false},
		{"app", "secret r", "/etc/r", "", "", false, true, false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
