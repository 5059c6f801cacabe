package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/browser"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/swarm"
	"github.com/recipe-maintainers/cc-ci/internal/doctor"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/firewall"
	"github.com/recipe-maintainers/cc-ci/internal/health"
	"github.com/recipe-maintainers/cc-ci/internal/host"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// doctorCmd looks whether everything that cc-ci needs is there. It changes nothing.
type doctorCmd struct {
	JSON bool `name:"json" help:"Print what was found as JSON."`
}

// Help is the end of the command's help text.
func (doctorCmd) Help() string {
	return `Exit codes: 0 all is well (warnings may be left), 2 the configuration must be mended first,
3 the machine, the network or a forge, 4 a right is missing.`
}

func (c *doctorCmd) Run(a *app) error {
	cfg, err := a.config()
	var all []ccci.Diagnosis
	if err != nil {
		all = []ccci.Diagnosis{doctor.Problem("configuration", err)}
	} else {
		seen := &found{}
		all = doctor.Run(a.ctx, checksOf(a, cfg, seen))
		all = append(all, ofOneName(cfg, seen)...) // once every forge has told what it finds
	}
	return conclude(a, all, c.JSON, "doctor")
}

// conclude prints what a command of diagnoses found; its error is the worst of it.
func conclude(a *app, all []ccci.Diagnosis, asJSON bool, command string) error {
	write := doctor.WriteText
	if asJSON {
		write = doctor.WriteJSON
	}
	if err := write(a.stdout, all); err != nil {
		return fmt.Errorf("writing what was found: %w", err)
	}
	problems, warnings := doctor.Count(all)
	if worst := doctor.Worst(all); worst != "" {
		return ccci.Errorf(worst, "%s and %s", number(problems, "problem"), number(warnings, "warning")).
			WithHint("each has its own hint above; mend the first one and run cc-ci %s again", command)
	}
	if !asJSON {
		fmt.Fprintf(a.stdout, "all is well, with %s\n", number(warnings, "warning"))
	}
	return nil
}

func number(n int, what string) string {
	switch n {
	case 0:
		return "no " + plural(what)
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %s", n, plural(what))
}

func plural(what string) string {
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return stem + "ies"
	}
	return what + "s"
}

// checksOf are the checks that fit a configuration, in the order in which
// somebody who begins would mend things.
func checksOf(a *app, cfg config.Config, seen *found) []doctor.Check {
	checks := []doctor.Check{
		func(context.Context) []ccci.Diagnosis {
			names, err := checkEnrolments(cfg.Tests)
			if err != nil {
				return []ccci.Diagnosis{doctor.Problem("configuration", err)}
			}
			file := a.configPath
			if file == "" {
				file = "no file is named by --config or $CC_CI_CONFIG, there is no ./cc-ci.yml, and the defaults are"
			} else {
				file += " is"
			}
			all := []ccci.Diagnosis{doctor.Well("configuration", "%s sound, with %s in %s", file, number(len(names), "enrolment"), cfg.Tests)}
			if err := checkWaivers(cfg.Tests, names, time.Now()); err != nil {
				idle := doctor.Problem("waivers", err)
				idle.Warning = true
				all = append(all, idle)
			}
			return all
		},
		doctor.Folder("data", cfg.Data, "data:"),
		doctor.Disk("disk", cfg.Data),
		doctor.Limits(cfg.Limits, cfg.Engine.Capacity, func(ctx context.Context) doctor.Room { return doctor.RoomOf(ctx, cfg.Data, "") }),
		doctor.Docker(swarm.Unlimited, host.SwarmLog()),
		doctor.Program("git", "install it (Debian: apt-get install git)"),
		doctor.Program("restic", "install it (Debian: apt-get install restic)"),
		func(ctx context.Context) []ccci.Diagnosis {
			path, err := browser.Find()
			if err != nil {
				return []ccci.Diagnosis{doctor.Problem("browser", err)}
			}
			b, err := browser.Start(ctx, browser.Options{Path: path})
			if err != nil {
				return []ccci.Diagnosis{doctor.Problem("browser", err)}
			}
			b.Close()
			return []ccci.Diagnosis{doctor.Well("browser", "%s starts in namespaces of its own", path)}
		},
		func(ctx context.Context) []ccci.Diagnosis { return serverState(ctx, cfg) },
	}
	// An appliance has the firewall. Another machine works without, and is as open as it was.
	appliance := cfg.Ingress.Kind == config.IngressTraefik
	for _, check := range []doctor.Check{doctor.Tables(doctor.KernelSettings), doctor.CoreDumps(doctor.KernelSettings), doctor.Watchdogs(doctor.WatchdogDevices), doctor.Bridges(doctor.BridgeSettings), firewallRules(cfg, appliance),
		doctor.Dockerd(dockerGroup(cfg), "reconcile.firewall.docker_cgroup"), doctor.Gateway(wideGateway)} {
		if !appliance {
			check = doctor.Advised(check)
		}
		checks = append(checks, check)
	}
	if appliance {
		checks = append(checks, doctor.Gateways(cfg.Reconcile.Proxy.Gateways, func(ctx context.Context) error { return refusedGateways(ctx, cfg) }))
	}
	for _, entry := range cfg.AllForges() {
		checks = append(checks, forgeChecks(a, cfg, entry, seen)...)
	}
	if cfg.Engine.Kind == config.KindDrone {
		checks = append(checks, droneChecks(cfg)...)
	}
	return checks
}

