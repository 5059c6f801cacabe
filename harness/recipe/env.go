package recipe

import (
	"maps"
	"slices"
	"strings"
)

// Get returns the value of key, or "".
func (e Env) Get(key string) string { return e.values[key] }

// Lookup returns the value of key and whether there is one.
func (e Env) Lookup(key string) (string, bool) {
	value, ok := e.values[key]
	return value, ok
}

// Keys returns all keys in the order in which they were first set.
func (e Env) Keys() []string { return slices.Clone(e.keys) }

// Map returns all variables.
func (e Env) Map() map[string]string {
	if e.values == nil {
		return map[string]string{}
	}
	return maps.Clone(e.values)
}

// Set gives key a value. A key that exists keeps its place. Copies of e made by
// assignment share their values; use Clone for an independent one.
func (e *Env) Set(key, value string) {
	if e.values == nil {
		e.values = map[string]string{}
	}
	if _, ok := e.values[key]; !ok {
		e.keys = append(e.keys, key)
	}
	e.values[key] = value
}

// Clone returns an independent copy.
func (e Env) Clone() Env {
	return Env{keys: slices.Clone(e.keys), values: maps.Clone(e.values)}
}

// envLine writes an assignment that ParseEnv reads back as the very same value.
func envLine(key, value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-:/@+,=", r)
	}
	switch {
	case strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0:
		return key + "=" + value + "\n"
	case !strings.ContainsAny(value, "'\r"):
		return key + "='" + value + "'\n"
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`).Replace(value)
	return key + `="` + quoted + "\"\n"
}
