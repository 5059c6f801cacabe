// Package dronelimits says how a Drone server, its one repository and its exec runner
// are limited to the builds that cc-ci starts. Steps of a build run on the host and may
// use its Docker, which is the same as being root there.
//
// Three layers, each without trust in the others: [Server], [Repository] and [Runner].
// What each one stops, and what it does not, is in docs/security.md and in decision
// record 0008. The names and meanings are those of Drone 1.10.1 and of
// drone-runner-exec 1.0.0-beta.10.
package dronelimits

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Event is the only event whose builds the runner takes: builds started by the API.
const Event = "custom"

// Server returns the settings of the server that keep accounts and repositories out.
// admin is cc-ci's account at the forge, repo the repository with .drone.yml.
//
// The first two are asked when an account signs in for the first time and never again;
// DRONE_USER_CREATE passes them, so cc-ci's account can still be made. The filter of
// repositories takes owners, not repositories, and acts when an account's repositories
// are listed: what Drone knew before stays.
func Server(admin string, repo ccci.RepoRef) map[string]string {
	return map[string]string{
		"DRONE_REGISTRATION_CLOSED": "true",
		"DRONE_USER_FILTER":         admin,
		"DRONE_REPOSITORY_FILTER":   repo.Owner,
	}
}

// Runner returns the settings of the exec runner. It answers any other build with
// "insufficient permission to run the pipeline" and starts nothing.
//
// DRONE_LIMIT_TRUSTED is not one of them: it would take builds of trusted repositories
// alone, and the repository is not trusted, since nothing of it needs to be.
func Runner(repo ccci.RepoRef) map[string]string {
	return map[string]string{
		"DRONE_LIMIT_REPOS":  repo.String(),
		"DRONE_LIMIT_EVENTS": Event,
	}
}

// Repository holds the settings of a repository as Drone's API names them.
type Repository struct {
	Visibility  string `json:"visibility"`
	Config      string `json:"config_path"`
	Trusted     bool   `json:"trusted"`
	Protected   bool   `json:"protected"`
	IgnoreForks bool   `json:"ignore_forks"`
	IgnorePulls bool   `json:"ignore_pull_requests"`
}

// Wanted returns the settings of the one repository: its logs are shown to its own
// people alone, and what the forge's webhook brings starts nothing. Protected holds a
// build of the webhook back until somebody approves it, unless its .drone.yml is
// signed; builds started by the API are never held back.
func Wanted() Repository {
	return Repository{Visibility: "private", Config: ".drone.yml", Protected: true, IgnoreForks: true, IgnorePulls: true}
}

// Differences lists the settings in which r is not as wanted, as "trusted false", by
// their names in Drone's API and with the value that they should have.
func (r Repository) Differences() []string {
	want := Wanted()
	var all []string
	for _, s := range []struct {
		name      string
		has, want any
	}{
		{"visibility", r.Visibility, want.Visibility},
		{"config_path", r.Config, want.Config},
		{"trusted", r.Trusted, want.Trusted},
		{"protected", r.Protected, want.Protected},
		{"ignore_forks", r.IgnoreForks, want.IgnoreForks},
		{"ignore_pull_requests", r.IgnorePulls, want.IgnorePulls},
	} {
		if s.has != s.want {
			all = append(all, fmt.Sprintf("%s %v", s.name, s.want))
		}
	}
	return all
}

// Missing lists those of the settings wanted that an environment does not have as they
// should be, as lines of an environment file in the order of their names.
func Missing(wanted, environ map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		has, want := strings.TrimSpace(environ[name]), wanted[name]
		same := has == want
		if closed, err := strconv.ParseBool(has); err == nil && name == "DRONE_REGISTRATION_CLOSED" {
			same = closed
		}
		if !same {
			all = append(all, name+"="+want)
		}
	}
	return all
}