// firewallRules compares the rules of the kernel with those that the configuration and Docker ask for.
func firewallRules(cfg config.Config, appliance bool) doctor.Check {
	cure := "run cc-ci reconcile firewall as root"
	if !appliance {
		cure = "run cc-ci firewall as root, now and before each start of Docker (docs/reconcile.md, firewall); a table that is there and differs is replaced by cc-ci reconcile firewall"
	}
	return doctor.Firewall(func(ctx context.Context) (string, error) {
		docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
		if err != nil {
			return "", ccci.Errorf(ccci.CodeInvalid, "making a Docker client: %w", err).WithHint("check DOCKER_HOST")
		}
		defer docker.Close()
		return firewallOptions(cfg, docker).Differs(ctx)
	}, cure)
}

// wideGateway asks the daemon for the addresses of docker_gwbridge.
func wideGateway(ctx context.Context) (has, should netip.Prefix, err error) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return has, should, ccci.Errorf(ccci.CodeInvalid, "making a Docker client: %w", err).WithHint("check DOCKER_HOST")
	}
	defer docker.Close()
	return host.WideGateway(ctx, docker)
}

// refusedGateways returns why one of the gateways cannot be trusted.
func refusedGateways(ctx context.Context, cfg config.Config) error {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "making a Docker client: %w", err).WithHint("check DOCKER_HOST")
	}
	defer docker.Close()
	containers, err := reconcile.ContainerRanges(docker)(ctx)
	if err != nil {
		return err
	}
	return reconcile.CheckGateways(gateways(cfg), containers)
}

// dockerGroup returns the folder of the control group in which dockerd is to be, "" for none.
func dockerGroup(cfg config.Config) string {
	group := cfg.Reconcile.Firewall.DockerCgroup
	if group == "" {
		return ""
	}
	root, err := firewall.Hierarchy()
	if err != nil {
		return "/sys/fs/cgroup/" + group // the check of the rules says why there is none
	}
	return filepath.Join(root, group)
}

func droneChecks(cfg config.Config) []doctor.Check {
	d := cfg.Engine.Drone
	checks := []doctor.Check{doctor.Secret(cfg.ReadSecret, d.TokenFile, "Drone's token"), doctor.Reach("drone", d.URL+"/healthz", nil)}
	token, tokenErr := cfg.ReadSecret(d.TokenFile)
	repo, repoErr := ccci.ParseRepoRef(d.Repo)
	if tokenErr == nil && repoErr == nil { // otherwise it was said
		checks = append(checks, doctor.Drone(strings.TrimRight(d.URL, "/"), token, repo, nil))
	}
	if repoErr == nil {
		checks = append(checks, doctor.DronePipeline(repo, d.Branch, d.Commit))
	}
	if u, err := url.Parse(d.URL); err == nil && repoErr == nil {
		checks = append(checks, doctor.DroneSettings(u.Host, cfg.Reconcile.Drone.Admin, repo))
	}
	return checks
}

