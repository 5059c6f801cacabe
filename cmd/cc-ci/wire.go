package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	"github.com/docker/go-units"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipetest"
	"github.com/recipe-maintainers/cc-ci/internal/backup"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/box"
	"github.com/recipe-maintainers/cc-ci/internal/browser"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/swarm"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/headroom"
	"github.com/recipe-maintainers/cc-ci/internal/host"
	"github.com/recipe-maintainers/cc-ci/internal/ingress"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
)

// platform is the machine made ready for runs: Docker, a swarm, the helper
// image and the proxy.
type platform struct {
	cfg     config.Config
	log     *slog.Logger
	docker  *client.Client
	tools   tools
	lockDir string // of all runs on this daemon
	box     string
	ingress proxyServer
	undo    []func(context.Context) error // in the order in which things were made
	slot    *harness.Slot                 // nil unless one was asked for
	secrets *censor.Censor                // of the run, if this process is one

	dockerRoot string      // where the daemon keeps its data; "" when unknown
	daemon     system.Info // what the daemon says of itself and its machine

	madeBox bool // the helper image was not there before
}

type platformOptions struct {
	Say     func(line string)
	Install bool // may install missing packages, as root
	Child   bool // of a cc-ci that has made everything and will undo it
	Served  bool // this process holds the data folder's lock
	// Slot is the run for which one of the machine's slots is taken, until this
	// process ends, before anything is made. Empty: none is.
	Slot ccci.RunID
	// Secrets learns the run's secrets, for whoever writes beside the run's log. Nil: no one does.
	Secrets *censor.Censor
}

// tools are the paths of the programs that runs need.
type tools struct{ restic, chromium string }

// openPlatform makes ready what is missing. Close undoes exactly what it made.
func openPlatform(ctx context.Context, cfg config.Config, log *slog.Logger, o platformOptions) (p *platform, err error) {
	p = &platform{cfg: cfg, log: log, secrets: o.Secrets}
	if p.secrets == nil {
		p.secrets = &censor.Censor{}
	}
	defer func() {
		if err != nil {
			p.Close(context.WithoutCancel(ctx))
		}
	}()
	if err := os.MkdirAll(cfg.Data, 0o755); err != nil {
		return p, ccci.Errorf(ccci.CodeInvalid, "making the data folder: %w", err).WithHint("name one that you may write to: data: in the configuration")
	}
	own := !o.Child && (o.Served || !otherServes(cfg))
	if err := p.findMachine(ctx, o, own); err != nil {
		return p, err
	}
	if err := p.findLocks(ctx); err != nil {
		return p, err
	}
	if o.Slot != "" {
		if p.slot, err = harness.LockSlot(ctx, p.slotDir(), o.Slot, cfg.Engine.Capacity, p.needs().Short, func(why string) {
			o.Say("the run waits: " + why)
		}); err != nil {
			return p, err
		}
		p.undo = append(p.undo, func(context.Context) error { p.slot.Release(); return nil })
	}
	program, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("finding this program: %w", err)
	}
	had, err := p.docker.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return p, ccci.Errorf(ccci.CodeInfra, "listing images: %w", err)
	}
	if p.box, err = box.Ensure(ctx, p.docker, program, p.tools.restic); err != nil {
		return p, err
	}
	p.madeBox = !slices.ContainsFunc(had, func(i image.Summary) bool { return slices.Contains(i.RepoTags, p.box) })
	if p.ingress, err = p.openProxy(ctx); err != nil {
		return p, err
	}
	p.undo = append(p.undo, p.ingress.Close)
	return p, nil
}

// openProxy returns the proxy of the configuration: the one that cc-ci reconcile keeps, or
// one of cc-ci's own, which is started where it is not there.
func (p *platform) openProxy(ctx context.Context) (proxyServer, error) {
	if p.cfg.Ingress.Kind == config.IngressTraefik {
		if err := awaitProxyContainer(ctx, p.docker); err != nil {
			return nil, err
		}
		return openKeptProxy(ctx, p.cfg.Ingress)
	}
	own, err := ingress.Ensure(ctx, ingress.Options{
		Docker: p.docker, Box: p.box, Domain: p.cfg.Domain, StateDir: filepath.Join(p.cfg.Data, "ingress"),
		Addr: p.cfg.Ingress.Listen, Logger: p.log,
	})
	if err != nil {
		return nil, err
	}
	return router{own}, nil
}

