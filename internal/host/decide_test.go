package host

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ready are the facts of a machine where nothing is to be done.
func ready() Facts {
	return Facts{Root: true, Apt: true, Docker: DockerUp, Dockerd: true, Restic: "/usr/bin/restic", Chromium: "/usr/bin/chromium", Git: "/usr/bin/git",
		Timezone: true, Swarm: Swarm{State: "active", Manager: true, Cluster: "c"}, DiskPath: "/var/lib/docker", DiskFree: 50 << 30, DiskTotal: 100 << 30}
}

// A24, U22: each state of a machine has one next step, or one list of what to do.
func TestA24_Decide(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Facts)
		may    bool
		want   string // the action, or "!" and texts that error and hint must hold, separated by |
	}{
		{"ready", func(f *Facts) {}, false, "nothing to do"},
		{"ready, no root", func(f *Facts) { f.Root = false; f.Timezone = false }, false, "nothing to do"},
		{"no swarm", func(f *Facts) { f.Swarm = Swarm{State: "inactive"} }, false, "making a swarm of this one node"},
		{"no swarm, no root", func(f *Facts) { f.Swarm = Swarm{State: "inactive"}; f.Root = false }, false, "making a swarm of this one node"},
		{"worker", func(f *Facts) { f.Swarm = Swarm{State: "active"} }, true, "!worker|promote"},
		{"locked", func(f *Facts) { f.Swarm = Swarm{State: "locked"} }, true, "!locked|docker swarm unlock"},
		{"broken swarm", func(f *Facts) { f.Swarm = Swarm{State: "error"} }, true, `!"error"|docker info`},
		{"nothing installed", func(f *Facts) {
			*f = Facts{Root: true, Apt: true, Docker: DockerDown}
		}, true, "installing docker.io, restic, chromium-headless-shell, fonts-liberation, git with apt-get"},
		{"install is not allowed", func(f *Facts) { f.Restic, f.Git = "", "" }, false, "!missing: restic, git|apt-get install restic git"},
		{"install without root", func(f *Facts) { f.Restic, f.Root = "", false }, true, "!missing: restic|sudo apt-get install restic"},
		{"install elsewhere", func(f *Facts) { f.Restic, f.Apt = "", false }, true, "!missing: restic|install restic"},
		{"everything at once", func(f *Facts) {
			*f = Facts{Docker: DockerDown, Dockerd: true}
		}, true, "!restic|chromium|git|Docker does not run|start dockerd as root"},
		{"docker down", func(f *Facts) { f.Docker = DockerDown; f.Swarm = Swarm{} }, false, "starting Docker"},
		{"docker down, no root", func(f *Facts) { f.Docker = DockerDown; f.Root = false; f.Systemd = true }, true, "!does not run|sudo systemctl start docker"},
		{"docker down elsewhere", func(f *Facts) { f.Docker = DockerDown; f.Elsewhere = "tcp://far:2375"; f.Dockerd = false }, true, "!answers at DOCKER_HOST=tcp://far:2375|unset DOCKER_HOST"},
		{"docker up elsewhere", func(f *Facts) { f.Elsewhere = "tcp://far:2375"; f.Dockerd = false }, true, "nothing to do"},
		{"no right", func(f *Facts) { f.Docker = DockerDenied; f.Root = false }, true, "!may not talk to Docker|usermod -aG docker"},
		{"no right says nothing of a package", func(f *Facts) { f.Docker = DockerDenied; f.Dockerd = false; f.Root = false }, true, "!may not talk to Docker"},
		{"timezone", func(f *Facts) { f.Timezone = false }, false, "writing /etc/timezone"},
		{"disk below 2 GiB", func(f *Facts) { f.DiskFree = 2<<30 - 1; f.DiskTotal = 10 << 30 }, true, "!nearly full: 2.0 GiB (19 %)|docker system df"},
		{"disk below 5 %", func(f *Facts) { f.DiskFree = 40 << 30; f.DiskTotal = 1000 << 30 }, true, "!(4 %) free"},
		{"disk with just enough", func(f *Facts) { f.DiskFree = 2 << 30; f.DiskTotal = 40 << 30 }, true, "nothing to do"},
		{"disk of a remote daemon", func(f *Facts) { f.DiskFree, f.DiskTotal = 0, 0 }, true, "nothing to do"},
	} {
		f := ready()
		tc.change(&f)
		got, err := decide(f, tc.may)
		texts, fails := strings.CutPrefix(tc.want, "!")
		if fails != (err != nil) {
			t.Errorf("%s: %v, %v; want %s", tc.name, got, err, tc.want)
			continue
		}
		if !fails {
			if !strings.HasPrefix(got.String(), tc.want) {
				t.Errorf("%s: %v; want %s", tc.name, got, tc.want)
			}
			continue
		}
		all := err.Error() + "\n" + ccci.HintOf(err)
		for text := range strings.SplitSeq(texts, "|") {
			if !strings.Contains(all, text) || ccci.CodeOf(err) != ccci.CodeInfra {
				t.Errorf("%s: %s\ndoes not say %q", tc.name, all, text)
			}
		}
		if strings.Contains(tc.name, "says nothing") && strings.Contains(all, "docker.io") {
			t.Errorf("%s: %s", tc.name, all)
		}
	}
}
