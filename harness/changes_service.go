package harness

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/compose/types"
	units "github.com/docker/go-units"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

func (c *comparison) services(baseImages, headImages []ccci.Image) {
	each(servicesOf(c.base), servicesOf(c.head), func(name string, before, after *types.ServiceConfig, kind string) {
		switch kind {
		case added:
			c.add("service "+name, kind, "is new", "", after.Image)
		case removed:
			c.add("service "+name, kind, "is gone", before.Image, "")
		default:
			c.image(before, after, sizeOf(baseImages, name), sizeOf(headImages, name))
			c.service("service "+name, before, after)
		}
	})
}

// servicesOf are the services of a stack by name.
func servicesOf(s *recipe.Stack) map[string]*types.ServiceConfig {
	m := map[string]*types.ServiceConfig{}
	for i := range s.Config.Services {
		m[s.Config.Services[i].Name] = &s.Config.Services[i]
	}
	return m
}

func sizeOf(images []ccci.Image, service string) int64 {
	for _, image := range images {
		if image.Service == service {
			return image.Size
		}
	}
	return 0
}

// An image's size is told when it differs by so much.
const (
	tellBytes   = 5 << 20
	tellPercent = 5
)

func (c *comparison) image(before, after *types.ServiceConfig, was, is int64) {
	subject := "image " + before.Name
	if before.Image != after.Image {
		c.add(subject, changed, "changed", before.Image, after.Image)
	}
	delta := is - was
	if was <= 0 || is <= 0 || max(delta, -delta) < tellBytes && max(delta, -delta)*100 < tellPercent*was {
		return
	}
	more := "more"
	if delta < 0 {
		more, delta = "less", -delta
	}
	c.add(subject, changed, fmt.Sprintf("takes %s (%.1f %%) %s on disk", units.BytesSize(float64(delta)), 100*float64(delta)/float64(was), more),
		units.BytesSize(float64(was)), units.BytesSize(float64(is)))
}

// service compares one service that both versions have.
func (c *comparison) service(subject string, before, after *types.ServiceConfig) {
	c.mounts(subject, before, after)
	c.environment(subject, before, after)
	c.labels(subject, before, after)
	for _, f := range []struct {
		what string
		text func(*types.ServiceConfig) string
	}{
		{"publishes other ports on the server", ports},
		{"is in other networks", networksOf},
		{"changed its health check", health},
		{"changed its user", func(s *types.ServiceConfig) string { return s.User }},
		{"changed its memory limit", c.memoryLimit},
	} {
		was, is := neutral(c.base, f.text(before)), neutral(c.head, f.text(after))
		if was != is {
			c.add(subject, changed, f.what, was, is)
		}
	}
}

func (c *comparison) mounts(subject string, before, after *types.ServiceConfig) {
	byTarget := func(stack *recipe.Stack, s *types.ServiceConfig) map[string]string {
		m := map[string]string{}
		for _, v := range s.Volumes {
			source := cmp.Or(neutral(stack, v.Source), "an anonymous volume")
			if v.Type != "volume" {
				source = v.Type + " " + source
			}
			if v.ReadOnly {
				source += " (read-only)"
			}
			m[neutral(stack, v.Target)] = source
		}
		return m
	}
	each(byTarget(c.base, before), byTarget(c.head, after), func(target, was, is, kind string) {
		switch {
		case kind == added:
			c.add(subject, kind, "has a new mount at "+target, was, is)
		case kind == removed:
			c.add(subject, kind, "no longer mounts anything at "+target, was, is)
		case was != is:
			c.add(subject, kind, "mounts something else at "+target, was, is)
		}
	})
}

