package harness

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// gains lists what head has and base has not, or has otherwise, that decides what code runs and
// with which rights: images, commands, health checks, labels that proxy and backup act on, mounts,
// networks, the content of configs, and every other setting of a service that is not known to be
// harmless. What services lose is listed too: a label that asked for a password, say.
func gains(base, head *recipe.Stack) []ccci.Change {
	c := &comparison{base: base, head: head}
	each(servicesOf(base), servicesOf(head), func(name string, before, after *types.ServiceConfig, kind string) {
		if kind == removed {
			return
		}
		if kind == added {
			before = &types.ServiceConfig{Name: name}
		}
		c.powers("service "+name, kind, before, after)
	})
	c.drivers()
	c.networks()
	c.configs()
	return slices.DeleteFunc(append(c.act, c.rest...), func(x ccci.Change) bool {
		return x.Kind == removed && !strings.HasPrefix(x.Subject, "service ")
	})
}

// harmless are settings of a service that neither run code nor give rights, and those that powers
// compares by itself.
var harmless = []string{"Name", "Image", "Entrypoint", "Command", "User", "HealthCheck", "Volumes", "Ports", "Networks", "Environment", "Deploy",
	"DependsOn", "Logging", "StopGracePeriod", "StopSignal", "Restart", "Expose", "Labels", "ContainerName", "StdinOpen", "Tty"}

// powers compares one service.
func (c *comparison) powers(subject, kind string, before, after *types.ServiceConfig) {
	for _, f := range []struct {
		what string
		text func(*types.ServiceConfig) string
	}{
		{"changed its image", func(s *types.ServiceConfig) string { return s.Image }},
		{"changed its entrypoint", func(s *types.ServiceConfig) string { return strings.Join(s.Entrypoint, " ") }},
		{"changed its command", func(s *types.ServiceConfig) string { return strings.Join(s.Command, " ") }},
		{"changed its user", func(s *types.ServiceConfig) string { return s.User }},
		{"changed its health check", health},
		{"publishes other ports on the server", ports},
		{"is in other networks", networksOf},
	} {
		was, is := neutral(c.base, f.text(before)), neutral(c.head, f.text(after))
		what := f.what
		if kind == added {
			what = strings.NewReplacer("changed its", "has the", "other ", "").Replace(f.what) + ", and is new"
		}
		if was != is {
			c.add(subject, kind, what, was, is)
		}
	}
	c.mounts(subject, before, after)
	c.environment(subject, before, after)
	c.labels(subject, before, after)
	was, is := reflect.ValueOf(*before), reflect.ValueOf(*after)
	for i := range was.NumField() {
		field := was.Type().Field(i)
		if slices.Contains(harmless, field.Name) || !field.IsExported() || reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			continue
		}
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			key = strings.ToLower(field.Name)
		}
		c.add(subject, kind, "changed "+key, neutral(c.base, compact(was.Field(i))), neutral(c.head, compact(is.Field(i))))
	}
}

// drivers compares what a volume is made of: an option of a driver can name a folder of the host.
func (c *comparison) drivers() {
	each(c.base.Config.Volumes, c.head.Config.Volumes, func(key string, before, after types.VolumeConfig, kind string) {
		was := compact(reflect.ValueOf([]any{before.Driver, before.DriverOpts, before.External.External}))
		is := compact(reflect.ValueOf([]any{after.Driver, after.DriverOpts, after.External.External}))
		plain := compact(reflect.ValueOf([]any{"", map[string]string(nil), false}))
		if kind == changed && was != is || kind == added && is != plain {
			c.add("volume "+key, kind, "changed its driver, options or owner", was, is)
		}
	})
}

// compact words a value of the model in one line; nothing for a zero value.
func compact(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	text, err := json.Marshal(v.Interface())
	if err != nil {
		return "(not shown)"
	}
	return string(text)
}
