package box

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/leak"
)

// open are what sops-nix decrypts like a secret and everybody may see.
var open = []string{"drone_gitea_client_id", "wildcard_certificate"}

// know makes a scan look for every secret of the box.
func (o *operator) know(s *leak.Scan) {
	o.t.Helper()
	for name, value := range o.placed {
		if !slices.Contains(open, name) {
			s.Know(name, ccci.NewSecret(value))
		}
	}
}

// witness writes down the arguments of every process that there is while it looks.
type witness struct {
	stop func()
	mu   sync.Mutex
	seen map[string]bool
}

// watch begins to look at the processes of the box, of which many live for a moment.
func (b *box) watch() *witness {
	ctx, cancel := context.WithCancel(b.t.Context())
	w := &witness{seen: map[string]bool{}}
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			w.look()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	w.stop = func() { cancel(); done.Wait() }
	b.t.Cleanup(w.stop)
	return w
}

// look takes in the arguments of processes in namespaces of their own: those of the box, and of
// containers on this machine, which know none of its secrets.
func (w *witness) look() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || len(numbersOf(pid)) < 2 {
			continue
		}
		if line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil {
			w.seen[strings.ReplaceAll(string(line), "\x00", " ")] = true
		}
	}
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]string, 0, len(w.seen))
	for line := range w.seen {
		all = append(all, line)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// places are where no secret may be.
const (
	inStore       = "Nix store"
	inUnits       = "environment of units"
	inArguments   = "arguments of processes"
	inLog         = "journal"
	inServices    = "services and containers"
	inServiceLogs = "logs of services"
	inLayers      = "layers of images and containers"
	inRuns        = "what runs leave"
)

// leaks looks in all these places, and returns what each holds.
func (o *operator) leaks(know func(*leak.Scan), arguments string) map[string][]leak.Finding {
	o.t.Helper()
	found := map[string][]leak.Finding{}
	in := func(place string, look func(*leak.Scan) error) {
		o.t.Helper()
		var s leak.Scan
		know(&s)
		if err := look(&s); err != nil {
			o.t.Errorf("%s: %v", place, err)
		}
		r := s.Report()
		if r.Scanned == 0 {
			o.t.Errorf("%s: there was nothing to look at", place)
		}
		found[place] = append(found[place], r.Findings...)
	}
	text := func(place, text string) {
		o.t.Helper()
		in(place, func(s *leak.Scan) error { s.Text(place, text); return nil })
		if len(text) < 100 {
			o.t.Errorf("%s: only %q", place, text)
		}
	}
	folder := func(place, dir string) {
		o.t.Helper()
		in(place, func(s *leak.Scan) error { return s.Folder(dir) })
	}
	folder(inStore, o.path("/nix/store"))
	folder(inUnits, o.path("/etc/systemd/system"))
	text(inUnits, o.ask("systemctl", "show", "*", "--property=Id,Environment,ExecStart,ExecStartPre,ExecStartPost"))
	text(inArguments, arguments)
	text(inLog, o.ask("journalctl", "--no-pager", "--all", "--output=json"))
	text(inServices, o.ask("sh", "-c", "docker service inspect $(docker service ls -q); docker inspect $(docker ps -aq); docker config inspect $(docker config ls -q); docker image inspect $(docker images -q)"))
	text(inServiceLogs, o.ask("sh", "-c", "for s in $(docker service ls -q); do docker service logs --raw $s 2>&1; done; for c in $(docker ps -aq); do docker logs $c 2>&1; done"))
	folder(inLayers, filepath.Join(o.dir, "docker", "overlay2"))
	folder(inRuns, o.path("/var/lib/cc-ci"))
	return found
}

// plant lays a value in each place, and returns what takes it away.
func (o *operator) plant(value string) (remove func()) {
	o.t.Helper()
	files := []string{store + "planted", "/var/lib/cc-ci/planted"}
	for _, name := range files {
		o.write(name, value, 0o644)
	}
	for _, args := range [][]string{
		{"systemd-run", "--unit=planted", "--setenv=VALUE=" + value, "sleep", "infinity"},
		{"logger", "--tag", "planted", value},
		{"sh", "-c", "sleep 0.5 # " + value},
		{"docker", "run", "--detach", "--name=planted", "--network=none", "--env=VALUE=" + value, "cc-ci.local/tinyapp:1.0.0"},
		{"docker", "run", "--name=planted-2", "--network=none", "cc-ci.local/tinyapp:1.0.0", "tinyapp", "fetch", "http://127.0.0.1:9/" + value}, // complains of the address
		{"docker", "cp", "/var/lib/cc-ci/planted", "planted:/planted"},
	} {
		ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
		out, err := o.command(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil && !strings.Contains(string(out), value) {
			o.t.Errorf("%q: %v: %s", args, err, out)
		}
		cancel()
	}
	return func() {
		o.ask("docker", "rm", "--force", "planted", "planted-2")
		o.ask("systemctl", "stop", "planted.service")
		for _, name := range files {
			if err := os.Remove(o.path(name)); err != nil {
				o.t.Error(err)
			}
		}
	}
}

// keepsSecrets looks for the box's secrets wherever none may be (A29), and for a value
// that is laid in each of these places, which the search has to find.
func (o *operator) keepsSecrets(processes *witness) {
	o.t.Helper()
	const planted = "a-value-that-was-laid-there-0f3c9a"
	remove := o.plant(planted)
	defer remove()
	processes.stop()
	what := "the value of what was planted"
	found := o.leaks(func(s *leak.Scan) {
		o.know(s)
		s.Know("what was planted", ccci.NewSecret(planted))
	}, processes.text())
	for place, findings := range found {
		seen := false
		for _, f := range findings {
			if f.What == what {
				seen = true
				continue
			}
			o.t.Errorf("%s: %s", place, f)
		}
		if !seen {
			o.t.Errorf("%s: a value that was laid there was not found", place)
		}
	}
}