// findMachine makes the machine ready when it is this process's to do so.
// Otherwise another cc-ci has, and will take back what it started.
func (p *platform) findMachine(ctx context.Context, o platformOptions, own bool) (err error) {
	if own {
		h, err := host.Ensure(ctx, host.Options{Out: o.Say, DataDir: p.cfg.Data, AllowInstall: o.Install})
		if err != nil {
			return err
		}
		p.undo = append(p.undo, h.Close)
		p.docker, p.tools = h.Docker, tools{h.Restic, h.Chromium}
		return nil
	}
	if p.docker, err = dockerClient(); err != nil {
		return err
	}
	p.undo = append(p.undo, func(context.Context) error { return p.docker.Close() })
	if p.tools.restic, err = exec.LookPath("restic"); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "there is no restic on this machine").WithHint("install it (Debian: apt-get install restic)")
	}
	p.tools.chromium, err = browser.Find()
	return err
}

// dockerClient reaches the daemon that the environment names.
func dockerClient() (*client.Client, error) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making a Docker client: %w", err).WithHint("check DOCKER_HOST")
	}
	return docker, nil
}

// Close undoes, last things first, what openPlatform made. Legal twice.
func (p *platform) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var errs []error
	for len(p.undo) > 0 {
		last := len(p.undo) - 1
		errs = append(errs, p.undo[last](ctx))
		p.undo = p.undo[:last]
	}
	err := errors.Join(errs...)
	if err != nil {
		p.log.Error("cleaning up", "error", err)
	}
	return err
}

// harnessConfig wires one run, with its temporary files in files.
func (p *platform) harnessConfig(o order, files, out string, log io.Writer) (harness.Config, error) {
	job := o.job
	part, release, err := harness.LockPart(p.slotDir(), p.cfg.Engine.Capacity)
	if err != nil {
		return harness.Config{}, err
	}
	p.undo = append(p.undo, func(context.Context) error { release(); return nil })
	deployer, err := swarm.New(swarm.Options{
		RunID: job.RunID, Pins: o.pins, Docker: p.docker, Logger: p.log, EndpointMode: p.cfg.Engine.DNSRR,
		Network: p.cfg.Network, Proxy: p.ingress.Container(),
		Box: swarm.Box{Image: p.box, Dial: box.DialCommand, Hold: box.HoldCommand(3 * time.Hour), Measure: box.MeasureCommand, Empty: box.EmptyCommand, Logs: box.LogDir,
			Get: box.GetCommand, Put: box.PutCommand, Guard: box.GuardCommand},
		DiskLimit: config.Bytes(p.cfg.Limits.Disk), Free: p.free, Full: p.full, Short: p.short, Ceilings: ceilings(p.cfg.Limits),
		Runs: p.cfg.Engine.Capacity, Part: part, Apps: 1 + len(o.enrolment.Depends),
	})
	if err != nil {
		return harness.Config{}, err
	}
	blobs, err := openBlobs(p.cfg)
	if err != nil {
		return harness.Config{}, err
	}
	restic := backup.Options{Docker: p.docker, Box: p.box, RunID: job.RunID, NanoCPUs: p.helperCPUs(), Logger: p.log, Creating: deployer.Creating}
	return harness.Config{
		Job: job, Settings: o.enrolment, Repeat: o.repeat, Environment: p.environment(),
		Enrolment: func(recipe string) (ccci.Recipe, error) { return enrol.Read(o.tests, recipe) },
		CIDomain:  p.cfg.Domain, Network: p.cfg.Network, Entrypoints: furtherEntrypoints(p.cfg),
		WorkDir: filepath.Join(files, "work"), OutDir: out, LockDir: p.lockDir, Version: version(), Git: gitLimits(p.cfg.Git),
		Deployer: deployer, Router: p.ingress,
		Backup: backup.NewApp(restic, deployer), Keeper: backup.NewKept(keptDir(p.cfg), restic),
		Reviewed: o.reviewed,
		Canonical: func(ctx context.Context) (ccci.Canonical, error) {
			return ccci.ReadCanonical(ctx, blobs, job.Recipe)
		},
		Browser: p.startBrowser,
		Log:     log, Censor: p.secrets, Env: p.hookEnv(), Now: time.Now, Rand: rand.Reader,
	}, nil
}

