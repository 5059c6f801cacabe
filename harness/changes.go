package harness

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

// maxChanges bounds what a pull request can put into a result.
const maxChanges = 200

// compare records what the upgrade changes for operators (N8). It needs only that
// both versions could be rendered: an upgrade that failed is worth comparing too.
func (l *life) compare() {
	if l.base == nil || l.head == nil {
		return
	}
	images := map[string][]ccci.Image{}
	for _, image := range l.result.Images {
		images[image.Stage] = append(images[image.Stage], image)
	}
	limit, err := parseSize(l.settings.Limits.Memory)
	if err != nil {
		limit = 0 // it was refused before anything ran
	}
	l.result.Changes = append(l.result.Changes, changes(l.base, l.head, images["base"], images["head"], limit)...)
	if l.canonical == nil { // with the canonical's data it was no fresh install
		l.result.Changes = append(l.result.Changes, startUp(l.result)...)
	}
}

// startUp sets the time of a fresh install of the base against that of the upgrade,
// when both converged. They are not the same work; an operator sees the second.
func startUp(r *ccci.Result) []ccci.Change {
	took := func(stage ccci.StageName) time.Duration {
		for _, c := range r.Stage(stage).Checks {
			if c.Name == string(stage)+"/converged" && c.Status == ccci.Pass {
				return c.Duration
			}
		}
		return 0
	}
	before, after := took(ccci.StageInstall), took(ccci.StageUpgrade)
	if before <= 0 || after <= 0 {
		return nil
	}
	return []ccci.Change{{Subject: "start-up", Kind: changed, What: "the services converged: fresh install of the base, then upgrade to the head",
		Before: fmt.Sprintf("%.1f s", before.Seconds()), After: fmt.Sprintf("%.1f s", after.Seconds())}}
}

const (
	added   = "added"
	removed = "removed"
	changed = "changed"
)

// comparison collects the differences of two versions.
type comparison struct {
	base, head *recipe.Stack
	memory     int64         // the run's own limit of each container, 0 for none
	act        []ccci.Change // an operator must do something
	rest       []ccci.Change
}

// changes lists what an upgrade from base to head changes for operators: first what
// they must act on, then the rest, service by service. Images are matched by service;
// memory is the limit in bytes that the run itself sets on containers, 0 for none.
// The app's own names read as ${DOMAIN} and ${STACK_NAME}; secrets are masked.
func changes(base, head *recipe.Stack, baseImages, headImages []ccci.Image, memory int64) []ccci.Change {
	c := &comparison{base: base, head: head, memory: memory}
	c.sample()
	c.secrets()
	c.volumes()
	c.services(baseImages, headImages)
	c.networks()
	c.configs()
	all := append(c.act, c.rest...)
	if more := len(all) - maxChanges; more > 0 {
		all = append(all[:maxChanges:maxChanges], ccci.Change{Subject: "recipe", Kind: changed, What: fmt.Sprintf("%d more differences are not listed", more)})
	}
	return all
}

func (c *comparison) add(subject, kind, what, before, after string) {
	c.rest = append(c.rest, c.change(subject, kind, what, before, after))
}

func (c *comparison) mustAct(subject, kind, what, before, after string) {
	c.act = append(c.act, c.change(subject, kind, what, before, after))
}

func (c *comparison) change(subject, kind, what, before, after string) ccci.Change {
	return ccci.Change{Subject: shorten(subject), Kind: kind, What: shorten(what), Before: shorten(hide(c.base, before)), After: shorten(hide(c.head, after))}
}

// sample compares what the recipe tells operators to set. The head runs with the
// base's env file, so none of this shows in the stacks' own environment.
func (c *comparison) sample() {
	each(c.base.Sample.Map(), c.head.Sample.Map(), func(key string, before, after string, kind string) {
		// TYPE, VERSION and the like name the recipe or the app, not a setting.
		if key == "TYPE" || key == "RECIPE" || key == "DOMAIN" || before == after && kind == changed {
			return
		}
		shownBefore, shownAfter := enrol.Shown(key, before), enrol.Shown(key, after)
		switch {
		case kind == added && after == "":
			c.mustAct("env", kind, key+" is new in .env.sample and has no default: an operator must decide on it", "", "")
		case kind == added:
			c.add("env", kind, key+" is new in .env.sample; apps that exist do not have it", "", shownAfter)
		case kind == removed:
			c.add("env", kind, key+" is gone from .env.sample", shownBefore, "")
		case strings.HasPrefix(key, "SECRET_") && strings.HasSuffix(key, "_VERSION"):
			c.mustAct("env", kind, key+" has a new default in .env.sample: who takes it over must insert the secret again", before, after)
		default:
			c.add("env", kind, key+" has a new default in .env.sample; apps keep the value that they have", shownBefore, shownAfter)
		}
	})
}

