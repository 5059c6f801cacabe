package swarm

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const (
	fuzzDomain = "demo-0a1b2c.ci.example.org"
	fuzzStack  = "demo-0a1b2c_ci_example_org"
	fuzzRun    = "260102-030405-abcdef"
)

// admitAndConvert takes two files the way of a run, up to what the daemon would be told.
func admitAndConvert(t testing.TB, compose, sample []byte) *model {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"compose.yml": compose, ".env.sample": sample, "c.tmpl": []byte("x\n"), "c": []byte("x\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := recipe.Open(dir, "")
	if err != nil {
		return nil
	}
	stack, err := admission.Admit(tree, recipe.RenderOptions{Domain: fuzzDomain, Labels: map[string]string{LabelRun: fuzzRun}}, admission.DefaultLimits(),
		admission.Policy{RunID: fuzzRun, Domains: []string{fuzzDomain}, Network: "proxy", Now: time.Unix(1764500000, 0)})
	if err != nil {
		return nil
	}
	m, err := convert(stack, nil, fuzzRun, false, "proxy", Ceilings{})
	if err != nil {
		return nil // nothing is created
	}
	return m
}

// FuzzAdmitted holds admission against what the daemon is told: a specification that
// is made of an admitted recipe has nothing in it that leads out of the run. The second
// opinion looks at the specification alone.
func FuzzAdmitted(f *testing.F) {
	for _, pattern := range []string{"hostile/*.txtar", "harmless/*.txtar"} {
		archives, err := filepath.Glob(filepath.Join("../../../harness/admission/testdata", pattern))
		if err != nil || len(archives) < 30 {
			f.Fatalf("%d seeds under %s: %v", len(archives), pattern, err)
		}
		for _, archive := range archives {
			text, err := txtar.ParseFile(archive)
			if err != nil {
				f.Fatal(err)
			}
			sample := []byte("TYPE=demo\nDOMAIN=demo.example.com\n")
			var compose []byte
			for _, file := range text.Files {
				switch file.Name {
				case ".env.sample":
					sample = file.Data
				case "compose.yml":
					compose = file.Data
				}
			}
			if len(compose)+len(sample) < 8<<10 {
				f.Add(compose, sample)
			}
		}
	}
	f.Fuzz(func(t *testing.T, compose, sample []byte) {
		m := admitAndConvert(t, compose, sample)
		if m == nil {
			return
		}
		for _, s := range m.services {
			if wrong := leads(s); wrong != "" {
				t.Fatalf("admitted, and service %s %s:\n%s", s.key, wrong, compose)
			}
		}
		for name, n := range m.networks {
			if name != RunNetwork(fuzzRun) && !strings.HasPrefix(name, fuzzStack+"_") || n.Driver != "overlay" || n.IPAM != nil {
				t.Fatalf("admitted, with the network %s %+v:\n%s", name, n, compose)
			}
		}
		for _, name := range slices.Concat(m.external.secrets, m.external.configs, m.external.networks) {
			if !strings.HasPrefix(name, fuzzStack+"_") && name != RunNetwork(fuzzRun) {
				t.Fatalf("admitted, with %s of others:\n%s", name, compose)
			}
		}
	})
}

var (
	unitOf      = regexp.MustCompile(`(?i)^(tasks\.)?cc-ci([._-]|$)`)
	ownService  = regexp.MustCompile(`(?i)^https?://(` + fuzzStack + `_[a-z0-9_-]+|` + regexp.QuoteMeta(fuzzDomain) + `)(:[0-9]*)?([/?#].*)?$`)
	callingAway = regexp.MustCompile(`(?i)^traefik\..*(redis|plugin|usersfile|serverstransport|\.url$|\.address$|tls\.ca)`)
	givenCaps   = []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
		"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
)

// leads says what of a specification leads out of the run, or "".
func leads(s service) string {
	task := s.spec.TaskTemplate
	c := task.ContainerSpec
	switch {
	case s.spec.Name != fuzzStack+"_"+s.key:
		return "is called " + s.spec.Name
	case s.spec.Mode.Replicated == nil && s.spec.Mode.Global == nil:
		return "is a job"
	case len(s.spec.EndpointSpec.Ports) > 0:
		return "publishes a port"
	case c.OomScoreAdj < 0 || c.Isolation != "" && c.Isolation != "default":
		return "is confined differently"
	case unitOf.MatchString(s.key) || unitOf.MatchString(c.Hostname):
		return "has a name of cc-ci's"
	}
	for _, capability := range c.CapabilityAdd {
		if !slices.Contains(givenCaps, capability) {
			return "has the capability " + capability
		}
	}
	for _, m := range c.Mounts {
		if m.Type != mount.TypeVolume && m.Type != mount.TypeTmpfs || m.BindOptions != nil || m.Source != "" && !strings.HasPrefix(m.Source, fuzzStack+"_") || strings.Contains(m.Source+m.Target, "{{") {
			return "mounts " + string(m.Type) + " " + m.Source + " at " + m.Target
		}
		if v := m.VolumeOptions; v != nil && v.DriverConfig != nil && (v.DriverConfig.Name != "local" && v.DriverConfig.Name != "" || len(v.DriverConfig.Options) > 0) {
			return "has a volume of the driver " + v.DriverConfig.Name
		}
	}
	for _, h := range c.Hosts {
		address, _, _ := strings.Cut(h, " ")
		if a, err := netip.ParseAddr(address); err != nil || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() {
			return "knows the host " + h
		}
	}
	for _, n := range task.Networks {
		if n.Target != RunNetwork(fuzzRun) && !strings.HasPrefix(n.Target, fuzzStack+"_") {
			return "joins the network " + n.Target
		}
		if slices.ContainsFunc(n.Aliases, unitOf.MatchString) {
			return "answers to a name of cc-ci's"
		}
	}
	for _, r := range c.Secrets {
		if !strings.HasPrefix(r.SecretName, fuzzStack+"_") {
			return "reads the secret " + r.SecretName
		}
	}
	for _, r := range c.Configs {
		if !strings.HasPrefix(r.ConfigName, fuzzStack+"_") {
			return "reads the config " + r.ConfigName
		}
	}
	for _, env := range c.Env {
		if strings.Contains(env, "{{") && regexp.MustCompile(`(define|template|range|block|printf)`).MatchString(env) {
			return "has the template " + env
		}
	}
	return labelsLead(s)
}

// labelsLead says which label leads out of the run, or "".
func labelsLead(s service) string {
	ours := []string{LabelRun, LabelSpec}
	for _, labels := range []map[string]string{s.spec.Labels, s.spec.TaskTemplate.ContainerSpec.Labels} {
		for key, value := range labels {
			low := strings.ToLower(key)
			switch {
			case strings.HasPrefix(low, "cc-ci.") && !slices.Contains(ours, key), key == LabelRun && value != fuzzRun:
				return "has the label " + key + "=" + value
			case callingAway.MatchString(low) && !strings.Contains(low, "forwardauth.address"):
				return "has the label " + key + "=" + value
			case strings.HasSuffix(low, "forwardauth.address") && !ownService.MatchString(value):
				return "calls " + value
			case strings.HasSuffix(low, ".rule") && strings.HasPrefix(low, "traefik.") && !strings.Contains(strings.ToLower(value), "demo-0a1b2c"):
				return "serves " + value
			}
		}
	}
	return ""
}