// environment is what a run's verdict may depend on besides what it tests, by name.
func (p *platform) environment() map[string]string {
	l := p.cfg.Limits
	all := map[string]string{
		"architecture": p.daemon.Architecture, "docker": p.daemon.ServerVersion,
		"memory": units.BytesSize(float64(p.daemon.MemTotal)), "processors": strconv.Itoa(p.daemon.NCPU),
		"proxy": p.cfg.Ingress.Kind, "domain": p.cfg.Domain, "engine.capacity": strconv.Itoa(p.cfg.Engine.Capacity),
		"engine.deadline": p.cfg.Engine.Deadline.String(), "engine.endpoint_mode": p.cfg.Engine.DNSRR,
		"limits.memory": l.Memory, "limits.container_memory": l.ContainerMemory, "limits.cpus": l.CPUs,
		"limits.processes": strconv.Itoa(l.Processes), "limits.disk": l.Disk,
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// furtherEntrypoints are the entrypoints for TCP beside those that all apps share.
func furtherEntrypoints(cfg config.Config) []string {
	var names []string
	for _, text := range cfg.Reconcile.Proxy.Entrypoints {
		if e, err := config.ParseEntrypoint(text); err == nil && !e.UDP { // the configuration keeps web and web-secure out
			names = append(names, e.Name)
		}
	}
	return names
}

// ceilings are what the configuration says of them; the deployer knows the rest.
func ceilings(l config.Limits) swarm.Ceilings {
	return swarm.Ceilings{
		Memory: config.Bytes(l.Memory), Container: config.Bytes(l.ContainerMemory), CPUSum: l.NanoCPUs(),
		Pids: int64(l.Processes), PidsMax: 4 * int64(l.Processes), PidsSum: 8 * int64(l.Processes), Log: config.Bytes(l.Log),
	}
}

// helperCPUs is how much of the processors restic has, beside the app: as much as the containers of a run together.
// 0 is without a limit, where the kernel has none.
func (p *platform) helperCPUs() int64 {
	all := int64(p.daemon.NCPU) * 1e9
	if !p.daemon.CPUCfsQuota {
		return 0
	}
	return min(cmp.Or(p.cfg.Limits.NanoCPUs(), all/int64(max(p.cfg.Engine.Capacity, 1))), all)
}

// needs are what must be free on the machine for another run to start.
func (p *platform) needs() headroom.Needs { return needsOf(p.cfg, p.dockerRoot) }

// short says that there is too little disk for a run to start.
func (p *platform) short() string {
	needs := p.needs()
	needs.Memory = 0
	return needs.Short()
}

// full says that a run must not go on, since little is left of what must be free to start one.
func (p *platform) full() string {
	needs := p.needs()
	needs.Memory, needs.Disk = 0, needs.Disk/4
	return needs.Short()
}

// free is the free space of Docker's disk in bytes, -1 when it is not known.
func (p *platform) free() int64 { return headroom.Free(dockerDir(p.dockerRoot)) }

// needs are those of the machine on which the server's runs are.
func (s *server) needs() headroom.Needs {
	if s.platform == nil {
		return needsOf(s.cfg, "")
	}
	return s.platform.needs()
}

// needsOf are the needs where Docker keeps its data in dockerRoot.
func needsOf(cfg config.Config, dockerRoot string) headroom.Needs {
	return headroom.Needs{
		Dirs: []string{cfg.Data, dockerDir(dockerRoot)},
		Disk: config.Bytes(cfg.Limits.FreeDisk), Memory: config.Bytes(cfg.Limits.FreeMemory),
	}
}

// dockerDir is where Docker keeps its data; "" stands for the usual place.
func dockerDir(root string) string { return cmp.Or(root, "/var/lib/docker") }

// keptDir has the data of apps that outlives their runs.
func keptDir(cfg config.Config) string { return filepath.Join(cfg.Data, "canonicals") }

// lockRoots are where locks may be, the first that is there: they must be the
// same for every cc-ci that uses a daemon, whatever its user and its data folder,
// or the janitor of one would take the living runs of another for dead.
var lockRoots = []string{"/run/lock", "/tmp"}

// findLocks makes the folder with the locks of all runs on this daemon.
func (p *platform) findLocks(ctx context.Context) error {
	info, err := p.docker.Info(ctx)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "asking the Docker daemon who it is: %w", err).WithHint("start it, or point DOCKER_HOST to it")
	}
	p.dockerRoot, p.daemon = info.DockerRootDir, info
	for _, root := range lockRoots {
		if _, err = os.Stat(root); err != nil {
			continue
		}
		// The identifier of old daemons has colons.
		slots, err := scratch.SharedDir(root, "cc-ci", strings.ReplaceAll(info.ID, ":", ""), slotsName)
		p.lockDir = filepath.Dir(slots)
		return err
	}
	return ccci.Errorf(ccci.CodeInfra, "making a folder for locks: %w", err).WithHint("make /run/lock writable for everybody with the sticky bit, as Debian does")
}

// slotDir has the slots of this daemon's runs, beside their locks.
func (p *platform) slotDir() string { return filepath.Join(p.lockDir, slotsName) }

