package dashboard

import (
	"net/url"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// webURL returns an address as a link, or "" when it is not one of the web, or holds credentials.
func webURL(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// pullOf is the address of a run's pull request, "" where none is known.
func (d *Dashboard) pullOf(run ccci.Run) string {
	switch {
	case run.PR.Number == 0 || run.PR.Repo.IsZero():
		return ""
	case d.cfg.Forge != nil:
		return pullURL(run.PR)
	}
	return webURL(run.PullURL)
}

// repositoryOf is the address of the repository that a run was cloned from: on the forges that
// cc-ci knows it is that of the clone without its ending. "" where it is a path.
func repositoryOf(run ccci.Run) string {
	return strings.TrimSuffix(webURL(run.CloneURL), ".git")
}

// commandsFor lists the comments that act on a run of a pull request. The pages do not act
// themselves: who may do what is the forge's to say (docs/decisions/0022-pages-name-commands.md).
func commandsFor(run ccci.Run) []string {
	switch {
	case run.PR.Number == 0:
		return nil
	case !run.Status.Terminal():
		return []string{"!cancel", "!status"}
	case run.Status == ccci.StatusPassed, run.Started.IsZero(): // nothing to repeat
		return []string{"!testme"}
	}
	return []string{"!testme", "!retest"}
}
