// Package swarm deploys apps on a Docker Swarm through the Docker API.
//
// It is the production adapter of harness.Deployer. Whatever it creates carries
// two labels, [LabelRun] and [LabelStack], so that a later process finds it
// again without any file of this one. How it decides that a stack has
// converged is in converge.go, how it removes one in remove.go; both are the
// parts to read first.
package swarm

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Labels that this package writes and reads.
const (
	// LabelRun names the run that an object belongs to.
	LabelRun = "cc-ci.run"
	// LabelStack is Docker's own label for the members of a stack.
	LabelStack = "com.docker.stack.namespace"
	// LabelSpec is on every task and holds a digest of the specification it was
	// made from. The API does not say which version of a service's specification a
	// task has; this label does, and a rolled back service betrays itself by it.
	LabelSpec = "cc-ci.spec"
	// LabelTaskID is swarm's own label for the containers of its tasks.
	LabelTaskID = "com.docker.swarm.task.id"

	labelStackImage  = "com.docker.stack.image"
	labelServiceName = "com.docker.swarm.service.name"
)

// How services are found inside the app's networks.
const (
	EndpointAuto  = "auto"  // dnsrr where the kernel has no IPVS, else as the recipe says
	EndpointVIP   = "vip"   // always as the recipe says; swarm's own default is a virtual address
	EndpointDNSRR = "dnsrr" // always dnsrr
)

// Options configure a [Deployer]. RunID is required, the rest has defaults.
type Options struct {
	RunID ccci.RunID

	// Docker is the client to use. Without one, Host is dialled ("unix:///…",
	// "tcp://…"; "" for what DOCKER_HOST and its siblings say).
	Docker *client.Client
	Host   string

	Logger *slog.Logger // default: discard

	// EndpointMode is one of EndpointAuto (default), EndpointVIP, EndpointDNSRR.
	EndpointMode string

	// PollInterval is the time between two looks at the daemon, default 150 ms. What has converged is
	// looked at again after a third of it.
	PollInterval time.Duration
	// Stable is how many looks in a row must find the stack converged, default 3.
	Stable int
	// LoopWindow is how long the same failure must have been repeating before a
	// third one counts as a restart loop, default 10 s. In Deploy no failure counts beside a
	// service that has been healthy for less than 6 times as long or, without a healthcheck,
	// has run for less than 12 times as long and half of the time that Deploy has: an app may
	// end until its database is ready.
	LoopWindow time.Duration
	// RemovePatience bounds how long Remove tries without any progress, default 60 s.
	RemovePatience time.Duration
	// AnswerPatience bounds how long a request to create an object is waited for after
	// the one who asked has given up, default 90 s.
	AnswerPatience time.Duration
	// AbsencePatience is how long an object must have been absent before Remove takes
	// it that a request to create it, which ended without an answer, comes to nothing;
	// default 20 s, which is the daemon's own limit for a request to swarm.
	AbsencePatience time.Duration
	// MemoryInterval is the time between two memory samples, default 1 s.
	MemoryInterval time.Duration

	// Ceilings bound what the apps of the run may use.
	Ceilings Ceilings
	// Runs is how many runs the machine carries at a time, Apps how many apps this run
	// has; both divide what the machine has. Default 1.
	Runs, Apps int
	// Part is which of the Runs parts of the processors the run's containers use, from 0; -1: all
	// processors. It counts only where there are as many processors as runs.
	Part int

	// DiskLimit is what the run may take of the daemon's disk, in bytes; 0 for no limit. It
	// needs Box.Measure. DiskInterval is the time between two measurements, default 5 s.
	DiskLimit    int64
	DiskInterval time.Duration
	// Free returns the free bytes of the daemon's disk, -1 when they are not known. When they
	// drop fast, the next measurement comes earlier. It may be nil.
	Free func() int64
	// Full says in one sentence that the machine's disk is so full that no run may go on, ""
	// while it is not. It may be nil.
	Full func() string
	// Short says likewise that no run may start. Then Remove also removes the images that this
	// Deployer has pulled and nobody else uses. It may be nil.
	Short func() string

	// RegistryAuth returns the encoded credentials for an image reference, "" for
	// none. It may be nil.
	RegistryAuth func(reference string) (string, error)

	// Pins say which image stands for a reference: "name@sha256:…" by what a recipe states.
	Pins map[string]string

	// Network is the external network that recipes name towards the proxy, default
	// "proxy". Services that join it join the run's own network in its place.
	Network string
	// Proxy is the name of the proxy's container. Without one, every container is a
	// proxy that carries [LabelProxy].
	Proxy string

	// Box is how [Deployer.Dial] reaches an app that the host cannot route to, and how files are copied
	// into and out of volumes.
	Box Box

	Now func() time.Time // default time.Now
}

// Box is a helper image that can connect its standard input and output to a TCP address, and work on volumes.
type Box struct {
	Image string // "" when there is none
	// Dial returns the command that connects to "host:port" within the app's network.
	Dial func(address string) []string
	// Hold is the command that keeps the container alive, Measure the one that prints a
	// line "<bytes> <entries> <dir>" for each directory and, before them, "log <bytes per second> <id>"
	// for each container; nil: nothing is measured.
	Hold    []string
	Measure func(containers, dirs []string) []string
	// Empty returns the command that removes all that is in directories, however deep it is; nil: what
	// Docker itself cannot remove stays.
	Empty func(dirs []string) []string
	// Guard returns the command that watches the files which Docker mounts into the containers of a run, as
	// box.Guard does; nil: they are not watched.
	Guard func(run string) []string
	// Logs is the directory in which Measure and Guard find Docker's directory of containers, Measure for the
	// logs of those that it is given. Empty: neither logs nor those files are looked at.
	Logs string
	// Get and Put are the commands that read and write a file of a folder, as beneath.Run does.
	Get func(dir, name string, limit int64) []string
	Put func(dir, name string) []string
}

