package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"
)

// Two specifications are the same when they say the same, however they are written:
// Docker answers with empty parts and defaults that nobody wrote. So both are brought
// into one form, a tree without anything empty, before they are compared.

// canonical returns that form.
func canonical(spec swarm.ServiceSpec) map[string]any {
	text, err := json.Marshal(spec)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		panic(err)
	}
	defaults(tree)
	pruned, _ := prune(tree).(map[string]any)
	return pruned
}

// defaults removes what Docker fills in and what does not describe the service.
func defaults(tree map[string]any) {
	template, _ := tree["TaskTemplate"].(map[string]any)
	contents, _ := template["ContainerSpec"].(map[string]any)
	delete(template, "ForceUpdate") // a counter
	for _, d := range []struct {
		in         map[string]any
		key, value string
	}{
		{template, "Runtime", "container"},
		{contents, "Isolation", "default"},
	} {
		if d.in[d.key] == d.value {
			delete(d.in, d.key)
		}
	}
	for _, list := range []string{"Secrets", "Configs"} {
		refs, _ := contents[list].([]any)
		for _, ref := range refs {
			if ref, ok := ref.(map[string]any); ok {
				delete(ref, strings.TrimSuffix(list, "s")+"ID") // the name says which
			}
		}
	}
	if mode, ok := tree["Mode"].(map[string]any); ok {
		for name, value := range mode {
			if empty, ok := value.(map[string]any); ok && len(empty) == 0 {
				mode[name] = true // {} means something here
			}
		}
	}
	if placement, ok := template["Placement"].(map[string]any); ok {
		delete(placement, "Platforms") // of the image, as a registry told it
	}
}

// prune removes empty values, and the values that this empties. Elements of lists stay:
// their place means something.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if value = prune(value); value != nil {
				out[key] = value
			}
		}
		if len(out) > 0 {
			return out
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = prune(v[i])
		}
		if len(out) > 0 {
			return out
		}
	case string:
		if v != "" {
			return v
		}
	case float64:
		if v != 0 {
			return v
		}
	case bool:
		if v {
			return v
		}
	}
	return nil
}

// hashOf is the digest of a specification's form, 16 hex digits.
func hashOf(spec swarm.ServiceSpec) string {
	text, err := json.Marshal(canonical(spec)) // maps are written in order
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// differences says in what two specifications differ, "" when in nothing. It
// shows no values but those of images and versioned files: others may be private.
func differences(have, want swarm.ServiceSpec) string {
	var parts []string
	compare("", canonical(have), canonical(want), &parts)
	// The digest differs whenever anything does: it is news only by itself.
	parts = slices.DeleteFunc(parts, func(p string) bool { return len(parts) > 2 && strings.Contains(p, LabelSpec) })
	slices.Sort(parts)
	if more := len(parts) - 3; more > 0 {
		parts = append(parts[:3], fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

func compare(path string, have, want any, parts *[]string) {
	h, hok := have.(map[string]any)
	w, wok := want.(map[string]any)
	if hok && wok {
		keys := map[string]bool{}
		for key := range h {
			keys[key] = true
		}
		for key := range w {
			keys[key] = true
		}
		for key := range keys {
			compare(join(path, key), h[key], w[key], parts)
		}
		return
	}
	ha, hok := have.([]any)
	wa, wok := want.([]any)
	if hok && wok && len(ha) == len(wa) {
		for i := range ha {
			compare(fmt.Sprintf("%s[%d]", path, i), ha[i], wa[i], parts)
		}
		return
	}
	a, _ := json.Marshal(have)
	b, _ := json.Marshal(want)
	if string(a) == string(b) {
		return
	}
	*parts = append(*parts, describe(path, have, want))
}

// describe says one difference.
func describe(path string, have, want any) string {
	name := strings.TrimPrefix(strings.TrimPrefix(path, "TaskTemplate."), "ContainerSpec.")
	shown := name == "Image" || strings.HasSuffix(name, ".SecretName") || strings.HasSuffix(name, ".ConfigName")
	switch {
	case have == nil:
		return name + " is missing"
	case want == nil:
		return name + " is too much"
	case shown:
		return fmt.Sprintf("%s is %v and should be %v", name, have, want)
	}
	return name + " differs"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
