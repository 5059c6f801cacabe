package github

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Diagnose implements [ccci.Diagnoser]: the rights of the token or App, when it
// expires, what is left of the limit, and whether an App's webhooks arrive.
func (f *Forge) Diagnose(ctx context.Context) []ccci.Diagnosis {
	var out []ccci.Diagnosis
	if f.asApp != nil {
		out = append(out, f.diagnoseApp(ctx)...)
		out = append(out, f.diagnoseDeliveries(ctx)...)
	} else {
		out = append(out, f.diagnoseToken(ctx)...)
	}
	return append(out, f.diagnoseLimit())
}

func (f *Forge) well(what, message string) ccci.Diagnosis {
	return ccci.Diagnosis{Check: f.Name() + ": " + what, Message: message}
}

func (f *Forge) ill(what string, code ccci.Code, message, hint string) ccci.Diagnosis {
	return ccci.Diagnosis{Check: f.Name() + ": " + what, Code: code, Message: message, Hint: hint}
}

func (f *Forge) problem(what string, err error) ccci.Diagnosis {
	return f.ill(what, ccci.CodeOf(err), err.Error(), ccci.HintOf(err))
}

// scopes are what a classic token needs, each with those that include it.
var scopes = [][]string{
	{"public_repo", "repo"},
	{"repo:status", "repo"},
	{"read:org", "write:org", "admin:org"},
}

func (f *Forge) diagnoseToken(ctx context.Context) []ccci.Diagnosis {
	resp, err := f.read(ctx, "user", nil, true, new(gh.User))
	if err != nil {
		return []ccci.Diagnosis{f.problem("token", f.fail("reading the token's account", err))}
	}
	var out []ccci.Diagnosis
	if ends := resp.TokenExpiration.Time; !ends.IsZero() {
		left := ends.Sub(f.opts.Now())
		d := f.well("token", "it expires on "+ends.UTC().Format(time.DateOnly))
		if left < 14*24*time.Hour {
			d.Code, d.Warning, d.Hint = ccci.CodeRefused, true, "make a new one in time, and put it into the token's file"
		}
		out = append(out, d)
	}
	header, classic := resp.Header["X-Oauth-Scopes"]
	if !classic {
		return append(out, f.well("rights", "it is a fine-grained token, which does not say what it may; what is missing is named when it is needed"))
	}
	var missing []string
	for _, needed := range scopes {
		granted := func(have string) bool { return slices.Contains(needed, strings.TrimSpace(have)) }
		if !slices.ContainsFunc(strings.Split(strings.Join(header, ","), ","), granted) {
			missing = append(missing, needed[0])
		}
	}
	if len(missing) > 0 {
		return append(out, f.ill("rights", ccci.CodeRefused, "the token lacks the scopes "+strings.Join(missing, ", "),
			"tick them at https://github.com/settings/tokens, or on your server's page of that name"))
	}
	return append(out, f.well("rights", "the token's scopes suffice: "+strings.Join(header, ",")))
}

// permission is one that an App's installation needs.
type permission struct {
	name, level string
	have        func(gh.InstallationPermissions) *string
}

var permissions = []permission{
	{"Members", "read", func(p gh.InstallationPermissions) *string { return p.Members }},
	{"Pull requests", "write", func(p gh.InstallationPermissions) *string { return p.PullRequests }},
	{"Commit statuses", "write", func(p gh.InstallationPermissions) *string { return p.Statuses }},
	{"Checks", "write", func(p gh.InstallationPermissions) *string { return p.Checks }},
	{"Contents", "read", func(p gh.InstallationPermissions) *string { return p.Contents }},
}

func (f *Forge) diagnoseApp(ctx context.Context) []ccci.Diagnosis {
	made, _, err := f.asApp.Apps.CreateInstallationToken(ctx, f.opts.App.Installation, &gh.InstallationTokenOptions{})
	if err != nil {
		return []ccci.Diagnosis{f.problem("App", f.fail("asking for a token of the installation", err))}
	}
	var granted gh.InstallationPermissions
	if made.Permissions != nil {
		granted = *made.Permissions
	}
	var missing []string
	for _, p := range permissions {
		if p.name == "Checks" && f.opts.NoCheckRuns {
			continue
		}
		level := p.have(granted)
		if level == nil || *level != p.level && *level != "write" && *level != "admin" {
			missing = append(missing, p.name+": "+p.level)
		}
	}
	if len(missing) > 0 {
		return []ccci.Diagnosis{f.ill("rights", ccci.CodeRefused, "the App's installation lacks "+strings.Join(missing, ", "),
			"add them under Permissions & events in the App's settings, and let an owner of the organisation accept them")}
	}
	return []ccci.Diagnosis{f.well("rights", "the App's installation has the permissions it needs")}
}

// diagnoseDeliveries looks at the App's latest webhooks. Those of repositories can
// be seen by their administrators alone.
func (f *Forge) diagnoseDeliveries(ctx context.Context) []ccci.Diagnosis {
	req, err := f.asApp.NewRequest(http.MethodGet, "app/hook/deliveries?"+url.Values{"per_page": {"30"}}.Encode(), nil)
	if err != nil {
		return nil
	}
	req.Header.Set("Cache-Control", "no-store")
	var deliveries []struct {
		Status string    `json:"status"`
		Code   int       `json:"status_code"`
		At     time.Time `json:"delivered_at"`
	}
	if _, err := f.asApp.Do(ctx, req, &deliveries); err != nil {
		if statusOf(err) == http.StatusNotFound {
			return nil // it has no webhook
		}
		return []ccci.Diagnosis{f.problem("webhook deliveries", f.fail("reading them", err))}
	}
	if len(deliveries) == 0 {
		return nil
	}
	if last := deliveries[0]; last.Code < 200 || last.Code > 299 {
		d := f.ill("webhook deliveries", ccci.CodeInfra, "the last one, of "+last.At.UTC().Format(time.RFC3339)+", failed: "+last.Status,
			"its answer is shown under Advanced in the App's settings; repositories are polled all the same")
		d.Warning = true
		return []ccci.Diagnosis{d}
	}
	return []ccci.Diagnosis{f.well("webhook deliveries", "the last one arrived at "+deliveries[0].At.UTC().Format(time.RFC3339))}
}

func (f *Forge) diagnoseLimit() ccci.Diagnosis {
	rate := f.Rate()
	hint := "fewer repositories, or a GitHub App in place of a token; something else may use the same account"
	switch {
	case !rate.BlockedUntil.IsZero():
		return f.ill("limit", ccci.CodeInfra, "GitHub takes no requests until "+rate.BlockedUntil.UTC().Format(time.RFC3339), hint)
	case rate.Limit == 0:
		return f.well("limit", "GitHub names none")
	}
	d := f.well("limit", strconv.Itoa(rate.Remaining)+" of "+strconv.Itoa(rate.Limit)+" requests are left until "+rate.Reset.UTC().Format(time.TimeOnly))
	if rate.Remaining < rate.Limit/10 {
		d.Code, d.Warning, d.Hint = ccci.CodeInfra, true, hint
	}
	return d
}
