package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// How far clocks may be apart: beyond the one, tokens and cursors fail;
// beyond the other, the times in comments look odd.
const (
	farSkew  = time.Minute
	someSkew = 5 * time.Second
)

// Reach asks a web address for anything at all, and compares clocks. name is how the
// entries are called.
func Reach(name, address string, transport http.RoundTripper) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		u, err := url.Parse(address)
		if err != nil {
			return []ccci.Diagnosis{Problem(name+": reachable", ccci.Errorf(ccci.CodeInvalid, "%q is not a web address", address))}
		}
		var out []ccci.Diagnosis
		if u.Scheme == "http" && !ccci.Loopback(u.Hostname()) {
			out = append(out, ccci.Diagnosis{Check: name + ": encryption", Code: ccci.CodeInvalid, Warning: true,
				Message: address + " is not encrypted: whoever carries the requests reads the token", Hint: "write https://, unless the way is your own"})
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
		if err != nil {
			return append(out, Problem(name+": reachable", ccci.Errorf(ccci.CodeInvalid, "%q is not a web address: %w", address, err)))
		}
		// The first answer is enough: where it points to is somebody else's.
		asker := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		asked := time.Now()
		res, err := asker.Do(req)
		if err != nil {
			return append(out, ccci.Diagnosis{Check: name + ": reachable", Code: ccci.CodeInfra, Message: err.Error(), Hint: reachHint(err, u)})
		}
		res.Body.Close()
		took := time.Since(asked)
		if res.StatusCode >= 500 {
			out = append(out, ccci.Diagnosis{Check: name + ": reachable", Code: ccci.CodeInfra, Message: fmt.Sprintf("%s answers %s", address, res.Status), Hint: "its own log says why"})
		} else {
			out = append(out, Well(name+": reachable", "%s answers in %s", address, took.Round(time.Millisecond)))
		}
		if server, err := http.ParseTime(res.Header.Get("Date")); err == nil {
			// The header has whole seconds: it is half a second behind on average.
			out = append(out, clock(name, server.Add(500*time.Millisecond).Sub(asked.Add(took/2))))
		}
		return out
	}
}

func clock(name string, ahead time.Duration) ccci.Diagnosis {
	d := Well(name+": clock", "it differs from ours by less than %s", someSkew)
	if ahead.Abs() < someSkew {
		return d
	}
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	d.Message = fmt.Sprintf("its clock is %s %s ours", ahead.Abs().Round(time.Second), word)
	d.Code, d.Warning = ccci.CodeInfra, ahead.Abs() < farSkew
	d.Hint = "let both machines set their clocks by NTP (timedatectl set-ntp true); timedatectl shows whether ours does"
	return d
}

// reachHint says where to look when nothing answers.
func reachHint(err error, u *url.URL) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s is not found: check url in the configuration, and this machine's resolver", u.Hostname())
	case errors.Is(err, context.DeadlineExceeded):
		return "nothing answers in time: a firewall on the way out, or the host is down"
	}
	return "check url in the configuration, and whether this machine may go out to " + u.Host
}

// Places says where a forge grants what.
type Places struct {
	Token   string // where tokens are made
	Members string // where members are added
	Web     string // the forge's address, in front of owner/name
	Rights  string // what follows owner/name where rights are granted
}

// RightsOf is the page where rights to one repository are granted.
func (p Places) RightsOf(ref ccci.RepoRef) string { return p.Web + "/" + ref.String() + p.Rights }

func (p Places) hooks(ref string) string { return p.Web + "/" + ref + "/settings/hooks" }

// Account looks at the account that cc-ci acts as: that its token is taken, and that it
// is a member of org itself, without which a forge shows it public members only.
func Account(forge ccci.Forge, org string, app bool, places Places) Check {
	name := forge.Name()
	return func(ctx context.Context) []ccci.Diagnosis {
		self, err := forge.Self(ctx)
		if err != nil {
			d := Problem(name+": account", err)
			if d.Hint == "" {
				d.Hint = "when the forge is reachable, its token is not taken: make a new one at " + places.Token
			}
			return []ccci.Diagnosis{d}
		}
		out := []ccci.Diagnosis{Well(name+": account", "cc-ci acts as %s (id %s)", self.Name, self.ID)}
		if app { // an App is nobody's member; its rights are its own
			return out
		}
		member, err := forge.Member(ctx, org, self)
		switch {
		case err != nil:
			d := Problem(name+": membership", err)
			if d.Hint == "" {
				d.Hint = "the token needs the right to read the organisation, and the account must be a member of " + org + ": " + places.Members
			}
			return append(out, d)
		case !member:
			return append(out, ccci.Diagnosis{Check: name + ": membership", Code: ccci.CodeRefused,
				Message: fmt.Sprintf("%s is no member of %s, so that members who hide their membership look like strangers", self.Name, org),
				Hint:    fmt.Sprintf("add %s to the organisation, in a team that may read: %s", self.Name, places.Members)})
		}
		return append(out, Well(name+": membership", "%s is a member of %s", self.Name, org))
	}
}

// Own is what an adapter says of itself, where it can.
func Own(adapter any) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		if d, can := adapter.(ccci.Diagnoser); can {
			return d.Diagnose(ctx)
		}
		return nil
	}
}