const slotsName = "slots"

// refuseEnded refuses an attempt at a run whose result is there: it is told once.
func (p *platform) refuseEnded(ctx context.Context, job ccci.Job) error {
	blobs, err := openBlobs(p.cfg)
	if err != nil {
		return err
	}
	r, _, err := blobs.Get(ctx, ccci.ResultKey(job.RunID))
	if errors.Is(err, ccci.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	var ended struct{ Attempt int }
	if err := json.NewDecoder(r).Decode(&ended); err == nil && ended.Attempt < job.Attempt {
		return nil
	}
	return ccci.Errorf(ccci.CodeConflict, "run %s has already ended", job.RunID).WithHint("ask for a new run with !retest or !testme on the pull request")
}

// startBrowser starts a browser that reaches a run's hosts through the proxy.
func (p *platform) startBrowser(ctx context.Context, hosts *checks.Hosts) (checks.Browser, func(), error) {
	route := func(host, port string) string {
		if port == "443" && hosts.Has(host) {
			return p.ingress.Addr()
		}
		return ""
	}
	b, err := browser.Start(ctx, browser.Options{Path: p.tools.chromium, Route: route, AnyCertificate: true, Logger: p.log})
	if err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// hookEnv is what programs of the enrolment may know of this process's environment.
func (p *platform) hookEnv() []string {
	env := []string{
		"DOCKER_HOST=" + p.docker.DaemonHost(),
		recipetest.EnvProxy + "=" + p.ingress.Addr(), recipetest.EnvCA + "=" + p.ingress.CAFile(),
	}
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR", "GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY", "XDG_CACHE_HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// reaperBox is what the janitor has of the helper image: it empties what Docker cannot remove.
func reaperBox(image string) swarm.Box {
	if image == "" {
		return swarm.Box{}
	}
	return swarm.Box{Image: image, Empty: box.EmptyCommand}
}

// reap runs the janitor once: over the daemon, and over the temporary folders of
// this machine. It returns the runs it looked at and the folders it removed.
func (p *platform) reap(ctx context.Context) ([]harness.Reaped, []string, error) {
	folders, filesErr := scratch.Sweep()
	for _, path := range folders {
		p.log.Info("janitor removed what a killed process left", "folder", path)
	}
	reaper, err := swarm.New(swarm.Options{RunID: "janitor", Docker: p.docker, Logger: p.log, Box: reaperBox(p.box)})
	if err != nil {
		return nil, folders, errors.Join(filesErr, err)
	}
	reaped, err := harness.Reap(ctx, p.lockDir, reaper, p.ingress, p.log)
	return reaped, folders, errors.Join(filesErr, err)
}

// publish puts what a run left into the blobs, the result last: its presence
// says that everything else is there.
func (p *platform) publish(ctx context.Context, result *ccci.Result, out string) error {
	blobs, err := openBlobs(p.cfg)
	if err != nil {
		return err
	}
	var paths []string
	err = filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && path != filepath.Join(out, ccci.ResultFile) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listing the run's files: %w", err)
	}
	for _, path := range append(paths, filepath.Join(out, ccci.ResultFile)) {
		rel, err := filepath.Rel(out, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("publishing %s: %w", rel, err)
		}
		_, err = blobs.Put(ctx, ccci.ArtifactKey(result.RunID, filepath.ToSlash(rel)), f)
		f.Close()
		if err != nil {
			return fmt.Errorf("publishing %s: %w", rel, err)
		}
	}
	return nil
}

// publishReview puts a result that has a review alone into the blobs, for who follows the run.
func (p *platform) publishReview(ctx context.Context, early ccci.Result) error {
	blobs, err := openBlobs(p.cfg)
	if err != nil {
		return err
	}
	text, err := json.Marshal(early)
	if err != nil {
		return err
	}
	if _, err := blobs.Put(ctx, ccci.ReviewKey(early.RunID), bytes.NewReader(text)); err != nil {
		return fmt.Errorf("publishing the review: %w", err)
	}
	return nil
}

func blobsPath(cfg config.Config) string { return filepath.Join(cfg.Data, "blobs") }

func openBlobs(cfg config.Config) (*dirblob.Blobs, error) {
	return dirblob.Open(blobsPath(cfg))
}

// router gives the embedded ingress a transport that reaches it for every
// host name under the CI domain and verifies its certificate.
type router struct{ *ingress.Ingress }

func (r router) Transport() http.RoundTripper { return transportTo(r.Addr(), r.CAs()) }

var _ proxyServer = router{}
var _ harness.Deployer = (*swarm.Deployer)(nil)
