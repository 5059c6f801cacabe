package enrol

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

const masked = "***"

var (
	secretLooking = regexp.MustCompile(`(?i)pass(word|wd|phrase)?|secret|token|(^|[_.-])(key|pwd|salt|pepper|auth|cookie|dsn)($|[_.-])|api_?key|credential|private`)
	versionOnly   = regexp.MustCompile(`^v[0-9]+$`)
	withUserinfo  = regexp.MustCompile(`://[^/\s]*:[^/\s]*@`)
)

// Effective returns the settings that hold for r by dotted key, defaults
// included, as a person may read them (U8): values of secret-looking keys and
// every value under secrets are "***" (U17). Steps are listed by name, since
// their commands and bodies may hold credentials.
func Effective(r ccci.Recipe) ccci.Settings {
	s := ccci.Settings{}
	effective(s, reflect.ValueOf(r), "")
	return s
}

func effective(s ccci.Settings, v reflect.Value, prefix string) {
	for _, f := range settings.FieldsOf(v.Type()) {
		key, value := settings.Join(prefix, f.Key), v.Field(f.Index)
		switch x := value.Interface().(type) {
		case time.Duration:
			s[key] = x.String()
		case map[string]string:
			for _, name := range slices.Sorted(maps.Keys(x)) {
				s[settings.Join(key, name)] = shown(key, name, x[name])
			}
		case []ccci.Step:
			if len(x) > 0 {
				s[key] = names(x, func(s ccci.Step) string { return s.Name })
			}
		case []ccci.Probe:
			if len(x) > 0 {
				s[key] = names(x, func(p ccci.Probe) string { return p.Name })
			}
		case []ccci.BrowserStep:
			if len(x) > 0 {
				s[key] = fmt.Sprintf("%d actions", len(x))
			}
		case []ccci.Dependency:
			for _, d := range x {
				s[settings.Join(key, d.Recipe)] = strings.TrimSpace(cmp.Or(d.Version, "newest release") + " " + shown("", "source", d.Source))
			}
		case []ccci.SkipStage:
			for _, skip := range x {
				s[settings.Join(key, string(skip.Stage))] = skip.Reason
			}
		case []ccci.Waiver:
			for i, w := range x {
				s[fmt.Sprintf("%s[%d]", key, i)] = strings.TrimSpace(fmt.Sprintf("%s for %s %s", w.Rule, w.Service, w.Value)) +
					fmt.Sprintf(" until %s, %s: %s", w.Expires, w.Owner, w.Reason)
			}
		case []string:
			if len(x) > 0 {
				s[key] = strings.Join(x, ", ")
			}
		default:
			if value.Kind() == reflect.Struct {
				effective(s, value, key)
				continue
			}
			s[key] = fmt.Sprint(x)
		}
	}
}

// Masked returns the values, by dotted key, that Effective masks and recipe.yml has as they stand.
func Masked(r ccci.Recipe) map[string]string {
	all := map[string]string{}
	add := func(of, name, value string) {
		if value != "" && !strings.Contains(value, "{{") && shown(of, name, value) == masked {
			all[settings.Join(of, name)] = value
		}
	}
	for of, values := range map[string]map[string]string{"secrets": r.Secrets, "env": r.Env, "upgrade_env": r.UpgradeEnv} {
		for name, value := range values {
			add(of, name, value)
		}
	}
	for _, d := range r.Depends {
		add("depends", d.Recipe, d.Source)
	}
	return all
}

// Shown is value as a person may read it: "***" when the key it goes by looks like
// that of a secret, or when it holds credentials itself. An empty value stays empty.
func Shown(key, value string) string {
	if value == "" {
		return ""
	}
	return shown("", key, value)
}

// shown masks a value that must not be read by everybody.
func shown(of, name, value string) string {
	if of == "secrets" || withUserinfo.MatchString(value) {
		return masked
	}
	if secretLooking.MatchString(name) && !(strings.HasSuffix(name, "_VERSION") && versionOnly.MatchString(value)) {
		return masked
	}
	return value
}

func names[T any](items []T, name func(T) string) string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = name(item)
	}
	return strings.Join(out, ", ")
}
