package admission

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"
)

// The value of a refusal is all that a waiver approves, so it holds all that decides how much is
// asked for: a pull request changes the rest as it likes.

// Whether something is mounted for writing, at the end of the value.
const (
	readOnly  = ":ro"
	writable  = ":rw"
	privately = "rprivate" // how mounts propagate where nothing is said
)

// accessRules are those whose values end in an access.
var accessRules = []string{ruleBind, ruleSocket, ruleMountType, ruleVolume, ruleVolumeDriver}

// covers reports whether a waiver of one value lifts another one: that for writing lifts
// the same for reading.
func covers(rule, waived, value string) bool {
	if waived == value {
		return true
	}
	i := strings.LastIndexByte(value, ':')
	if i < 0 || !slices.Contains(accessRules, rule) {
		return false
	}
	rest, ok := strings.CutPrefix(value[i:], readOnly)
	return ok && (rest == "" || rest[0] == ',') && waived == value[:i]+writable+rest
}

var colons = strings.NewReplacer(`\`, `\\`, ":", `\:`)

// joined puts parts together so that no other parts have the same value.
func joined(parts ...string) string {
	for i, part := range parts {
		parts[i] = colons.Replace(part)
	}
	return strings.Join(parts, ":")
}

// access says how a mount is used: ":ro" or ":rw", with the propagation where it is not the default.
func access(m types.ServiceVolumeConfig) string {
	mode := writable
	if m.ReadOnly {
		mode = readOnly
	}
	if p := propagation(m); p != "" {
		mode += "," + p
	}
	return mode
}

func propagation(m types.ServiceVolumeConfig) string {
	if m.Bind == nil || m.Bind.Propagation == privately {
		return ""
	}
	return m.Bind.Propagation
}

// used describes an access for people.
func used(m types.ServiceVolumeConfig) string {
	text := ""
	if m.ReadOnly {
		text = ", read-only"
	}
	if p := propagation(m); p != "" {
		text += ", with the propagation " + p
	}
	return text
}

func subpath(m types.ServiceVolumeConfig) string {
	switch {
	case m.Volume != nil && m.Volume.Subpath != "":
		return m.Volume.Subpath
	case m.Image != nil:
		return m.Image.Subpath
	}
	return ""
}

// mountValue is that of a mount; source is as its author knows it.
func mountValue(m types.ServiceVolumeConfig, source string) string {
	parts := []string{source, m.Target}
	if sub := subpath(m); sub != "" {
		parts = append(parts, sub)
	}
	if m.Type != "bind" {
		parts = slices.Insert(parts, 0, m.Type)
	}
	return joined(parts...) + access(m)
}

// accesses lists how services mount a declared volume. One that nobody mounts is read by nobody.
func (j *judge) accesses(key string) []string {
	var out []string
	for _, s := range j.stack.Config.Services {
		for _, m := range s.Volumes {
			if m.Type == "bind" || m.Source != key {
				continue
			}
			one := access(m)
			if sub := subpath(m); sub != "" {
				one = ":" + colons.Replace(sub) + one
			}
			out = append(out, one)
		}
	}
	if len(out) == 0 {
		return []string{readOnly}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var commas = strings.NewReplacer(`\`, `\\`, ",", `\,`)

// settingsValue is that of the options of a driver. first is what stands before them, if anything.
func settingsValue(first string, opts map[string]string) string {
	var parts []string
	if first != "" {
		parts = append(parts, commas.Replace(first))
	}
	for _, name := range slices.Sorted(maps.Keys(opts)) {
		parts = append(parts, commas.Replace(name+"="+opts[name]))
	}
	return strings.Join(parts, ",")
}

// private are names of labels and variables whose values are not shown.
var private = regexp.MustCompile(`(?i)(users$|passw|secret|token|credential|api_?key)`)

// keyValue is the value of a label or a variable. A text that is not to be shown, or too long for
// an entry, stands there as its SHA-256, taken of the text with ${STACK_NAME} and ${DOMAIN} in place
// of what differs from run to run.
func (j *judge) keyValue(key, text string) string {
	shown := j.general(text)
	if private.MatchString(key) || len(j.general(key))+1+len(shown) > maxWaiverValue {
		sum := sha256.Sum256([]byte(shown))
		return key + "=sha256:" + hex.EncodeToString(sum[:])
	}
	return key + "=" + text
}

// general is a text with the run's own names in the form that holds for each run.
func (j *judge) general(text string) string {
	for _, n := range j.ownNames() {
		if n[1] != "" {
			text = strings.ReplaceAll(text, n[1], n[0])
		}
	}
	return text
}
