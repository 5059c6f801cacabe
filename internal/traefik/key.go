// Package traefik reads labels of the proxy as Traefik does, for all who judge, serve or hand on
// what a recipe writes there: one reader, so that none of them takes a label for what another
// does not.
package traefik

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Prefix begins each label that Traefik reads, in whatever case.
const Prefix = "traefik."

// Bounds of a label's key.
const (
	maxKey      = 512 // bytes
	maxSegments = 16  // Traefik recurses
)

// segment is one name between dots; index is what may follow an option that is a list.
var (
	segment = regexp.MustCompile(`^[A-Za-z0-9_-]+(\[[0-9]{1,3}\])?$`)
	name    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// Reads reports whether Traefik reads a label of this key.
func Reads(key string) bool {
	return len(key) >= len(Prefix) && strings.EqualFold(key[:len(Prefix)], Prefix)
}

// IsName reports whether a part of a key is a plain name: letters, digits, hyphens and underscores.
func IsName(part string) bool { return name.MatchString(part) }

// CheckKey returns an error for the key of a label unless it is made of plain names with dots between
// them, each with at most one index such as [0] behind it. Traefik's parser panics at some other
// keys, which ends its reading of all labels until it is restarted. key begins with [Prefix].
func CheckKey(key string) error {
	if len(key) > maxKey {
		return fmt.Errorf("its key has more than %d bytes", maxKey)
	}
	parts := strings.Split(key, ".")
	if len(parts) > maxSegments {
		return fmt.Errorf("its key has more than %d parts", maxSegments)
	}
	if !strings.EqualFold(parts[0]+".", Prefix) || len(parts) < 2 || !name.MatchString(parts[0]) {
		return errors.New("its key does not begin with traefik.")
	}
	for _, part := range parts[1:] {
		if !segment.MatchString(part) {
			return fmt.Errorf("%.64q is not a plain name", part)
		}
	}
	return nil
}

// usersOf finds the middleware of a label about basicauth, in lower case.
var usersOf = regexp.MustCompile(`^(traefik\.http\.middlewares\.[^.]+\.basicauth)\.`)

// CheckLabels returns an error when Traefik may fail, for all apps, at the labels of a service: at a
// key, see [CheckKey], or at a basicauth without users, of which Traefik 3.6 takes the first one.
// Labels that Traefik does not read are passed over.
func CheckLabels(labels map[string]string) error {
	guards, users := map[string]bool{}, map[string]bool{}
	for key, value := range labels {
		if !Reads(key) {
			continue
		}
		if err := CheckKey(key); err != nil {
			return fmt.Errorf("the label %.128q: %w", key, err)
		}
		low := strings.ToLower(key)
		if m := usersOf.FindStringSubmatch(low); m != nil {
			guards[m[1]] = true
			users[m[1]] = users[m[1]] || value != "" && (low == m[1]+".users" || low == m[1]+".usersfile")
		}
	}
	for guard := range guards {
		if !users[guard] {
			return fmt.Errorf("the labels %s.… state no users", guard)
		}
	}
	return nil
}