// forgeChecks looks at one forge, and notes in seen what it finds.
func forgeChecks(a *app, cfg config.Config, entry config.ForgeEntry, seen *found) []doctor.Check {
	if entry.Kind == config.KindLocal {
		return []doctor.Check{doctor.Folder("local forge", filepath.Join(cfg.Data, "forge"), "data:")}
	}
	var checks []doctor.Check
	add := func(c doctor.Check) { checks = append(checks, c) }
	if entry.TokenFile != "" {
		add(doctor.Secret(cfg.ReadSecret, entry.TokenFile, entry.Name+"'s token"))
	}
	if entry.App.KeyFile != "" {
		add(doctor.Secret(cfg.ReadKey, entry.App.KeyFile, entry.Name+"'s App key"))
	}
	for _, path := range entry.HookSecrets {
		add(doctor.Secret(cfg.ReadSecret, path, entry.Name+"'s webhooks"))
	}
	add(func(context.Context) []ccci.Diagnosis {
		if len(entry.HookSecrets) == 0 {
			return []ccci.Diagnosis{doctor.Well(entry.Name+": webhooks", "none are taken; repositories are polled every %s", entry.Poll)}
		}
		return []ccci.Diagnosis{doctor.Well(entry.Name+": webhooks", "they are taken at /hook/%s of %s", entry.Name, hookBase(cfg))}
	})
	add(doctor.Reach(entry.Name, reachable(entry), nil))
	forge, err := openAdapter(a.ctx, cfg, entry, a.logger(cfg), nil)
	if err != nil {
		add(func(context.Context) []ccci.Diagnosis { return []ccci.Diagnosis{doctor.Problem(entry.Name, err)} })
		return checks
	}
	var refs []ccci.RepoRef
	for _, r := range entry.Repos {
		if ref, err := ccci.ParseRepoRef(r.Repo); err == nil {
			refs = append(refs, ref)
		}
	}
	places := placesOf(entry)
	add(doctor.Account(forge.forge, entry.Org, entry.App.ID != "", places))
	add(func(ctx context.Context) []ccci.Diagnosis {
		var out []ccci.Diagnosis
		if forge.find != nil {
			found, err := forge.find.Discover(ctx)
			if err != nil {
				out = append(out, doctor.Problem(entry.Name+": discovery", err))
			} else {
				out = append(out, doctor.Well(entry.Name+": discovery", "%s finds %s", entry.Discover, number(len(found), "repository")))
				out = append(out, leftOut(cfg, entry, found)...)
				owners, err := recordedOwners(ctx, cfg)
				if err != nil {
					out = append(out, doctor.Problem(entry.Name+": runs of what is found", err))
				}
				seen.set(entry.Name, found, owners)
			}
			refs = append(refs, watched(cfg, entry, found, refs)...)
		}
		out = append(out, doctor.Repositories(forge.forge, refs, places)(ctx)...)
		return append(out, doctor.Webhooks(forge.forge, refs, len(entry.HookSecrets) > 0, entry.Poll, places)(ctx)...)
	})
	add(doctor.Own(forge.forge))
	return checks
}

// leftOut warns of repositories found that have the name of a recipe with which another one is enrolled.
func leftOut(cfg config.Config, entry config.ForgeEntry, found []ccci.RepoRef) (all []ccci.Diagnosis) {
	for _, ref := range found {
		if slices.ContainsFunc(entry.Repos, func(r config.Repo) bool { return r.Repo == ref.String() }) {
			continue // it is enrolled itself, under the name that is listed
		}
		if owner, taken := nameTaken(cfg, entry, ref); taken {
			all = append(all, ccci.Diagnosis{Check: entry.Name + ": " + ref.String(), Code: ccci.CodeInvalid, Warning: true,
				Message: fmt.Sprintf("it is found and left out, since %s is enrolled with the recipe %s", owner, ref.Name),
				Hint:    fmt.Sprintf("rename the repository, or enrol it with another recipe's name: cc-ci enrol %s --recipe NAME", ref)})
		}
	}
	return all
}

