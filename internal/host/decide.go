package host

import (
	"fmt"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Facts are what a machine looks like at one moment.
type Facts struct {
	Root    bool // the process may install and start things
	Apt     bool // Debian or a relative, with apt-get
	Systemd bool // services are started by systemd

	Docker    DockerState
	Elsewhere string // what DOCKER_HOST names, when that is not the daemon that would be started here
	Dockerd   bool   // the program is installed
	Restic    string
	Chromium  string
	Git       string
	Timezone  bool   // /etc/timezone exists; recipes mount it
	Swarm     Swarm  // known when Docker is up
	DiskPath  string // Docker's root directory; "" when it is not on this machine
	DiskFree  uint64 // bytes that are left there
	DiskTotal uint64 // bytes
}

// DockerState says whether the daemon answers.
type DockerState string

const (
	DockerUp     DockerState = "up"
	DockerDenied DockerState = "denied" // it runs, and this user may not talk to it
	DockerDown   DockerState = "down"
)

// Swarm is this node's part in a swarm.
type Swarm struct {
	State   string // as the daemon reports it: inactive, active, pending, error, locked
	Manager bool
	Cluster string // ID, when this node is a manager
}

// kind is one transition.
type kind string

const (
	nothing       kind = ""
	install       kind = "install"
	startDocker   kind = "start docker"
	writeTimezone kind = "write timezone"
	initSwarm     kind = "init swarm"
)

// action is the next thing to do.
type action struct {
	kind     kind
	packages []string
}

// String says it to a person.
func (a action) String() string {
	switch a.kind {
	case install:
		return "installing " + strings.Join(a.packages, ", ") + " with apt-get"
	case startDocker:
		return "starting Docker"
	case writeTimezone:
		return "writing /etc/timezone (Etc/UTC), which recipes mount"
	case initSwarm:
		return "making a swarm of this one node"
	}
	return "nothing to do"
}

// Limits of free space on Docker's disk, below which no run is started.
const (
	minFree        = 2 << 30 // bytes
	minFreePercent = 5
)

// decide returns the next transition, nothing when the machine is ready, or one
// error that lists all that stands in the way and what to do about each.
func decide(f Facts, mayInstall bool) (action, error) {
	if obstacles := obstacles(f, mayInstall); len(obstacles) > 0 {
		return action{}, refusal(obstacles)
	}
	if packages := missingPackages(f); len(packages) > 0 {
		return action{kind: install, packages: packages}, nil
	}
	if f.Docker != DockerUp {
		return action{kind: startDocker}, nil
	}
	if !f.Timezone && f.Root {
		return action{kind: writeTimezone}, nil
	}
	if f.Swarm.State == "inactive" {
		return action{kind: initSwarm}, nil
	}
	return action{}, nil
}

// obstacle is something that cannot be mended from here.
type obstacle struct{ what, remedy string }

func refusal(obstacles []obstacle) error {
	var whats, remedies []string
	for _, o := range obstacles {
		whats, remedies = append(whats, o.what), append(remedies, o.remedy)
	}
	return ccci.Errorf(ccci.CodeInfra, "this machine cannot run cc-ci yet: %s", strings.Join(whats, "; ")).
		WithHint("%s", strings.Join(remedies, "; "))
}

func obstacles(f Facts, mayInstall bool) []obstacle {
	var all []obstacle
	if packages := missingPackages(f); len(packages) > 0 && !(mayInstall && f.Root && f.Apt) {
		o := obstacle{"missing: " + strings.Join(packages, ", "), "install " + strings.Join(packages, ", ")}
		switch {
		case f.Apt && f.Root:
			o.remedy = "run apt-get install " + strings.Join(packages, " ")
		case f.Apt:
			o.remedy = "run sudo apt-get install " + strings.Join(packages, " ")
		}
		all = append(all, o)
	}
	switch {
	case f.Docker == DockerDenied:
		all = append(all, obstacle{"this user may not talk to Docker", "run sudo usermod -aG docker $USER and log in again, or become root"})
	case f.Docker == DockerDown && f.Elsewhere != "":
		all = append(all, obstacle{"no Docker daemon answers at DOCKER_HOST=" + f.Elsewhere, "mend or unset DOCKER_HOST, or start the daemon there"})
	case f.Docker == DockerDown && !f.Root && f.Systemd:
		all = append(all, obstacle{"Docker does not run", "run sudo systemctl start docker"})
	case f.Docker == DockerDown && !f.Root:
		all = append(all, obstacle{"Docker does not run", "start dockerd as root"})
	}
	if f.Docker != DockerUp {
		return all
	}
	switch {
	case f.Swarm.State == "locked":
		all = append(all, obstacle{"the swarm is locked", "run docker swarm unlock"})
	case f.Swarm.State == "active" && !f.Swarm.Manager:
		all = append(all, obstacle{"this node is a worker of a swarm, and services are made on a manager", "run cc-ci on a manager, or docker node promote this one"})
	case f.Swarm.State != "active" && f.Swarm.State != "inactive":
		all = append(all, obstacle{fmt.Sprintf("the swarm is in state %q", f.Swarm.State), "look at docker info; docker swarm leave --force starts anew"})
	}
	if low(f) {
		all = append(all, obstacle{
			fmt.Sprintf("the disk of %s is nearly full: %.1f GiB (%d %%) free", f.DiskPath, float64(f.DiskFree)/(1<<30), f.DiskFree*100/f.DiskTotal),
			fmt.Sprintf("free at least %d GiB and %d %%; docker system df shows what Docker uses", minFree>>30, minFreePercent)})
	}
	return all
}

func low(f Facts) bool {
	return f.DiskTotal > 0 && (f.DiskFree < minFree || f.DiskFree*100/f.DiskTotal < minFreePercent)
}

// missingPackages are the Debian packages of what is not there.
func missingPackages(f Facts) []string {
	var packages []string
	if f.Docker == DockerDown && !f.Dockerd && f.Elsewhere == "" {
		packages = append(packages, "docker.io")
	}
	if f.Restic == "" {
		packages = append(packages, "restic")
	}
	if f.Chromium == "" {
		packages = append(packages, "chromium-headless-shell", "fonts-liberation") // without a font, screenshots have no text
	}
	if f.Git == "" {
		packages = append(packages, "git")
	}
	return packages
}
