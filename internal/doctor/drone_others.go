package doctor

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
)

// droneLimits says whether Drone starts only what cc-ci asks for in its repository.
func droneLimits(r dronelimits.Repository, repo ccci.RepoRef, address string) ccci.Diagnosis {
	const name = "drone: limits of the repository"
	if differ := r.Differences(); len(differ) > 0 {
		return ccci.Diagnosis{Check: name, Code: ccci.CodeInvalid,
			Message: fmt.Sprintf("%s is open to pushes, pull requests or readers; it needs %s", repo, strings.Join(differ, ", ")),
			Hint:    "cc-ci reconcile drone sets this; without it, set it at " + address + "/" + repo.String() + "/settings"}
	}
	return Well(name, "%s takes no pull request, holds pushes back and shows its logs to its own people", repo)
}

// DronePipeline says who decides what runs on the host: the commit whose .drone.yml is
// used, or whoever may push to the branch.
func DronePipeline(repo ccci.RepoRef, branch, commit string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "drone: pipeline"
		if commit != "" {
			return []ccci.Diagnosis{Well(name, ".drone.yml is that of commit %s of %s", commit, repo)}
		}
		if branch == "" {
			branch = "the default branch"
		}
		return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInvalid, Warning: true,
			Message: fmt.Sprintf("whoever may push to %s of %s decides what runs on this host", branch, repo),
			Hint:    "protect the branch on the forge, and set engine.drone.commit to the commit whose .drone.yml you have read"}}
	}
}

// droneOthers looks for whoever and whatever can start a build besides cc-ci. Accounts
// and repositories that Drone knew before it was closed stay.
func droneOthers(get func(path string, into any) (int, error), address string, repo ccci.RepoRef, login string) []ccci.Diagnosis {
	unseen := func(check string, status int, err error) ccci.Diagnosis {
		message := fmt.Sprintf("Drone answers %s with %d", login, status)
		if err != nil {
			message = err.Error()
		}
		return ccci.Diagnosis{Check: check, Code: ccci.CodeRefused, Message: message, Hint: fmt.Sprintf("make %s an administrator of Drone: DRONE_USER_CREATE=username:%s,machine:false,admin:true", login, login)}
	}
	// only is well where Drone has no others, else it names them: message has a place for their names.
	only := func(check string, others []string, status int, err error, well ccci.Diagnosis, message, hint string) ccci.Diagnosis {
		switch {
		case err != nil || status != http.StatusOK:
			return unseen(check, status, err)
		case len(others) > 0:
			return ccci.Diagnosis{Check: check, Code: ccci.CodeInvalid,
				Message: strings.Replace(message, "%s", strings.Join(others, ", "), 1),
				Hint:    hint + "; see docs/drone.md, A Drone that was open"}
		}
		return well
	}
	api := "/api/repos/" + url.PathEscape(repo.Owner) + "/" + url.PathEscape(repo.Name)
	var out []ccci.Diagnosis

	const accounts = "drone: accounts"
	others, status, err := otherAccounts(get, login)
	out = append(out, only(accounts, others, status, err, Well(accounts, "%s is the only one", login),
		"Drone lets in %s besides "+login+", whatever its settings say of new accounts",
		"remove each: drone user rm NAME, or DELETE "+address+"/api/users/NAME with the token of "+login))

	const repositories = "drone: other repositories"
	others, status, err = otherRepositories(get, repo)
	out = append(out, only(repositories, others, status, err, Well(repositories, "%s is the only active one", repo),
		"Drone takes builds of %s besides "+repo.String(),
		"deactivate each: drone repo disable NAME, or DELETE "+address+"/api/repos/NAME with the token of "+login))

	for _, kind := range []struct{ check, path, remove, why string }{
		{"drone: cron jobs", "/cron", "drone cron rm", "they start builds that are not held back"},
		{"drone: secrets", "/secrets", "drone secret rm", "cc-ci needs none there, and a build may read them"},
	} {
		var all []struct {
			Name string `json:"name"`
		}
		status, err := get(api+kind.path, &all)
		if err == nil && status == http.StatusOK && len(all) > 0 {
			out = append(out, ccci.Diagnosis{Check: kind.check, Code: ccci.CodeInvalid, Warning: true,
				Message: fmt.Sprintf("%s has %s: %s", repo, all[0].Name, kind.why), Hint: fmt.Sprintf("remove each: %s %s NAME", kind.remove, repo)})
		}
	}
	return out
}

// otherAccounts lists the accounts of Drone that may do anything, but cc-ci's.
func otherAccounts(get func(string, any) (int, error), login string) (others []string, status int, err error) {
	type account struct {
		Login  string `json:"login"`
		Admin  bool   `json:"admin"`
		Active bool   `json:"active"`
	}
	all, status, err := everyPage(get, "/api/users", func(a account) string { return a.Login })
	for _, a := range all {
		switch {
		case a.Login == login || !a.Active:
		case a.Admin:
			others = append(others, a.Login+" (administrator)")
		default:
			others = append(others, a.Login)
		}
	}
	return others, status, err
}

// otherRepositories lists the active repositories but cc-ci's.
func otherRepositories(get func(string, any) (int, error), repo ccci.RepoRef) (others []string, status int, err error) {
	type repository struct {
		Slug   string `json:"slug"`
		Active bool   `json:"active"`
	}
	all, status, err := everyPage(get, "/api/repos", func(r repository) string { return r.Slug })
	for _, r := range all {
		if r.Active && r.Slug != repo.String() {
			others = append(others, r.Slug)
		}
	}
	return others, status, err
}

// everyPage reads a list to its end, in the order of its names. Not every version of
// Drone has pages for every list, nor pages of the size that is asked for: the end is a
// page with nothing new.
func everyPage[T any](get func(string, any) (int, error), path string, name func(T) string) ([]T, int, error) {
	seen := map[string]T{}
	for page := 1; ; page++ {
		var all []T
		status, err := get(fmt.Sprintf("%s?page=%d&per_page=100", path, page), &all)
		if err != nil || status != http.StatusOK {
			return nil, status, err
		}
		before := len(seen)
		for _, one := range all {
			seen[name(one)] = one
		}
		if len(seen) == before {
			sorted := make([]T, 0, len(seen))
			for _, n := range slices.Sorted(maps.Keys(seen)) {
				sorted = append(sorted, seen[n])
			}
			return sorted, status, nil
		}
	}
}