// recordedOwners reads whose runs the database has; of none where there is no database yet.
func recordedOwners(ctx context.Context, cfg config.Config) (map[string]place, error) {
	if _, err := os.Stat(storePath(cfg)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	store, err := sqlstore.OpenReader(ctx, storePath(cfg))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return owners(ctx, cfg, store)
}

// ofOneName warns of repositories found whose name is another one's too, so that they are not enrolled.
func ofOneName(cfg config.Config, seen *found) (all []ccci.Diagnosis) {
	for _, entry := range cfg.AllForges() {
		for _, ref := range seen.on(entry.Name) {
			at := place{entry.Name, ref}
			rivals, alone := seen.alone(cfg, at)
			if _, taken := nameTaken(cfg, entry, ref); alone || taken || !byFinding(cfg, entry, ref) {
				continue
			}
			all = append(all, ccci.Diagnosis{Check: entry.Name + ": " + ref.String(), Code: ccci.CodeInvalid, Warning: true,
				Message: "it is found and left out: " + rivals,
				Hint:    "if it is the recipe " + ref.Name + ", list it in the configuration: " + at.entry()})
		}
	}
	return all
}

// watched returns those of the repositories found that are enrolled by being found, and
// that the configuration does not list besides.
func watched(cfg config.Config, entry config.ForgeEntry, found, listed []ccci.RepoRef) []ccci.RepoRef {
	enrolled, _ := enrol.List(cfg.Tests) // trouble with it was said at the beginning
	return slices.DeleteFunc(found, func(ref ccci.RepoRef) bool {
		_, taken := nameTaken(cfg, entry, ref)
		return taken || slices.Contains(listed, ref) || entry.Discover == config.DiscoverOrg && !slices.Contains(enrolled, ref.Name)
	})
}

// reachable is the address at which a forge is asked whether it is there.
func reachable(entry config.ForgeEntry) string {
	if entry.URL == "https://github.com" {
		return "https://api.github.com/"
	}
	return entry.URL + "/"
}

// placesOf says where a forge grants what.
func placesOf(entry config.ForgeEntry) doctor.Places {
	if entry.Kind == config.KindGitHub {
		return doctor.Places{Token: entry.URL + "/settings/tokens", Members: entry.URL + "/orgs/" + entry.Org + "/people", Web: entry.URL, Rights: "/settings/access"}
	}
	return doctor.Places{Token: entry.URL + "/user/settings/applications", Members: entry.URL + "/org/" + entry.Org + "/teams", Web: entry.URL, Rights: "/settings/collaboration"}
}

// hookBase is where webhooks reach this machine, as far as the configuration knows.
func hookBase(cfg config.Config) string {
	if cfg.Bridge.Listen != "" {
		return cfg.Bridge.Listen
	}
	return cfg.URL
}

// serverState asks a running server how it does.
func serverState(ctx context.Context, cfg config.Config) []ccci.Diagnosis {
	const name = "cc-ci serve"
	address := cfg.Bridge.Listen
	if address == "" {
		address = cfg.Listen
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "0" {
		return nil // nobody knows where it listens
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, config.URLOf(address)+"/healthz", nil)
	if err != nil {
		return []ccci.Diagnosis{doctor.Problem(name, err)}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return []ccci.Diagnosis{doctor.Well(name, "it does not run at %s", address)}
	}
	defer res.Body.Close()
	var report health.Report
	if err := json.NewDecoder(http.MaxBytesReader(nil, res.Body, 1<<20)).Decode(&report); err != nil || report.Status == "" {
		return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInvalid, Message: "another program answers at " + address, Hint: "choose another address with listen: or bridge.listen: in the configuration"}}
	}
	all := []ccci.Diagnosis{doctor.Well(name, "it runs at %s and is %s", address, report.Status)}
	for _, r := range report.Reasons {
		all = append(all, ccci.Diagnosis{Check: name + ": " + r.Part, Code: ccci.CodeInfra, Warning: !r.Fatal, Message: r.Problem,
			Hint: "see the other checks of " + strings.TrimSpace(r.Part) + ", and the server's log"})
	}
	return all
}
