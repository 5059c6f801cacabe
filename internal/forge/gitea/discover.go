package gitea

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Find says which of an organisation's repositories are meant: those with a topic,
// those of a team, or all when neither is set.
type Find struct {
	Org   string
	Topic string
	Team  string // its name
}

// Discoverer finds repositories as find says. Archived ones, where nobody can comment, are left out.
func (f *Forge) Discoverer(find Find) ccci.Discoverer { return discoverer{f, find} }

type discoverer struct {
	f *Forge
	Find
}

type found struct {
	Name     string `json:"name"`
	Archived bool   `json:"archived"`
	Owner    struct {
		Login string `json:"login"`
	} `json:"owner"`
}

func (d discoverer) Discover(ctx context.Context) ([]ccci.RepoRef, error) {
	rows, err := d.rows(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for repositories of %s: %w", d.Org, err)
	}
	var out []ccci.RepoRef
	for _, r := range rows {
		ref := ccci.RepoRef{Owner: r.Owner.Login, Name: r.Name}
		if !r.Archived && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out, nil
}

func (d discoverer) rows(ctx context.Context) ([]found, error) {
	org := "/orgs/" + url.PathEscape(d.Org)
	switch {
	case d.Team != "":
		id, err := d.teamID(ctx)
		if err != nil {
			return nil, err
		}
		rows, _, err := pages[found](ctx, &d.f.client, list{path: "/teams/" + strconv.FormatInt(id, 10) + "/repos", counted: true, empty: 1})
		return rows, err
	case d.Topic != "":
		return d.byTopic(ctx)
	}
	rows, _, err := pages[found](ctx, &d.f.client, list{path: org + "/repos", counted: true, empty: 1})
	return rows, err
}

func (d discoverer) teamID(ctx context.Context) (int64, error) {
	type team struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	teams, _, err := pages[team](ctx, &d.f.client, list{path: "/orgs/" + url.PathEscape(d.Org) + "/teams", counted: true, empty: 1})
	if err != nil {
		return 0, err
	}
	for _, t := range teams {
		if strings.EqualFold(t.Name, d.Team) {
			return t.ID, nil
		}
	}
	return 0, ccci.Errorf(ccci.CodeNotFound, "there is no team %q in %s that cc-ci's account sees", d.Team, d.Org).WithHint("name one that the account belongs to, or make it an owner's business to list them")
}

// byTopic asks the search, whose answer is wrapped, for exactly that topic among the
// organisation's repositories.
func (d discoverer) byTopic(ctx context.Context) ([]found, error) {
	var org struct {
		ID int64 `json:"id"`
	}
	if err := d.f.get(ctx, "/orgs/"+url.PathEscape(d.Org), nil, &org); err != nil {
		return nil, err
	}
	if org.ID <= 0 {
		return nil, ccci.Errorf(ccci.CodeInfra, "the forge does not number the organisation %s", d.Org)
	}
	query := url.Values{"q": {d.Topic}, "topic": {"true"}, "uid": {strconv.FormatInt(org.ID, 10)}, "exclusive": {"true"}, "limit": {strconv.Itoa(pageSize)}, "sort": {"id"}}
	var rows []found
	for page := 1; ; page++ {
		query.Set("page", strconv.Itoa(page))
		var answer struct {
			OK   bool    `json:"ok"`
			Data []found `json:"data"`
		}
		if _, err := d.f.do(ctx, http.MethodGet, "/repos/search", query, nil, wanted{out: &answer}); err != nil {
			return nil, err
		}
		if !answer.OK {
			return nil, ccci.Errorf(ccci.CodeInfra, "the forge's search fails")
		}
		rows = append(rows, answer.Data...)
		if len(answer.Data) == 0 { // the last page may be short for other reasons
			return rows, nil
		}
	}
}
