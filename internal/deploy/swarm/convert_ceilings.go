package swarm

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	units "github.com/docker/go-units"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Ceilings bound what the containers of one run may use. A field that is zero bounds
// nothing in convert; New fills in defaults.
type Ceilings struct {
	// Memory is for all containers of the run together, in bytes; its apps divide it.
	// Default: three quarters of the machine's, divided by Options.Runs.
	Memory int64
	// Container is the memory, in bytes, of a container whose recipe states no limit,
	// default 2 GiB. One that states a limit may have up to Memory.
	Container int64
	// CPUs is for each container, in billionths of a processor. Default: all.
	CPUs int64
	// CPUSum is for all containers of the run together; its apps divide it. Default with
	// Options.Runs above 1: the processors divided by Options.Runs; else no bound.
	CPUSum int64
	// Pids is the number of processes and threads of a container whose recipe states no
	// limit, default 1024; PidsMax (4096) is the most that one may state, PidsSum (8192)
	// that of all of one app together.
	Pids, PidsMax, PidsSum int64
	// Log is the disk that the log of one container may take, in bytes; default 20 MiB.
	Log int64
	// Specs is the size of the specifications of all tasks of the run together, in bytes; its
	// apps divide it. Default 1 MiB.
	Specs int64
	// Ended is how many tasks of the run may end by themselves, default 300; EndedSpecs the size of
	// their specifications together, in bytes, default 16 MiB.
	Ended, EndedSpecs int64

	// shares is the CPU weight of all containers of the run together; its apps divide it.
	shares int64

	// Without names the resources that the daemon's kernel cannot limit: memory,
	// processors, processes. The daemon refuses a container that has such a limit.
	Without []string

	StopGrace      time.Duration // the longest, default 2 min
	HealthInterval time.Duration // the shortest, default 1 s
	RestartDelay   time.Duration // the shortest, default 1 s
	UpdateMonitor  time.Duration // the longest monitor and delay of an update, default 10 s; Settle waits for both
}

// fill sets the defaults that need no look at the machine.
func (c *Ceilings) fill() {
	c.Container = orDefault(c.Container, 2<<30)
	c.Pids, c.PidsMax, c.PidsSum = orDefault(c.Pids, 1024), orDefault(c.PidsMax, 4096), orDefault(c.PidsSum, 8192)
	c.Log = orDefault(c.Log, 20<<20)
	c.Specs = orDefault(c.Specs, 1<<20)
	c.Ended, c.EndedSpecs = orDefault(c.Ended, 300), orDefault(c.EndedSpecs, 16<<20)
	c.StopGrace = orDefault(c.StopGrace, 2*time.Minute)
	c.HealthInterval = orDefault(c.HealthInterval, time.Second)
	c.RestartDelay = orDefault(c.RestartDelay, time.Second)
	c.UpdateMonitor = orDefault(c.UpdateMonitor, 10*time.Second)
}

// measure sets the defaults that are parts of the machine's, and divides what is for
// the whole run among its apps.
func (c *Ceilings) measure(machine system.Info, runs, apps int) {
	c.Memory = orDefault(c.Memory, machine.MemTotal/4*3/int64(runs)) / int64(apps)
	cpus := int64(machine.NCPU) * 1e9
	if c.CPUSum == 0 && runs > 1 {
		c.CPUSum = cpus / int64(runs)
	}
	c.CPUSum /= int64(apps)
	c.Specs /= int64(apps)
	c.CPUs = orDefault(c.CPUs, cpus)
	c.shares = orDefault(c.shares, runShares) / int64(apps)
	c.Without = append(c.Without, Unlimited(machine)...)
	slices.Sort(c.Without)
}