// environment compares what the containers get. Variables that the service has from the
// env file and from abra.sh alone are left out: the first are the operator's own, and
// of the second only the versions of configs change, which are told as configs.
func (c *comparison) environment(subject string, before, after *types.ServiceConfig) {
	set := func(stack *recipe.Stack, s *types.ServiceConfig) map[string]string {
		m := map[string]string{}
		for key, value := range s.Environment {
			if value != nil {
				m[key] = neutral(stack, *value)
			}
		}
		return m
	}
	inherited := func(stack *recipe.Stack, s *types.ServiceConfig, key string) bool {
		value := s.Environment[key]
		from, ok := stack.Env.Lookup(key)
		return value == nil || ok && *value == from
	}
	each(set(c.base, before), set(c.head, after), func(key, was, is, kind string) {
		if kind == changed && was == is || inherited(c.base, before, key) && inherited(c.head, after, key) {
			return
		}
		what := map[string]string{added: "gets the new variable ", removed: "no longer gets the variable ", changed: "changed the variable "}[kind]
		c.add(subject, kind, what+key, enrol.Shown(key, was), enrol.Shown(key, is))
	})
}

// labels compares those by which the proxy and the backup find the service.
func (c *comparison) labels(subject string, before, after *types.ServiceConfig) {
	watched := func(stack *recipe.Stack, s *types.ServiceConfig) map[string]string {
		m := map[string]string{}
		for key, value := range s.Deploy.Labels {
			if strings.HasPrefix(key, "traefik.") || strings.HasPrefix(key, "backupbot.") {
				m[neutral(stack, key)] = neutral(stack, value)
			}
		}
		return m
	}
	each(watched(c.base, before), watched(c.head, after), func(key, was, is, kind string) {
		if kind == changed && was == is {
			return
		}
		of := "proxy"
		if strings.HasPrefix(key, "backupbot.") {
			of = "backup"
		}
		what := map[string]string{added: "has the new %s label %s", removed: "no longer has the %s label %s", changed: "changed the %s label %s"}[kind]
		// A sentence without $ is not taken for code by a forge.
		name := strings.ReplaceAll(key, "${STACK_NAME}", "<stack>")
		c.add(subject, kind, fmt.Sprintf(what, of, name), shownLabel(key, was), shownLabel(key, is))
	})
}

// shownLabel masks the users of a proxy's sign-in: they hold password hashes.
func shownLabel(key, value string) string {
	if lower := strings.ToLower(key); strings.Contains(lower, "basicauth.users") || strings.Contains(lower, "digestauth.users") {
		return enrol.Shown("password", value)
	}
	return enrol.Shown(key, value)
}

func networksOf(s *types.ServiceConfig) string {
	return strings.Join(slices.Sorted(maps.Keys(s.Networks)), ", ")
}

func ports(s *types.ServiceConfig) string {
	var all []string
	for _, p := range s.Ports {
		text := fmt.Sprintf("%d/%s", p.Target, cmp.Or(p.Protocol, "tcp"))
		if p.Published != 0 {
			text = fmt.Sprintf("%d:%s", p.Published, text)
		}
		if p.Mode == "host" {
			text += " (host)"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func health(s *types.ServiceConfig) string {
	h := s.HealthCheck
	switch {
	case h == nil:
		return ""
	case h.Disable:
		return "disabled"
	}
	text := strings.Join(h.Test, " ")
	for _, d := range []struct {
		name  string
		value *types.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start period", h.StartPeriod}, {"start interval", h.StartInterval}} {
		if d.value != nil {
			text += ", " + d.name + " " + d.value.String()
		}
	}
	if h.Retries != nil {
		text += ", retries " + strconv.FormatUint(*h.Retries, 10)
	}
	return text
}

// memoryLimit words the limit of a service. The run's own limit hides what the
// recipe states above it.
func (c *comparison) memoryLimit(s *types.ServiceConfig) string {
	if s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 {
		return ""
	}
	limit := int64(s.Deploy.Resources.Limits.MemoryBytes)
	if limit == c.memory {
		return "none, or at least " + units.BytesSize(float64(limit))
	}
	return units.BytesSize(float64(limit))
}
