package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
)

// DroneOptions describe the Drone server. All but Transport are needed.
type DroneOptions struct {
	Image   string
	Host    string // where it is reached, as drone.ci.example.org
	URL     string // the same as cc-ci asks it
	Forge   string // address of the Gitea whose accounts sign in
	Admin   string // the account there that is cc-ci's, an administrator of Drone
	Repo    ccci.RepoRef
	Timeout time.Duration // of a build of Repo (A16)

	// Secrets are read when the unit runs.
	Secrets func() (DroneSecrets, error)
	// Transport asks Drone; default is Go's own.
	Transport http.RoundTripper
}

// DroneSecrets are what server, runner, forge and cc-ci know of each other.
type DroneSecrets struct {
	ClientID, ClientSecret ccci.Secret // of the OAuth application at the forge
	RPC                    ccci.Secret // shared with the runner
	Token                  ccci.Secret // of Admin, which cc-ci starts builds with
}

// Drone is the Drone server behind the proxy, with Gitea's accounts, and its one
// repository: active, with the time limit of a build, and limited to cc-ci's builds.
func Drone(o DroneOptions) Unit {
	d := &drone{DroneOptions: o, http: &http.Client{Transport: o.Transport, Timeout: 20 * time.Second,
		// A redirect could take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	return Unit{Name: "drone", Desired: d.desired, Steps: d.steps, Check: d.check}
}

type drone struct {
	DroneOptions
	http    *http.Client
	secrets DroneSecrets
	wanted  Desired
}

// droneEnv is where the server reads its settings: in a file, so that no secret is
// a variable that whoever may look at services reads.
const droneEnv = "/run/secrets/drone.env"

func (d *drone) desired(context.Context) (Desired, error) {
	if d.Image == "" || d.Forge == "" {
		return Desired{}, ccci.Errorf(ccci.CodeInvalid, "Drone needs an image, and a Gitea whose accounts sign in").
			WithHint("set reconcile.images.drone, and name a forge of kind gitea in forges")
	}
	secrets, err := d.Secrets()
	if err != nil {
		return Desired{}, err
	}
	d.secrets = secrets
	env := File{Key: "drone_env", Secret: true, Content: d.env(secrets, nil)}
	s := d.server("drone", env)
	s.Join(InfraNetwork, EgressNetwork)
	s.Route(Route{Name: "drone", Rule: "Host(`" + d.Host + "`)", Port: 80})
	d.wanted = Desired{Files: []File{env}, Services: []Service{s}}
	return d.wanted, nil
}

// server is a service that runs Drone with these settings.
func (d *drone) server(name string, env File) Service {
	s := NewService(name, d.Image)
	s.Mount(env, droneEnv)
	s.Volume(Prefix+"drone", "/data")
	s.StopFirst() // one database
	s.Memory(128<<20, 1<<30)
	s.halfCPUs()
	c := s.Spec.TaskTemplate.ContainerSpec
	c.Args = []string{"--env-file=" + droneEnv}
	c.Mounts = append(c.Mounts, mount.Mount{Type: mount.TypeTmpfs, Target: "/tmp"})
	return s
}

// introduction is a second server for a moment. Drone takes an account's token from its
// settings alone, when it starts, and then writes it into its log: so the one that does
// has no log, and the one that stays is never told the token.
func (d *drone) introduction() Step {
	env := File{Key: "drone_introduction", Secret: true, Content: d.env(d.secrets, map[string]string{
		"DRONE_USER_CREATE":      "username:" + d.Admin + ",machine:false,admin:true,token:" + d.secrets.Token.Reveal(),
		"DRONE_CRON_DISABLED":    "true", // these are the other's
		"DRONE_CLEANUP_DISABLED": "true",
	})}
	s := d.server("drone-introduction", env)
	s.Spec.TaskTemplate.LogDriver = &swarm.Driver{Name: "none"}
	return Step{Text: "telling Drone the token of " + d.Admin, Do: d.check, Beside: &Desired{
		Files:    append(slices.Clone(d.wanted.Files), env),
		Services: append(slices.Clone(d.wanted.Services), s),
	}}
}

// env are the server's settings and more, as lines of an environment file. Sorted, so
// that the same settings are the same secret.
func (d *drone) env(s DroneSecrets, more map[string]string) ccci.Secret {
	values := map[string]string{
		"DRONE_GITEA_SERVER":        d.Forge,
		"DRONE_GITEA_CLIENT_ID":     s.ClientID.Reveal(),
		"DRONE_GITEA_CLIENT_SECRET": s.ClientSecret.Reveal(),
		"DRONE_RPC_SECRET":          s.RPC.Reveal(),
		"DRONE_SERVER_HOST":         d.Host,
		"DRONE_SERVER_PROTO":        "https",
		"DRONE_SERVER_PORT":         ":80", // in the container; the proxy has TLS
		"DRONE_DATABASE_DRIVER":     "sqlite3",
		"DRONE_DATABASE_DATASOURCE": "/data/database.sqlite",
		"DRONE_DATADOG_ENABLED":     "false",
	}
	maps.Copy(values, dronelimits.Server(d.Admin, d.Repo))
	maps.Copy(values, more)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&text, "%s=%s\n", key, strconv.Quote(values[key]))
	}
	return ccci.NewSecret(text.String())
}

