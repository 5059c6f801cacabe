package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Member implements [ccci.Forge]. The forge asks by name, and names change hands: so
// the name that the account bears is looked up by its number, before and after.
func (f *Forge) Member(ctx context.Context, org string, user ccci.User) (bool, error) {
	activity := fmt.Sprintf("asking whether %s is a member of %s", user.Name, org)
	number, ok := userNumber(user)
	if !ok || org == "" {
		return false, nil
	}
	login, err := f.login(ctx, number, user.Name)
	if err != nil || login == "" {
		return false, wrap(activity, err)
	}
	yes, err := f.member(ctx, org, login)
	if err != nil || !yes {
		return false, wrap(activity, err)
	}
	after, err := f.login(ctx, number, login)
	if err != nil {
		return false, wrap(activity, err)
	}
	return after == login, nil
}

func wrap(activity string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", activity, err)
}

// login is the name that an account bears now, "" when there is no such account. The
// name that it was last seen under is tried where the forge does not list it.
func (f *Forge) login(ctx context.Context, number int64, seen string) (string, error) {
	var found struct {
		OK   bool      `json:"ok"`
		Data []account `json:"data"`
	}
	if err := f.get(ctx, "/users/search", url.Values{"uid": {strconv.FormatInt(number, 10)}, "limit": {"1"}}, &found); err != nil {
		return "", err
	}
	for _, a := range found.Data {
		if a.ID == number {
			return a.Login, nil
		}
	}
	if seen == "" {
		return "", nil
	}
	var a account
	err := f.get(ctx, "/users/"+url.PathEscape(seen), nil, &a)
	if errors.Is(err, ccci.ErrNotFound) || err == nil && a.ID != number {
		return "", nil
	}
	return a.Login, err
}

// member asks the one question whose answer counts: 204 is yes, the forge's own 404
// is no, and everything else is no answer. Above all a redirect is none: it
// says that cc-ci's account is itself no member and may only see public ones.
func (f *Forge) member(ctx context.Context, org, login string) (bool, error) {
	status, err := f.ask(ctx, "/orgs/"+url.PathEscape(org)+"/members/"+url.PathEscape(login))
	switch {
	case err == nil && status == http.StatusNoContent:
		return true, nil
	case errors.Is(err, ccci.ErrNotFound):
		return false, nil
	case err == nil:
		return false, fmt.Errorf("it answers %d in place of yes or no", status)
	case statusOf(err) >= 300 && statusOf(err) < 400:
		return false, ccci.Errorf(ccci.CodeInfra, "the forge tells members only, and cc-ci's account is none: %w", err).
			WithHint("make cc-ci's account a member of the organisation %s, and give its token the scope read:organization", org)
	}
	return false, err
}

// ProveMembership shows that this account is a member of org, so that it is told who
// else is. Without that, nobody could start anything.
func (f *Forge) ProveMembership(ctx context.Context, org string) error {
	self, err := f.Self(ctx)
	if err != nil {
		return err
	}
	yes, err := f.member(ctx, org, self.Name)
	if err != nil {
		return wrap(fmt.Sprintf("asking whether %s is a member of %s", self.Name, org), err)
	}
	if !yes {
		return ccci.Errorf(ccci.CodeRefused, "cc-ci's account %s is not a member of %s, so the forge does not tell it who is", self.Name, org).
			WithHint("add %s to a team of %s; the right to read is enough", self.Name, org)
	}
	return nil
}