// Unlimited names the resources that a daemon's kernel cannot limit, for [Ceilings].Without; sorted.
func Unlimited(machine system.Info) (names []string) {
	for name, can := range map[string]bool{limitMemory: machine.MemoryLimit, limitCPUs: machine.CPUCfsPeriod && machine.CPUCfsQuota, limitPids: machine.PidsLimit} {
		if !can {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// What a container can be limited in.
const (
	limitMemory = "memory"
	limitCPUs   = "processors"
	limitPids   = "processes"
)

// The least that is worth starting a container with.
const (
	leastMemory = 64 << 20
	leastCPUs   = 5e7
	leastPids   = 32
	// leastLog is the size of a log below which it would show nothing: secrets are looked for in it.
	leastLog = 1 << 20
)

// lowering is what clamp changed, as sentences, and what holds now, by service.
type lowering struct {
	notes     []string
	effective map[string]string
}

// clamp brings every service under the ceilings. That an app does not fit is an Error with CodeRecipe.
func clamp(services []service, c Ceilings) (lowering, error) {
	out := lowering{effective: map[string]string{}}
	bounds := make([]*swarm.Limit, len(services))
	for i := range services {
		r := &services[i].spec.TaskTemplate.Resources
		if *r == nil {
			*r = &swarm.ResourceRequirements{}
		}
		if (*r).Limits == nil {
			(*r).Limits = &swarm.Limit{}
		}
		bounds[i] = (*r).Limits
	}
	for _, resource := range []struct {
		name                  string
		of                    func(*swarm.Limit) *int64
		def, most, sum, least int64
		text                  func(int64) string
	}{
		{limitMemory, func(l *swarm.Limit) *int64 { return &l.MemoryBytes }, c.Container, c.Memory, c.Memory, leastMemory, bytesText},
		{limitCPUs, func(l *swarm.Limit) *int64 { return &l.NanoCPUs }, c.CPUs, c.CPUs, c.CPUSum, leastCPUs, cpuText},
		{limitPids, func(l *swarm.Limit) *int64 { return &l.Pids }, c.Pids, c.PidsMax, c.PidsSum, leastPids, func(n int64) string { return strconv.FormatInt(n, 10) }},
	} {
		requests := make([]request, len(services))
		for i := range services {
			// Less than nothing says nothing. The daemon takes it for no limit.
			requests[i] = request{max(*resource.of(bounds[i]), 0), services[i].tasks()}
		}
		shares, fits := share(requests, resource.def, resource.most, resource.sum, resource.least)
		if resource.name == limitCPUs {
			for i, weight := range divide(c.shares, shares, requests) {
				services[i].shares = weight
			}
		}
		if slices.Contains(c.Without, resource.name) {
			for i := range services {
				*resource.of(bounds[i]) = 0
			}
			out.notes = append(out.notes, "no limit of "+resource.name+": the kernel of this machine has none")
			continue
		}
		if !fits {
			return out, ccci.Errorf(ccci.CodeRecipe, "the app has too many containers for the %s of a run (%s): each would have less than %s",
				resource.name, resource.text(resource.sum), resource.text(resource.least)).
				WithHint("use fewer replicas or services, or raise the limits section of cc-ci's configuration")
		}
		for i := range services {
			if stated := requests[i].stated; stated > shares[i] {
				out.note(&services[i], "%s lowered from %s to %s", resource.name, resource.text(stated), resource.text(shares[i]))
			}
			*resource.of(bounds[i]) = shares[i]
		}
	}
	for i := range services {
		out.clampOne(&services[i], c)
	}
	return out, nil
}

func (l *lowering) note(s *service, format string, args ...any) {
	l.notes = append(l.notes, "service "+s.key+": "+fmt.Sprintf(format, args...))
}

func (l *lowering) clampOne(s *service, c Ceilings) {
	task := &s.spec.TaskTemplate
	limits := task.Resources.Limits
	if r := task.Resources.Reservations; r != nil {
		// Processors are shared by time. A reservation of them would only keep tasks from being placed, those of
		// other runs too.
		r.MemoryBytes, r.NanoCPUs = lower(max(r.MemoryBytes, 0), limits.MemoryBytes), 0
	}
	contents := task.ContainerSpec
	memory := cmp.Or(limits.MemoryBytes, c.Container) // without a limit of memory a tmpfs has one all the same
	for i, m := range contents.Mounts {
		if m.Type != mount.TypeTmpfs || memory == 0 {
			continue
		}
		if m.TmpfsOptions == nil {
			contents.Mounts[i].TmpfsOptions = &mount.TmpfsOptions{}
		}
		size := &contents.Mounts[i].TmpfsOptions.SizeBytes
		if *size > memory {
			l.note(s, "tmpfs at %s lowered from %s to %s", m.Target, bytesText(*size), bytesText(memory))
		}
		*size = lower(cmp.Or(max(*size, 0), memory/2), memory)
	}
	if g := contents.StopGracePeriod; g != nil && c.StopGrace > 0 && *g > c.StopGrace {
		l.note(s, "stop_grace_period lowered from %s to %s", *g, c.StopGrace)
		contents.StopGracePeriod = &c.StopGrace
	}
	l.clampHealth(s, contents.Healthcheck, c.HealthInterval)
	if p := task.RestartPolicy; p != nil && p.Delay != nil && *p.Delay < c.RestartDelay {
		l.note(s, "restart delay raised from %s to %s", *p.Delay, c.RestartDelay)
		p.Delay = &c.RestartDelay
	}
	if u := s.spec.UpdateConfig; u != nil && c.UpdateMonitor > 0 {
		l.clampUpdate(s, "delay", &u.Delay, c.UpdateMonitor)
		l.clampUpdate(s, "monitor", &u.Monitor, c.UpdateMonitor)
	}
	if c.Log > 0 {
		task.LogDriver = l.logDriver(s, task.LogDriver, c.Log)
	}
	l.effective[s.key] = effectiveText(task)
}

func (l *lowering) clampUpdate(s *service, name string, d *time.Duration, most time.Duration) {
	if *d > most {
		l.note(s, "%s of an update lowered from %s to %s", name, *d, most)
		*d = most
	}
}

func (l *lowering) clampHealth(s *service, h *container.HealthConfig, least time.Duration) {
	if h == nil {
		return
	}
	for _, d := range []*time.Duration{&h.Interval, &h.StartInterval} {
		if *d > 0 && *d < least {
			l.note(s, "healthcheck interval raised from %s to %s", *d, least)
			*d = least
		}
	}
}

// logDriver bounds what the daemon writes to its disk. The journal is the host's own, and a
// flood of one app would push everything else out of it: json-file stands in its place, and in that
// of a log that is not kept (none), which nothing measures though dockerd reads it all. A driver for
// which the operator has written a waiver stays.
func (l *lowering) logDriver(s *service, d *swarm.Driver, most int64) *swarm.Driver {
	// dockerd renames every file of a log when one is full, so that many small files cost it
	// 300 ms of processor time for a line.
	const files, mostFiles, leastFile = 2, 10, 64 << 10
	bounded := func(name string, size, count int64) *swarm.Driver {
		return &swarm.Driver{Name: name, Options: map[string]string{"max-size": strconv.FormatInt(size, 10), "max-file": strconv.FormatInt(count, 10)}}
	}
	if d == nil {
		return bounded("json-file", most/files, files)
	}
	name := cmp.Or(d.Name, "json-file")
	switch name {
	case "json-file", "local":
	case "journald", "none":
		l.note(s, "logging driver json-file in place of %s", name)
		return bounded("json-file", most/files, files)
	default:
		return d
	}
	size, err := units.RAMInBytes(d.Options["max-size"])
	count, countErr := strconv.ParseInt(cmp.Or(d.Options["max-file"], "1"), 10, 16)
	if err == nil && countErr == nil && size > 0 && count > 0 && size <= most/count && size*count < min(most, leastLog) {
		l.note(s, "log raised to %s", bytesText(most))
		return bounded(name, most/files, files)
	}
	if err != nil || countErr != nil || size < 1 || count < 1 || size > most/count {
		if d.Options["max-size"] != "" {
			l.note(s, "log lowered to %s", bytesText(most))
		}
		return bounded(name, most/files, files)
	}
	if size < leastFile || count > mostFiles {
		l.note(s, "log of %d files of %s changed to %d files of %s", count, bytesText(size), files, bytesText(most/files))
		return bounded(name, most/files, files)
	}
	return bounded(name, size, count)
}

func effectiveText(t *swarm.TaskSpec) string {
	var parts []string
	if n := t.Resources.Limits.MemoryBytes; n > 0 {
		parts = append(parts, "memory "+bytesText(n))
	}
	if n := t.Resources.Limits.NanoCPUs; n > 0 {
		parts = append(parts, cpuText(n)+" processors")
	}
	if n := t.Resources.Limits.Pids; n > 0 {
		parts = append(parts, fmt.Sprintf("%d processes", n))
	}
	if d := t.LogDriver; d != nil && d.Options["max-file"] == "" {
		parts = append(parts, "logging driver "+clip(d.Name, 40))
	} else if d != nil {
		size, _ := strconv.ParseInt(d.Options["max-size"], 10, 64) // clamp wrote it
		parts = append(parts, "log "+d.Options["max-file"]+" x "+bytesText(size))
	}
	return strings.Join(parts, ", ")
}

// request is what each of n containers of a service states, 0 for nothing.
type request struct{ stated, n int64 }

// share says what each container of each service gets. One that states nothing gets def, one that
// states something at most most. When all together exceed sum, those that state nothing
// divide evenly what the others leave; when that is not enough, everything shrinks
// alike. It reports false when a container would get less than least. def, most and
// sum may be 0 for no bound.
func share(requests []request, def, most, sum, least int64) ([]int64, bool) {
	out := make([]int64, len(requests))
	var total, stated, open int64
	for i, w := range requests {
		out[i] = cmp.Or(w.stated, def)
		if most > 0 {
			out[i] = lower(out[i], most)
		}
		total += out[i] * w.n
		if w.stated > 0 {
			stated += out[i] * w.n
		} else {
			open += w.n
		}
	}
	if sum == 0 || total <= sum {
		return out, true
	}
	if open > 0 && (sum-stated)/open >= least {
		for i, w := range requests {
			if w.stated == 0 {
				out[i] = (sum - stated) / open
			}
		}
		return out, true
	}
	for i := range out {
		out[i] = int64(float64(out[i]) * float64(sum) / float64(total))
	}
	return out, !slices.ContainsFunc(out, func(n int64) bool { return n < least })
}

// divide gives each container of each service its part of total, in proportion to its limit. A service
// without replicas counts as one container.
func divide(total int64, limits []int64, requests []request) []int64 {
	var sum float64
	for i, limit := range limits {
		sum += float64(limit) * float64(max(requests[i].n, 1))
	}
	out := make([]int64, len(limits))
	for i, limit := range limits {
		if limit > 0 {
			out[i] = max(int64(float64(total)*float64(limit)/sum), leastShares)
		}
	}
	return out
}

// lower returns n, at most bound; a bound of 0 is none.
func lower(n, bound int64) int64 {
	if bound > 0 && n > bound {
		return bound
	}
	return n
}

func bytesText(n int64) string { return units.BytesSize(float64(n)) }

func cpuText(nano int64) string { return strconv.FormatFloat(float64(nano)/1e9, 'g', 3, 64) }
