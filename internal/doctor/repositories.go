package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// How many repositories of a forge are looked at, and for how long: a forge that is slow
// is no reason to say nothing.
const (
	repositoriesLimit = 50
	repositoriesTime  = 8 * time.Second
)

// unlooked says how many of all were not looked at.
func unlooked(all, looked int) string {
	if looked >= all {
		return ""
	}
	return fmt.Sprintf("; %d more were not looked at", all-looked)
}

// Repositories looks whether the account sees each repository and may write to it.
// Forges that cannot say so are left out.
func Repositories(forge ccci.Forge, refs []ccci.RepoRef, places Places) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		reader, can := forge.(ccci.RepositoryReader)
		if !can || len(refs) == 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, repositoriesTime)
		defer cancel()
		var out []ccci.Diagnosis
		looked, seen, written := 0, 0, 0
		for _, ref := range refs[:min(len(refs), repositoriesLimit)] {
			check := forge.Name() + ": repository " + ref.String()
			repo, err := reader.Repository(ctx, ref)
			if looked > 0 && ctx.Err() != nil {
				break
			}
			looked++
			switch {
			case errors.Is(err, ccci.ErrNotFound):
				out = append(out, ccci.Diagnosis{Check: check, Code: ccci.CodeRefused, Message: "it is not there, or the account may not see it",
					Hint: "check its name; in its settings give the account the right to read, or add it to a team's repositories"})
				continue
			case err != nil:
				return append(out, Problem(check, err)) // the others would say the same
			}
			seen++
			switch {
			case repo.Closed != "":
				out = append(out, ccci.Diagnosis{Check: check, Code: ccci.CodeInvalid, Warning: true, Message: repo.Closed + ", so that there is nothing to test",
					Hint: "change that in its settings, or take it out of the configuration"})
			case repo.ReadOnly:
				out = append(out, ccci.Diagnosis{Check: check, Code: ccci.CodeRefused, Message: "the account may read it and not write to it: comments will come, and no commit status",
					Hint: fmt.Sprintf("give the account the right to write at %s, or through a team at %s", places.RightsOf(ref), places.Members)})
			default:
				written++
			}
		}
		rest := unlooked(len(refs), looked)
		if written == seen {
			return append(out, Well(forge.Name()+": repositories", "%d of %d can be seen, and written to%s", seen, looked, rest))
		}
		return append(out, Well(forge.Name()+": repositories", "%d of %d can be seen, %d of them written to%s", seen, looked, written, rest))
	}
}

// Webhooks looks at the webhooks that the forge says it sends to /hook/<its name>. secret
// says that cc-ci takes any, and poll how often comments are asked for without. What
// cannot be seen is no problem: polling loses nothing.
func Webhooks(forge ccci.Forge, refs []ccci.RepoRef, secret bool, poll time.Duration, places Places) Check {
	name := forge.Name()
	return func(ctx context.Context) []ccci.Diagnosis {
		reader, can := forge.(ccci.WebhookReader)
		if !can || len(refs) == 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, repositoriesTime)
		defer cancel()
		var out []ccci.Diagnosis
		var unseen, none []string
		looked, good := 0, 0
		for _, ref := range refs[:min(len(refs), repositoriesLimit)] {
			hooks, err := reader.Webhooks(ctx, ref)
			if looked > 0 && ctx.Err() != nil {
				break
			}
			looked++
			switch {
			case ccci.CodeOf(err) == ccci.CodeRefused && err != nil:
				unseen = append(unseen, ref.String())
				continue
			case errors.Is(err, ccci.ErrNotFound): // which was said of the repository
				continue
			case err != nil:
				return append(out, Problem(name+": webhook of "+ref.String(), err))
			}
			ours := false
			for _, h := range hooks {
				if !leadsTo(h.URL, name) {
					continue
				}
				ours = true
				if d, bad := badHook(h, secret); bad {
					d.Check, d.Code, d.Warning = name+": webhook of "+ref.String(), ccci.CodeInvalid, true
					out = append(out, d)
				} else {
					good++
				}
			}
			if !ours {
				none = append(none, ref.String())
			}
		}
		if good > 0 {
			out = append(out, Well(name+": webhooks sent", "%d as they should be%s; how deliveries went is on the forge's page of each", good, unlooked(len(refs), looked)))
		}
		if !secret { // none are wanted
			return out
		}
		if len(none) > 0 {
			out = append(out, Well(name+": webhooks missing", "none of their own to /hook/%s: %s; unless the organisation has one, comments there are found by polling, every %s", name, some(none), poll))
		}
		if len(unseen) > 0 {
			out = append(out, Well(name+": webhooks unseen", "the forge shows them to administrators alone, which the account is not and need not be: %s; whether deliveries arrive is on the forge's page, as %s, and comments are found by polling every %s all the same",
				some(unseen), places.hooks(unseen[0]), poll))
		}
		return out
	}
}

// leadsTo reports whether a webhook's address ends where a forge's webhooks are taken.
func leadsTo(address, forge string) bool {
	u, err := url.Parse(address)
	return err == nil && strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/hook/"+forge)
}

func badHook(h ccci.Webhook, secret bool) (ccci.Diagnosis, bool) {
	switch {
	case !secret:
		return ccci.Diagnosis{Message: "it is sent to " + h.URL + ", and cc-ci refuses it: it knows no secret", Hint: "name the file with the webhook's secret: hook_secret_files in the configuration"}, true
	case !h.Active:
		return ccci.Diagnosis{Message: "it is switched off", Hint: "tick Active at " + h.Page + ", or remove it"}, true
	case !h.Comments:
		return ccci.Diagnosis{Message: "it does not tell of comments on pull requests", Hint: "tick Pull Request Comment at " + h.Page + "; Issue Comment is another thing"}, true
	case !h.JSON:
		return ccci.Diagnosis{Message: "it is not sent as JSON, so that cc-ci refuses it", Hint: "choose the content type application/json at " + h.Page}, true
	}
	return ccci.Diagnosis{}, false
}

// some lists a few names of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