// errUnknownToken is what the introduction is for.
var errUnknownToken = ccci.Errorf(ccci.CodeInfra, "Drone does not know the token in engine.drone.token_file").
	WithHint("docker service ps %sdrone-introduction says why it could not be told", Prefix)

// check asks whether the server is up and cc-ci's account is there.
func (d *drone) check(ctx context.Context) error {
	var user struct {
		Login string `json:"login"`
		Admin bool   `json:"admin"`
	}
	status, err := d.ask(ctx, http.MethodGet, "/api/user", nil, &user)
	switch {
	case err != nil:
		return ccci.Errorf(ccci.CodeInfra, "Drone does not answer at %s: %w", d.URL, err).WithHint("docker service logs %sdrone says more", Prefix)
	case status == http.StatusUnauthorized:
		return errUnknownToken
	case status != http.StatusOK:
		return ccci.Errorf(ccci.CodeInfra, "Drone at %s answers %d", d.URL, status).WithHint("docker service logs %sdrone says more", Prefix)
	case user.Login != d.Admin || !user.Admin:
		return ccci.Errorf(ccci.CodeInfra, "Drone takes the token for %q, who is administrator: %t", user.Login, user.Admin).
			WithHint("engine.drone.token_file must hold the token of %s", d.Admin)
	}
	return nil
}

// droneRepo is what Drone says of a repository.
type droneRepo struct {
	Active  bool  `json:"active"`
	Timeout int64 `json:"timeout"` // minutes
	dronelimits.Repository
}

// steps finds out what Drone lacks. The server may just have started.
func (d *drone) steps(ctx context.Context) ([]Step, error) {
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := d.check(waiting)
		if err == nil {
			break
		}
		if errors.Is(err, errUnknownToken) {
			return []Step{d.introduction()}, nil
		}
		if pause(waiting, 300*time.Millisecond) != nil {
			return nil, err
		}
	}
	var repo droneRepo
	status, err := d.ask(ctx, http.MethodGet, d.path(), nil, &repo)
	if err != nil {
		return nil, d.trouble("looking at "+d.Repo.String(), err)
	}
	var steps []Step
	add := func(text, method, path string, body any, hint string) {
		steps = append(steps, Step{Text: text, Do: func(ctx context.Context) error {
			status, err := d.ask(ctx, method, path, body, nil)
			if err == nil && status/100 != 2 {
				err = fmt.Errorf("Drone answers %d", status)
			}
			if err != nil {
				return d.trouble(text, err).WithHint("%s", hint)
			}
			return nil
		}})
	}
	if status == http.StatusNotFound {
		add("asking the forge for the repositories of "+d.Admin, http.MethodPost, "/api/user/repos", nil,
			fmt.Sprintf("sign in once as %s at %s: until then Drone has no token of the forge", d.Admin, d.URL))
	} else if status != http.StatusOK {
		return nil, d.trouble("looking at "+d.Repo.String(), fmt.Errorf("Drone answers %d", status))
	}
	// Before it is active: no webhook may come in between.
	if differ := repo.Differences(); len(differ) > 0 {
		add(fmt.Sprintf("limiting %s: %s", d.Repo, strings.Join(differ, ", ")), http.MethodPatch, d.path(), dronelimits.Wanted(),
			fmt.Sprintf("%s needs to be an administrator of Drone", d.Admin))
	}
	if !repo.Active {
		add("activating "+d.Repo.String(), http.MethodPost, d.path(), nil,
			fmt.Sprintf("%s needs the right to administer it on the forge, where Drone makes a webhook", d.Admin))
	}
	if minutes := int64(d.Timeout / time.Minute); !repo.Active || repo.Timeout != minutes {
		add(fmt.Sprintf("setting the time limit of %s to %d minutes", d.Repo, minutes), http.MethodPatch, d.path(), map[string]int64{"timeout": minutes},
			fmt.Sprintf("%s needs to be an administrator of Drone", d.Admin))
	}
	return steps, nil
}

func (d *drone) path() string {
	return "/api/repos/" + url.PathEscape(d.Repo.Owner) + "/" + url.PathEscape(d.Repo.Name)
}

func (d *drone) trouble(doing string, err error) *ccci.Error {
	return ccci.Errorf(ccci.CodeInfra, "%s: %w", doing, err).WithHint("see %s, and docker service logs %sdrone", d.URL, Prefix)
}

// ask sends one request and decodes a good answer into into, unless that is nil.
func (d *drone) ask(ctx context.Context, method, path string, body, into any) (int, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.URL+path, content)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+d.secrets.Token.Reveal())
	req.Header.Set("Content-Type", "application/json")
	res, err := d.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK && into != nil {
		if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(into); err != nil {
			return 0, fmt.Errorf("reading the answer: %w", err)
		}
	}
	return res.StatusCode, nil
}
