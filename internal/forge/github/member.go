package github

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Member implements [ccci.Forge]. It asks for the membership itself, which shows
// private members and pending invitations for what they are, and which names
// the member's number: a name may have been given up and taken by somebody else.
func (f *Forge) Member(ctx context.Context, org string, user ccci.User) (bool, error) {
	id, err := strconv.ParseInt(user.ID, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != user.ID {
		return false, nil
	}
	if org == "" {
		return false, ccci.Errorf(ccci.CodeInvalid, "asking for members: no organisation is named")
	}
	activity := "asking whether " + user.Name + " is a member of " + org
	if user.Name != "" {
		if yes, err := f.activeMember(ctx, org, user.Name, id); yes || err != nil {
			return yes, wrap(f, activity, err)
		}
	}
	// Renamed meanwhile? The number says what the account is called now.
	now := new(gh.User)
	if _, err := f.read(ctx, "user/"+user.ID, nil, false, now); statusOf(err) == http.StatusNotFound {
		return false, nil
	} else if err != nil {
		return false, f.fail(activity, err)
	}
	if now.GetID() != id || now.GetLogin() == "" || now.GetLogin() == user.Name {
		return false, nil
	}
	yes, err := f.activeMember(ctx, org, now.GetLogin(), id)
	return yes, wrap(f, activity, err)
}

func (f *Forge) activeMember(ctx context.Context, org, login string, id int64) (bool, error) {
	m := new(gh.Membership)
	_, err := f.read(ctx, "orgs/"+url.PathEscape(org)+"/memberships/"+url.PathEscape(login), nil, false, m)
	if statusOf(err) == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return m.GetState() == "active" && m.GetUser().GetID() == id && m.GetUser().GetType() == "User", nil
}

func wrap(f *Forge, activity string, err error) error {
	if err == nil {
		return nil
	}
	err = f.fail(activity, err)
	if ccci.CodeOf(err) == ccci.CodeInfra && ccci.HintOf(err) == "" {
		var e *ccci.Error
		if errors.As(err, &e) {
			return e.WithHint("the token's account must be a member of the organisation, with the right to read its members")
		}
	}
	return err
}

// ProveMembership checks at start that Member can be trusted to see private
// members of org: a token's own account must be an active member of it, and an
// App's installation must have been granted the right to read members.
func (f *Forge) ProveMembership(ctx context.Context, org string) error {
	activity := "proving that cc-ci sees the members of " + org
	if f.asApp != nil {
		self, err := f.Self(ctx)
		if err != nil {
			return err
		}
		// The bot itself is a member of nothing: 404 is the answer of who may ask.
		_, err = f.activeMember(ctx, org, self.Name, 0)
		return wrap(f, activity, err)
	}
	m := new(gh.Membership)
	if _, err := f.read(ctx, "user/memberships/orgs/"+url.PathEscape(org), nil, false, m); err != nil {
		return ccci.Errorf(ccci.CodeRefused, "%s: %w", activity, f.fail("reading its own membership", err)).
			WithHint("invite the token's account into %s and give the token read:org (classic) or Members: read (fine-grained)", org)
	}
	if m.GetState() != "active" {
		return ccci.Errorf(ccci.CodeRefused, "%s: the token's account is %q there", activity, m.GetState()).
			WithHint("accept the invitation into %s with that account", org)
	}
	return nil
}
