package swarm

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/volume"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// smallMachine are the defaults on one with 8 GiB and 2 processors.
func smallMachine() Ceilings {
	var c Ceilings
	c.fill()
	c.measure(machineOf(8<<30, 2), 1, 1)
	return c
}

func TestShare(t *testing.T) {
	const none = 0
	for name, c := range map[string]struct {
		requests             []request
		def, most, sum, leas int64
		want                 []int64
		refused              bool
	}{
		"no bound":                         {[]request{{none, 1}, {9, 1}}, none, none, none, none, []int64{0, 9}, false},
		"default":                          {[]request{{none, 1}, {3, 1}}, 5, 10, 20, 1, []int64{5, 3}, false},
		"at most":                          {[]request{{50, 1}}, 5, 10, 20, 1, []int64{10}, false},
		"the silent divide the rest":       {[]request{{none, 1}, {none, 1}, {12, 1}}, 10, 20, 20, 1, []int64{4, 4, 12}, false},
		"replicas count":                   {[]request{{none, 4}}, 10, 20, 20, 1, []int64{5}, false},
		"no replica":                       {[]request{{none, 0}, {none, 1}}, 10, 10, 10, 1, []int64{10, 10}, false},
		"all shrink when nothing is left":  {[]request{{none, 1}, {20, 1}, {20, 1}}, 10, 20, 20, 2, []int64{4, 8, 8}, false},
		"too many":                         {[]request{{none, 100}}, 10, 20, 20, 1, []int64{0}, true},
		"too many that say what they want": {[]request{{20, 100}}, 10, 20, 20, 1, []int64{0}, true},
	} {
		got, fits := share(c.requests, c.def, c.most, c.sum, c.leas)
		if fits == c.refused || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, fits, c.want)
		}
	}
}

// What each recipe gets, whatever it says. The sentences are shown in the result.
func TestEveryContainerHasACeiling(t *testing.T) {
	const plain = "memory 2GiB, 2 processors, 1024 processes, log 2 x 10MiB"
	for name, c := range map[string]struct {
		part, want string
		notes      []string
	}{
		"nothing stated":  {"", plain, nil},
		"less":            {"    deploy: {resources: {limits: {memory: 100M, cpus: '0.5', pids: 10}}}\n", "memory 100MiB, 0.5 processors, 10 processes, log 2 x 10MiB", nil},
		"more":            {"    deploy: {resources: {limits: {memory: 64G, cpus: '64', pids: 100000}}}\n", "memory 6GiB, 2 processors, 4096 processes, log 2 x 10MiB", []string{"memory lowered from 64GiB to 6GiB", "processors lowered from 64 to 2", "processes lowered from 100000 to 4096"}},
		"within":          {"    deploy: {resources: {limits: {memory: 4G, pids: 2000}}}\n", "memory 4GiB, 2 processors, 2000 processes, log 2 x 10MiB", nil},
		"less than none":  {"    deploy: {resources: {limits: {memory: '1e30', pids: -1}, reservations: {memory: '1e30'}}}\n", plain, nil},
		"three replicas":  {"    deploy: {replicas: 6}\n", "memory 1GiB, 2 processors, 1024 processes, log 2 x 10MiB", nil},
		"reservation":     {"    deploy: {resources: {reservations: {memory: 64G, cpus: '2'}}}\n", plain, nil},
		"grace":           {"    stop_grace_period: 2h\n", plain, []string{"stop_grace_period lowered from 2h0m0s to 2m0s"}},
		"busy probe":      {"    healthcheck: {test: x, interval: 1ms, start_interval: 2ms}\n", plain, []string{"healthcheck interval raised from 1ms to 1s", "healthcheck interval raised from 2ms to 1s"}},
		"calm probe":      {"    healthcheck: {test: x, interval: 30s}\n", plain, nil},
		"busy restart":    {"    deploy: {restart_policy: {delay: 1ns}}\n", plain, []string{"restart delay raised from 1ns to 1s"}},
		"long update":     {"    deploy: {update_config: {monitor: 60s}}\n", plain, []string{"monitor of an update lowered from 1m0s to 10s"}},
		"late update":     {"    deploy: {update_config: {delay: 60s, monitor: 10s}}\n", plain, []string{"delay of an update lowered from 1m0s to 10s"}},
		"tmpfs":           {"    volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 99999999999}}, {type: tmpfs, target: /t}]\n", plain, []string{"tmpfs at /dev/shm lowered from 93.13GiB to 2GiB"}},
		"small log":       {"    logging: {driver: json-file, options: {max-size: 1m, max-file: '5'}}\n", "memory 2GiB, 2 processors, 1024 processes, log 5 x 1MiB", nil},
		"many small logs": {"    logging: {driver: json-file, options: {max-size: '33', max-file: '32767'}}\n", plain, []string{"log of 32767 files of 33B changed to 2 files of 10MiB"}},
		"many log files":  {"    logging: {options: {max-size: 1m, max-file: '11'}}\n", plain, []string{"log of 11 files of 1MiB changed to 2 files of 10MiB"}},
		"no log":          {"    logging: {driver: none}\n", plain, []string{"logging driver json-file in place of none"}},
		"log of a line":   {"    logging: {options: {max-size: '1', max-file: '2'}}\n", plain, []string{"log raised to 20MiB"}},
		"large log":       {"    logging: {driver: json-file, options: {max-size: 900g, tag: '{{.ID}}'}}\n", plain, []string{"log lowered to 20MiB"}},
		"many logs":       {"    logging: {options: {max-size: 10m, max-file: '32000'}}\n", plain, []string{"log lowered to 20MiB"}},
		"local log":       {"    logging: {driver: local}\n", plain, nil},
		"log without end": {"    logging: {driver: journald}\n", plain, []string{"logging driver json-file in place of journald"}},
	} {
		m, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: x:1\n"+c.part), nil, "r", false, "proxy", smallMachine())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var notes []string
		for _, n := range c.notes {
			notes = append(notes, "service app: "+n)
		}
		if diff := cmp.Diff(notes, m.lowered.notes); diff != "" || m.lowered.effective["app"] != c.want {
			t.Errorf("%s: %q\n%s", name, m.lowered.effective["app"], diff)
		}
		spec := m.services[0].spec.TaskTemplate
		for _, mount := range spec.ContainerSpec.Mounts {
			if size := mount.TmpfsOptions.SizeBytes; size <= 0 || size > spec.Resources.Limits.MemoryBytes {
				t.Errorf("%s: the tmpfs at %s has %d bytes", name, mount.Target, size)
			}
		}
		if r := spec.Resources.Reservations; r != nil && (r.MemoryBytes < 0 || r.MemoryBytes > spec.Resources.Limits.MemoryBytes || r.NanoCPUs != 0) {
			t.Errorf("%s: more is reserved than allowed", name)
		}
		for option := range spec.LogDriver.Options {
			if option != "max-size" && option != "max-file" {
				t.Errorf("%s: log option %s", name, option)
			}
		}
	}
	_, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: x:1\n    deploy: {replicas: 1000}\n"), nil, "r", false, "proxy", smallMachine())
	if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "too many containers") || ccci.HintOf(err) == "" {
		t.Errorf("a thousand replicas: %v", err)
	}
}