func (c *comparison) secrets() {
	byKey := func(s *recipe.Stack) map[string]recipe.Secret {
		m := map[string]recipe.Secret{}
		for _, secret := range s.Secrets {
			m[secret.Key] = secret
		}
		return m
	}
	each(byKey(c.base), byKey(c.head), func(key string, before, after recipe.Secret, kind string) {
		subject := "secret " + key
		switch {
		case kind == added && after.Generate:
			c.mustAct(subject, kind, "is new: an operator must generate it before the upgrade", "", after.Version)
		case kind == added:
			c.mustAct(subject, kind, "is new and not generated: an operator must insert it before the upgrade", "", after.Version)
		case kind == removed:
			c.add(subject, kind, "is no longer used", before.Version, "")
		case before.Version != after.Version:
			c.mustAct(subject, kind, "changed its version: an operator must insert it again before the upgrade", before.Version, after.Version)
		}
	})
}

func (c *comparison) volumes() {
	each(c.base.Config.Volumes, c.head.Config.Volumes, func(key string, before, after types.VolumeConfig, kind string) {
		subject := "volume " + key
		was, is := ownName(c.base, before.Name), ownName(c.head, after.Name)
		switch {
		case kind == added:
			c.add(subject, kind, "is new", "", is)
		case kind == removed:
			c.mustAct(subject, kind, "is no longer used: its data stays on the server and the app does not see it", was, "")
		case was != is:
			c.mustAct(subject, kind, "changed its name: the app does not see the data under the old one", was, is)
		}
	})
}

func (c *comparison) networks() {
	each(c.base.Config.Networks, c.head.Config.Networks, func(key string, before, after types.NetworkConfig, kind string) {
		was, is := ownName(c.base, before.Name), ownName(c.head, after.Name)
		if kind != changed || was != is {
			c.add("network "+key, kind, map[string]string{added: "is new", removed: "is gone", changed: "changed its name"}[kind], was, is)
		}
	})
}

func (c *comparison) configs() {
	each(c.base.Config.Configs, c.head.Config.Configs, func(key string, before, after types.ConfigObjConfig, kind string) {
		was, is := ownName(c.base, before.Name), ownName(c.head, after.Name)
		same := bytes.Equal(c.base.ConfigData[key], c.head.ConfigData[key])
		switch {
		case kind == added:
			c.add("config "+key, kind, "is new", "", is)
		case kind == removed:
			c.add("config "+key, kind, "is gone", was, "")
		case !same:
			c.add("config "+key, kind, "changed its content", was, is)
		case was != is:
			c.add("config "+key, kind, "changed its name and the same content", was, is)
		}
	})
}

// each visits what either map holds, by key in order, with "added", "removed" or,
// where both hold it, "changed": the visitor finds out whether it did.
func each[V any](base, head map[string]V, visit func(key string, before, after V, kind string)) {
	keys := slices.Sorted(maps.Keys(base))
	for key := range head {
		if _, ok := base[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		before, was := base[key]
		after, is := head[key]
		kind := changed
		switch {
		case !was:
			kind = added
		case !is:
			kind = removed
		}
		visit(key, before, after, kind)
	}
}

// neutral writes the app's own names as a recipe does, so that two versions compare
// whatever app they were rendered for.
func neutral(s *recipe.Stack, text string) string {
	return strings.NewReplacer(s.Domain, "${DOMAIN}", s.Name, "${STACK_NAME}").Replace(text)
}

// ownName is an object's name without the stack's, which each app has differently.
func ownName(s *recipe.Stack, name string) string { return strings.TrimPrefix(name, s.Name+"_") }

// hide masks the values of secret-looking variables wherever a recipe put them,
// as in the credentials of a database's address. Values of fewer than 6 bytes
// would mask ordinary words.
func hide(s *recipe.Stack, text string) string {
	for _, key := range s.Env.Keys() {
		value := s.Env.Get(key)
		if len(value) >= 6 && enrol.Shown(key, value) != value {
			text = strings.ReplaceAll(text, value, enrol.Shown(key, value))
		}
	}
	return text
}

// shorten keeps a text readable in a table.
func shorten(text string) string {
	const most = 200
	text = strings.ToValidUTF8(text, "?")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
