package github

import (
	"context"
	"net/url"
	"slices"
	"strconv"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var (
	_ ccci.Discoverer       = (*Forge)(nil)
	_ ccci.RepositoryReader = (*Forge)(nil)
	_ ccci.Diagnoser        = (*Forge)(nil)
)

// Find says which repositories [Forge.Discover] looks for: those of an
// organisation, and of them those with a topic or of a team where one is named.
type Find struct {
	Org   string
	Topic string
	Team  string // its slug, as in the address of its page
}

type repository struct {
	Name  string `json:"name"`
	Owner struct {
		Login string `json:"login"`
	} `json:"owner"`
	Branch   string   `json:"default_branch"`
	CloneURL string   `json:"clone_url"`
	Archived bool     `json:"archived"`
	Topics   []string `json:"topics"`

	Permissions *struct {
		Push bool `json:"push"`
	} `json:"permissions"`
}

func (r repository) ref() ccci.RepoRef { return ccci.RepoRef{Owner: r.Owner.Login, Name: r.Name} }

// Repository implements [ccci.RepositoryReader]. Ref is what it is called now.
func (f *Forge) Repository(ctx context.Context, ref ccci.RepoRef) (ccci.Repository, error) {
	var r repository
	if _, err := f.read(ctx, repoPath(ref, ""), nil, false, &r); err != nil {
		return ccci.Repository{}, f.fail("looking for "+ref.String(), err)
	}
	if r.Name == "" || r.Owner.Login == "" || r.CloneURL == "" {
		return ccci.Repository{}, ccci.Errorf(ccci.CodeInfra, "looking for %s: GitHub's answer does not describe it", ref)
	}
	out := ccci.Repository{Ref: r.ref(), Branch: r.Branch, CloneURL: r.CloneURL}
	// An App is no collaborator: what it may do, its installation says.
	out.ReadOnly = f.asApp == nil && r.Permissions != nil && !r.Permissions.Push
	if r.Archived {
		out.Closed = "it is archived"
	}
	return out, nil
}

// Discover implements [ccci.Discoverer]. Archived repositories, where nobody can
// comment, are left out. Unchanged lists cost no points.
func (f *Forge) Discover(ctx context.Context) ([]ccci.RepoRef, error) {
	find := f.opts.Find
	if find.Org == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "looking for repositories on GitHub: no organisation is named")
	}
	path := "orgs/" + url.PathEscape(find.Org)
	query := url.Values{"per_page": {strconv.Itoa(pageSize)}}
	if find.Team != "" {
		path += "/teams/" + url.PathEscape(find.Team) + "/repos"
	} else {
		path += "/repos"
		query.Set("type", "all")
		query.Set("sort", "full_name")
	}
	var found []ccci.RepoRef
	for page := 1; ; page++ {
		query.Set("page", strconv.Itoa(page))
		var rows []repository
		if _, err := f.read(ctx, path, query, false, &rows); err != nil {
			return nil, f.fail("looking for repositories of "+find.Org, err)
		}
		for _, r := range rows {
			if ref := r.ref(); !r.Archived && (find.Topic == "" || slices.Contains(r.Topics, find.Topic)) && !slices.Contains(found, ref) {
				found = append(found, ref)
			}
		}
		if len(rows) < pageSize {
			return found, nil
		}
	}
}