// machineOf is a machine whose kernel limits everything.
func machineOf(memory int64, cpus int) system.Info {
	return system.Info{MemTotal: memory, NCPU: cpus, MemoryLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, PidsLimit: true}
}

// A kernel that cannot limit something refuses a container that has the limit: it is left out, and that is said.
func TestKernelsWithoutLimits(t *testing.T) {
	for without, machine := range map[string]system.Info{
		limitCPUs:   {MemTotal: 8 << 30, NCPU: 2, MemoryLimit: true, PidsLimit: true, CPUCfsPeriod: true},
		limitMemory: {MemTotal: 8 << 30, NCPU: 2, PidsLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true},
		limitPids:   {MemTotal: 8 << 30, NCPU: 2, MemoryLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true},
	} {
		if got := Unlimited(machine); !slices.Equal(got, []string{without}) {
			t.Errorf("without %s, the machine lacks %q", without, got)
		}
		var c Ceilings
		c.fill()
		c.measure(machine, 1, 1)
		m, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: x:1\n    volumes: [{type: tmpfs, target: /t}]\n"), nil, "r", false, "proxy", c)
		if err != nil {
			t.Fatal(err)
		}
		task := m.services[0].spec.TaskTemplate
		l := task.Resources.Limits
		if (l.NanoCPUs == 0) != (without == limitCPUs) || (l.MemoryBytes == 0) != (without == limitMemory) || (l.Pids == 0) != (without == limitPids) {
			t.Errorf("without %s: %+v", without, l)
		}
		if !slices.Equal(m.lowered.notes, []string{"no limit of " + without + ": the kernel of this machine has none"}) {
			t.Errorf("without %s it says %q", without, m.lowered.notes)
		}
		if task.ContainerSpec.Mounts[0].TmpfsOptions.SizeBytes != 1<<30 {
			t.Errorf("without %s the tmpfs has %d bytes", without, task.ContainerSpec.Mounts[0].TmpfsOptions.SizeBytes)
		}
	}
}

// The machine is divided among its runs, and a run among its apps.
func TestCeilingsDivideTheMachine(t *testing.T) {
	var c Ceilings
	c.fill()
	c.measure(machineOf(32<<30, 8), 2, 3)
	if c.Memory != 4<<30 || c.CPUs != 8e9 || c.CPUSum != 8_000_000_000/2/3 {
		t.Errorf("%+v", c)
	}
	given := Ceilings{Memory: 6 << 30, CPUs: 1e9, CPUSum: 3e9}
	given.fill()
	given.measure(machineOf(32<<30, 8), 2, 3)
	if given.Memory != 2<<30 || given.CPUs != 1e9 || given.CPUSum != 1e9 {
		t.Errorf("%+v", given)
	}
}