// Deployer is a harness.Deployer on a Docker Swarm. Make one with [New].
type Deployer struct {
	o       Options
	docker  *client.Client
	log     *slog.Logger
	memory  *memory
	link    *proxyLink
	disk    *disk
	guard   *guard
	endings *endings
	weights *weights
	copier  *copier

	exceeded chan error

	creations creations
	anonymous anonymous

	networking sync.Mutex // held while networks are looked for and made

	mu     sync.Mutex
	pulled []string                           // qualified references
	images map[string]string                  // by reference as stated: the ID of what Pull brought
	probes map[string]*container.HealthConfig // by ID of the image: how its own healthcheck is to be changed
	looked map[string]bool                    // by ID of the image: its user files are harmless
	// entries are what images have, by ID and path of which no folder is a link.
	entries map[[2]string]entry
	ready   bool

	dockerRoot string            // the daemon's data directory, on its machine; known when ready
	dnsrr      *bool             // decided at the first deployment
	floor      map[string]uint64 // by service id: the version that the last update replaced
}

// New returns a Deployer for one run. It does not talk to the daemon yet.
func New(o Options) (*Deployer, error) {
	if o.RunID == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making a swarm deployer: it needs a run id")
	}
	switch o.EndpointMode {
	case "":
		o.EndpointMode = EndpointAuto
	case EndpointAuto, EndpointVIP, EndpointDNSRR:
	default:
		return nil, ccci.Errorf(ccci.CodeInvalid, "making a swarm deployer: unknown endpoint mode %q", o.EndpointMode).
			WithHint("use auto, vip or dnsrr")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Network = cmp.Or(o.Network, "proxy")
	o.PollInterval = orDefault(o.PollInterval, 150*time.Millisecond)
	o.Stable = orDefault(o.Stable, 3)
	o.LoopWindow = orDefault(o.LoopWindow, 10*time.Second)
	o.RemovePatience = orDefault(o.RemovePatience, time.Minute)
	o.AnswerPatience = orDefault(o.AnswerPatience, 90*time.Second)
	o.AbsencePatience = orDefault(o.AbsencePatience, 20*time.Second)
	o.Runs, o.Apps = orDefault(o.Runs, 1), orDefault(o.Apps, 1)
	o.Ceilings.fill()
	o.MemoryInterval = orDefault(o.MemoryInterval, time.Second)
	if o.Docker == nil {
		opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
		if o.Host != "" {
			opts = append(opts, client.WithHost(o.Host))
		}
		docker, err := client.NewClientWithOpts(opts...)
		if err != nil {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making a Docker client: %w", err).
				WithHint("check DOCKER_HOST, DOCKER_CERT_PATH and the configured Docker host")
		}
		o.Docker = docker
	}
	d := &Deployer{
		o:         o,
		docker:    o.Docker,
		log:       o.Logger,
		anonymous: anonymous{since: o.Now(), names: map[string]bool{}},
		floor:     map[string]uint64{},
		images:    map[string]string{},
		probes:    map[string]*container.HealthConfig{},
		looked:    map[string]bool{},
		entries:   map[[2]string]entry{},
		exceeded:  make(chan error, 1),
	}
	d.memory = &memory{docker: o.Docker, interval: o.MemoryInterval, seen: d.noteVolumes}
	d.link = &proxyLink{d: d, stacks: map[string]bool{}}
	d.weights = &weights{d: d, services: map[string]map[string]int64{}}
	d.disk = &disk{d: d}
	d.guard = &guard{d: d}
	d.copier = &copier{d: d}
	d.endings = &endings{d: d, seen: map[string]bool{}, services: map[string]int{}}
	return d, nil
}

func orDefault[T ~int | ~int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// check makes sure, once, that the daemon answers and that it manages a swarm.
func (d *Deployer) check(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready {
		return nil
	}
	info, err := d.docker.Info(ctx)
	if err != nil {
		return d.fault("asking Docker for its state", err)
	}
	if err := swarmState(info.Swarm); err != nil {
		return err
	}
	d.o.Ceilings.measure(info, d.o.Runs, d.o.Apps)
	d.dockerRoot = info.DockerRootDir
	d.weights.processors = part(d.o.Part, d.o.Runs, info.NCPU)
	d.ready = true
	return nil
}

// owned returns labels with those that mark an object as the run's own. Others that begin
// as ours are left out: they are not a recipe's to set.
func owned(labels map[string]string, run ccci.RunID, stack string) map[string]string {
	out := make(map[string]string, len(labels)+2)
	for k, v := range labels {
		if !strings.HasPrefix(k, "cc-ci.") {
			out[k] = v
		}
	}
	out[LabelRun] = string(run)
	if stack != "" {
		out[LabelStack] = stack
	}
	return out
}

// sleep waits for a poll interval, or until ctx ends.
func (d *Deployer) sleep(ctx context.Context) error { return sleep(ctx, d.o.PollInterval) }

func sleep(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting for Docker: %w", context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}
