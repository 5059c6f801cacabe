package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
)

// Drone looks whether a Drone server takes the token, whether its user may start
// builds of the repository that holds .drone.yml, and whether anybody or anything else
// may: other accounts, other repositories, pushes and pull requests.
func Drone(address string, token ccci.Secret, repo ccci.RepoRef, transport http.RoundTripper) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		var user struct {
			Login string `json:"login"`
		}
		status, err := ask(ctx, transport, address+"/api/user", token, &user)
		switch {
		case err != nil:
			return []ccci.Diagnosis{{Check: "drone: account", Code: ccci.CodeInfra, Message: err.Error(), Hint: "see whether it is reachable"}}
		case status == http.StatusUnauthorized:
			return []ccci.Diagnosis{{Check: "drone: account", Code: ccci.CodeRefused, Message: "Drone does not take the token", Hint: "copy it anew from " + address + "/account into engine.drone.token_file"}}
		case status != http.StatusOK || user.Login == "":
			return []ccci.Diagnosis{{Check: "drone: account", Code: ccci.CodeInfra, Message: fmt.Sprintf("Drone answers %d to who the token is", status), Hint: "check engine.drone.url in the configuration, and Drone's own log"}}
		}
		out := []ccci.Diagnosis{Well("drone: account", "cc-ci acts as %s", user.Login)}
		out = append(out, droneRepo(ctx, address, token, repo, user.Login, transport)...)
		get := func(path string, into any) (int, error) { return ask(ctx, transport, address+path, token, into) }
		return append(out, droneOthers(get, address, repo, user.Login)...)
	}
}

// droneRepository is what Drone says of a repository to its user.
type droneRepository struct {
	Active      bool  `json:"active"`
	Timeout     int64 `json:"timeout"` // minutes
	Permissions struct {
		Write bool `json:"write"`
		Admin bool `json:"admin"`
	} `json:"permissions"`
	dronelimits.Repository
}

func droneRepo(ctx context.Context, address string, token ccci.Secret, repo ccci.RepoRef, login string, transport http.RoundTripper) []ccci.Diagnosis {
	var r droneRepository
	status, err := ask(ctx, transport, address+"/api/repos/"+url.PathEscape(repo.Owner)+"/"+url.PathEscape(repo.Name), token, &r)
	if err == nil && status == http.StatusOK {
		return []ccci.Diagnosis{droneRights(r, repo, login, address), droneLimits(r.Repository, repo, address)}
	}
	d := ccci.Diagnosis{Check: "drone: repository", Code: ccci.CodeRefused, Message: fmt.Sprintf("Drone shows %s no repository %s", login, repo),
		Hint: fmt.Sprintf("sign in as %s at %s once, give it access to the repository on the forge, and press Sync", login, address)}
	if err != nil {
		d.Code, d.Message, d.Hint = ccci.CodeInfra, err.Error(), "see whether it is reachable"
	}
	return []ccci.Diagnosis{d}
}

// droneRights says whether cc-ci may start builds.
func droneRights(r droneRepository, repo ccci.RepoRef, login, address string) ccci.Diagnosis {
	const name = "drone: repository"
	page := address + "/" + repo.String() + "/settings"
	switch {
	case !r.Active:
		return ccci.Diagnosis{Check: name, Code: ccci.CodeInvalid, Message: repo.String() + " is not active on Drone", Hint: fmt.Sprintf("activate it at %s; %s must be its administrator on the forge for that", page, login)}
	case !r.Permissions.Write:
		return ccci.Diagnosis{Check: name, Code: ccci.CodeRefused, Message: fmt.Sprintf("%s may not start builds of %s", login, repo),
			Hint: fmt.Sprintf("give %s the right to write to it on the forge, and press Sync at %s", login, address)}
	case !r.Permissions.Admin:
		return ccci.Diagnosis{Check: name, Code: ccci.CodeRefused, Warning: true, Message: fmt.Sprintf("%s may not set the time-out of %s, which is %d min", login, repo, r.Timeout),
			Hint: fmt.Sprintf("give %s the right to administer it, or set it by hand at %s", login, page)}
	}
	return Well(name, "%s is active, with a time-out of %d min", repo, r.Timeout)
}

// ask sends one request with a token and decodes a good answer. A redirect is an answer:
// followed, it could take the token elsewhere.
func ask(ctx context.Context, transport http.RoundTripper, address string, token ccci.Secret, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, fmt.Errorf("asking %s: %w", address, err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	asker := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := asker.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(into); err != nil {
		return 0, fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	return res.StatusCode, nil
}