// What the converter says is what the kernel holds.
func TestContainersRunUnderTheirCeilings(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS", "{}", "networks: [NET]", "networks: [inside]\n    logging: {driver: journald}\n    volumes: [{type: tmpfs, target: /t}]").Replace(tinyCompose)
	_, app, _ := tiny(t, cli, Options{Ceilings: Ceilings{Memory: 300 << 20, HealthInterval: 100 * time.Millisecond}}, compose)
	list, err := cli.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+app.StackName))})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	c, err := cli.ContainerInspect(t.Context(), list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	h := c.HostConfig
	if h.Memory != 300<<20 || h.NanoCPUs == 0 || h.PidsLimit == nil || *h.PidsLimit != 1024 ||
		h.LogConfig.Type != "json-file" || h.LogConfig.Config["max-size"] != "10485760" || len(h.Mounts) != 1 || h.Mounts[0].TmpfsOptions.SizeBytes != 150<<20 {
		t.Errorf("memory %d, processors %d, processes %v, log %+v, mounts %+v", h.Memory, h.NanoCPUs, *h.PidsLimit, h.LogConfig, h.Mounts)
	}
}

// A run that fills a volume or its own layer is frozen and told of, and what grew is named.
func TestDiskLimitNamesWhatGrew(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	box := Box{Image: img, Hold: []string{"/app", "sleep", "10m"}, Measure: func(_, dirs []string) []string { return append([]string{"/app", "measure"}, dirs...) }}
	for dir, what := range map[string]string{"/data": "volume STACK_data", "/tmp": "container STACK_app"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS}", "{}}\nvolumes: {data: {}}", "networks: [NET]", "networks: [inside]\n    volumes: ['data:/data']", "VERSION=one", "GROW="+dir).Replace(tinyCompose)
			d, app, _ := tiny(t, cli, Options{Box: box, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), DiskLimit: 100 << 20, DiskInterval: 100 * time.Millisecond, Ceilings: Ceilings{HealthInterval: 100 * time.Millisecond}}, compose)
			// A volume of the run and of no app, as that of a backup: its owner removes it first.
			backup := "backup-" + string(app.RunID)
			if _, err := cli.VolumeCreate(t.Context(), volume.CreateOptions{Name: backup, Labels: owned(nil, app.RunID, "")}); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-d.Exceeded():
				if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), strings.ReplaceAll(what, "STACK", app.StackName)) || !strings.Contains(err.Error(), "of 100MiB") {
					t.Errorf("%v", err)
				}
				t.Log(err)
			case <-time.After(time.Minute):
				t.Fatal("it grows without end")
			}
			list, err := cli.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelServiceName+"="+app.StackName+"_app"))})
			if err != nil || len(list) != 1 || list[0].State != "paused" {
				t.Errorf("the app's containers are %+v, %v", list, err)
			}
			if err := cli.VolumeRemove(t.Context(), backup, false); err != nil {
				t.Errorf("what measures holds the backup's volume: %v", err)
			}
			var log strings.Builder
			err = d.Logs(t.Context(), deploytest.Stack(t, app.StackName, t.TempDir(), compose), func(p harness.LogPiece) error {
				log.Write(p.Text[:min(len(p.Text), 1000)])
				return nil
			})
			if err != nil || !strings.Contains(log.String(), "listening") {
				t.Errorf("its log cannot be read: %q, %v", log.String(), err)
			}
			if _, err := d.Remove(t.Context(), app); err != nil {
				t.Error(err)
			}
			left, err := d.belonging(t.Context(), app)
			if err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// An image brings a healthcheck of its own, which is asked no more often than one of a compose file. What else it
// says stays the image's: the daemon merges the two.
func TestN3_AnImagesProbeIsCalm(t *testing.T) {
	d, err := New(Options{RunID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	d.calmProbe("busy", &container.HealthConfig{Test: []string{"CMD", "x"}, Interval: time.Millisecond, StartInterval: time.Millisecond})
	d.calmProbe("below zero", &container.HealthConfig{Test: []string{"CMD", "x"}, Interval: -1, StartInterval: -1})
	d.calmProbe("calm", &container.HealthConfig{Test: []string{"CMD", "x"}, Interval: 5 * time.Second})
	d.calmProbe("without", nil)
	stated := &container.HealthConfig{Test: []string{"CMD", "y"}, Interval: 7 * time.Second}
	off := &container.HealthConfig{Test: []string{"NONE"}}
	for _, c := range []struct {
		image        string
		stated, want *container.HealthConfig
	}{
		{"busy", nil, &container.HealthConfig{Interval: time.Second, StartInterval: time.Second}},
		{"below zero", nil, &container.HealthConfig{Interval: time.Second, StartInterval: time.Second}},
		{"busy", stated, &container.HealthConfig{Test: []string{"CMD", "y"}, Interval: 7 * time.Second, StartInterval: time.Second}},
		{"busy", off, off}, {"calm", nil, nil}, {"calm", stated, stated}, {"without", nil, nil}, {"unknown", nil, nil},
	} {
		if diff := cmp.Diff(c.want, d.calmed(c.image, c.stated)); diff != "" {
			t.Errorf("%s: %s", c.image, diff)
		}
	}
}
