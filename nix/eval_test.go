package nix

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// host is what eval.nix renders of one host.
type host struct {
	Failed  []string          `json:"failed"` // assertions
	Config  string            `json:"config"` // cc-ci.yml
	Units   map[string]string `json:"units"`
	Machine json.RawMessage   `json:"machine"`
}

// rendered is what eval.nix renders.
type rendered struct {
	Hosts   map[string]host `json:"hosts"`
	Options []option        `json:"options"`
	Flake   json.RawMessage `json:"flake"` // names of what it offers
}

type option struct {
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	Description string  `json:"description"`
	Default     *string `json:"default"`
	Example     *string `json:"example"`
}

func evaluates() bool {
	return os.Getenv("CC_CI_NIXPKGS") != "" && os.Getenv("CC_CI_SOPS_NIX") != ""
}

// evaluate renders the hosts, with the mistake in the file change if one is named, and
// returns what nix says where it refuses. It skips the test without nixpkgs.
func evaluate(t *testing.T, change string, more ...string) (rendered, string) {
	t.Helper()
	return evaluateIn(t, ".", change, more...)
}

// evaluateIn does so in another copy of this folder.
func evaluateIn(t *testing.T, dir, change string, more ...string) (rendered, string) {
	t.Helper()
	if !evaluates() {
		t.Skip("no nixpkgs to evaluate with: name checkouts by CC_CI_NIXPKGS and CC_CI_SOPS_NIX")
	}
	nixpkgs, sops := os.Getenv("CC_CI_NIXPKGS"), os.Getenv("CC_CI_SOPS_NIX")
	args := []string{"--eval", "--strict", "--json", "eval.nix", "--argstr", "nixpkgs", nixpkgs, "--argstr", "sops-nix", sops}
	args = append(args, more...)
	if change != "" {
		path, err := filepath.Abs(change)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "--argstr", "change", path)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program(t, "nix-instantiate"), args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, dir
	if err := cmd.Run(); err != nil {
		return rendered{}, stderr.String()
	}
	var r rendered
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r, ""
}

// golden compares text with a file of testdata, or writes it.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(read(t, path), text); diff != "" {
		t.Errorf("%s (-kept +rendered): render it again, see the package's comment\n%s", path, diff)
	}
}

func indented(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(text), "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

// digest is that of all that the kept files are made of. What is in vendorHash
// renders nothing and has a test of its own.
func digest(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range sources(t) {
		fmt.Fprintf(sum, "%s\n%s\n", name, hashLine.ReplaceAllString(read(t, filepath.Join(root, name)), "vendorHash"))
	}
	return fmt.Sprintf("%x\n", sum.Sum(nil))
}

// What is kept is what the modules render. It is made anew with -update.
func TestRendered(t *testing.T) {
	r, refused := evaluate(t, "")
	if refused != "" {
		t.Fatal(refused)
	}
	if *update {
		for name := range r.Hosts {
			if err := os.RemoveAll(filepath.Join("testdata", name)); err != nil {
				t.Fatal(err)
			}
		}
		golden(t, "digest", digest(t))
	}
	if diff := cmp.Diff(r.Hosts["cc-ci"], r.Hosts["cc-ci-hetzner"]); diff != "" { // A2
		t.Errorf("cc-ci-hetzner is another host than cc-ci:\n%s", diff)
	}
	delete(r.Hosts, "cc-ci-hetzner")
	for name, h := range r.Hosts {
		if len(h.Failed) > 0 {
			t.Errorf("%s: %q", name, h.Failed)
		}
		golden(t, name+"/cc-ci.json", indented(t, h.Config))
		golden(t, name+"/machine.json", indented(t, string(h.Machine)))
		for unit, text := range h.Units {
			golden(t, name+"/units/"+unit, text)
		}
		kept, err := filepath.Glob("testdata/" + name + "/units/*")
		if err != nil || len(kept) != len(h.Units) {
			t.Errorf("%s has %d units, and testdata keeps %d (%v)", name, len(h.Units), len(kept), err)
		}
	}
	golden(t, "flake.json", indented(t, string(r.Flake)))
	options, err := json.MarshalIndent(r.Options, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "options.json", string(options)+"\n")
}

// What Docker's settings name as mirrors dockerd may ask, beside what the operator lists.
func TestN3_MirrorsAreAllowed(t *testing.T) {
	change := filepath.Join(t.TempDir(), "change.nix")
	text := `{ services.cc-ci = { docker.registryMirrors = [ "https://mirror.example.org" ]; settings.reconcile.firewall.docker_allow = [ "10.1.2.3:5000" ]; }; }`
	if err := os.WriteFile(change, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r, refused := evaluate(t, change)
	if refused != "" {
		t.Fatal(refused)
	}
	c, err := config.Parse("cc-ci.yml", []byte(r.Hosts["cc-ci"].Config))
	if err != nil {
		t.Fatal(err)
	}
	allowed := c.Reconcile.Firewall.DockerAllow
	slices.Sort(allowed)
	if !slices.Equal(allowed, []string{"10.1.2.3:5000", "https://mirror.example.org"}) {
		t.Errorf("dockerd may ask %q", allowed)
	}
}

// Where the private repository is checked out, hosts take its secrets.
func TestA3_A29_PrivateSecrets(t *testing.T) {
	dir := t.TempDir()
	for _, name := range append(sources(t), "secrets/secrets.yaml") {
		text := "here: x\n"
		if filepath.Ext(name) == ".nix" {
			text = read(t, filepath.Join(root, name))
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, refused := evaluateIn(t, filepath.Join(dir, "nix"), "")
	if refused != "" {
		t.Fatal(refused)
	}
	for name, h := range r.Hosts {
		if got := machine(t, h).SecretsFile; got != "/secrets/secrets.yaml" {
			t.Errorf("%s takes its secrets from %s", name, got)
		}
	}
}

// With a whole nixpkgs the hosts are evaluated as NixOS does, with all of its options.
func TestWholeNixpkgs(t *testing.T) {
	if _, err := os.Stat(filepath.Join(os.Getenv("CC_CI_NIXPKGS"), "nixos/lib/eval-config.nix")); err != nil {
		t.Skip("CC_CI_NIXPKGS names no whole nixpkgs")
	}
	r, refused := evaluate(t, "", "--arg", "full", "true")
	if refused != "" {
		t.Fatal(refused)
	}
	for name, h := range r.Hosts {
		if len(h.Failed) > 0 {
			t.Errorf("%s: %q", name, h.Failed)
		}
		for unit := range hosts(t)["cc-ci"].Units {
			if h.Units[unit] == "" {
				t.Errorf("%s has no unit %s", name, unit)
			}
		}
	}
}

// A .nix file that changed without its rendering is noticed on machines that cannot
// render it.
func TestRenderedIsOfThisSource(t *testing.T) {
	if *update {
		t.Skip("it is just being written")
	}
	if kept := read(t, "testdata/digest"); kept != digest(t) {
		t.Error("a .nix file has changed since testdata was rendered: render it again, see the package's comment")
	}
}

// hosts returns what is kept of every host.
func hosts(t *testing.T) map[string]host {
	t.Helper()
	all := map[string]host{}
	for _, name := range []string{"cc-ci", "cc-ci-incus"} {
		dir := filepath.Join("testdata", name)
		h := host{Config: read(t, dir+"/cc-ci.json"), Machine: []byte(read(t, dir+"/machine.json")), Units: map[string]string{}}
		files, err := os.ReadDir(dir + "/units")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			h.Units[f.Name()] = read(t, dir+"/units/"+f.Name())
		}
		all[name] = h
	}
	return all
}

// The program accepts each host's configuration, as it does during the build.
func TestConfigOfHosts(t *testing.T) {
	for name, h := range hosts(t) {
		c, err := config.Parse("/etc/cc-ci/cc-ci.yml", []byte(h.Config))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// Secrets start at the folder that has the file, be it a unit's credentials.
		if got := c.AllForges()[0].TokenFile; got != "/etc/cc-ci/gitea_token" {
			t.Errorf("%s: the token is looked for at %s", name, got)
		}
	}
}

// docs/nix-options.md is made of the options themselves.
func TestOptionsPage(t *testing.T) {
	var all []option
	if err := json.Unmarshal([]byte(read(t, "testdata/options.json")), &all); err != nil {
		t.Fatal(err)
	}
	page, path := optionsPage(all), "../docs/nix-options.md"
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, path), page); diff != "" {
		t.Errorf("the page is not of these options (-page +options): go test ./nix -run OptionsPage -update\n%s", diff)
	}
}

func optionsPage(all []option) string {
	const prefix = "services.cc-ci."
	groups := map[string][]option{}
	for _, o := range all {
		o.Name = strings.TrimPrefix(o.Name, prefix)
		group, _, nested := strings.Cut(o.Name, ".")
		if !nested && !slices.ContainsFunc(all, func(other option) bool { return strings.HasPrefix(other.Name, prefix+o.Name+".") }) {
			group = ""
		}
		groups[group] = append(groups[group], o)
	}
	var b strings.Builder
	b.WriteString("# Options of the NixOS modules\n\nThis page is made of the modules by `go test ./nix -update`; do not edit it by hand. All names start with `services.cc-ci.`;\n" +
		"what stands under `settings` becomes cc-ci.yml, whose other keys ([settings.md](settings.md)) may be set there too.\n")
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		title := group
		if title == "" {
			title = "The machine"
		}
		fmt.Fprintf(&b, "\n## %s\n\n| Option | Type | Default | Meaning |\n|---|---|---|---|\n", title)
		for _, o := range groups[group] {
			byDefault := ""
			if o.Default != nil && *o.Default != "`null`" {
				byDefault = *o.Default
			}
			meaning := o.Description
			if o.Example != nil {
				meaning += " Example: " + *o.Example
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, cell(o.Type), cell(byDefault), cell(meaning))
		}
	}
	return b.String()
}

func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

// Each file of testdata/refused is a host with one mistake. Its first line says with what
// words it is refused: by a type or an assertion, or by the program, which the build asks.
// In the latter case the configuration is kept beside it, and the program is asked here.
func TestRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/refused/*.nix")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d mistakes, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".nix"), func(t *testing.T) {
			first, _, _ := strings.Cut(read(t, file), "\n")
			by, want, ok := strings.Cut(strings.TrimPrefix(first, "# refused by "), ": ")
			if !ok || by != "evaluation" && by != "the program" {
				t.Fatalf("the first line says not how it is refused: %s", first)
			}
			kept := strings.TrimSuffix(file, ".nix") + ".json"
			if by == "the program" && !*update {
				programRefuses(t, read(t, kept), want)
				if !evaluates() {
					return
				}
			}
			r, refused := evaluate(t, file)
			h := r.Hosts["cc-ci"]
			refused = strings.Join(append(h.Failed, refused), "\n")
			switch {
			case by == "evaluation" && !strings.Contains(plain(refused), want):
				t.Errorf("refused with %q, want %q", refused, want)
			case by == "evaluation":
			case strings.TrimSpace(refused) != "":
				t.Errorf("the evaluation refuses it already: %s", refused)
			default:
				golden(t, strings.TrimPrefix(kept, "testdata/"), indented(t, h.Config))
				programRefuses(t, h.Config, want)
			}
		})
	}
}

// A gap in the fences names one that there is, and why it is needed.
func TestFencesRefuse(t *testing.T) {
	if !evaluates() {
		t.Skip("no nixpkgs to evaluate with: name checkouts by CC_CI_NIXPKGS and CC_CI_SOPS_NIX")
	}
	nix := program(t, "nix-instantiate")
	for gap, want := range map[string]string{
		`PrivateTemp = { to = false; because = "x"; };`:       "nix/hardening.nix has no fence PrivateTemp",
		`PrivateTmp = { to = false; because = " "; };`:        "the gap in PrivateTmp needs a reason",
		`PrivateTmp = { to = false; };`:                       "because",
		`PrivateTmp = { to = false; because = "a reason"; };`: "",
	} {
		hardened := "(import ./hardening.nix { lib = import " + os.Getenv("CC_CI_NIXPKGS") + "/lib; }) { " + gap + " }"
		out, err := exec.Command(nix, "--eval", "--strict", "--expr", hardened).CombinedOutput()
		if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("%s gives %v and %s, want %q", gap, err, out, want)
		}
	}
}

func programRefuses(t *testing.T, text, want string) {
	t.Helper()
	_, err := config.Parse("cc-ci.yml", []byte(text))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the program says %v, want %q", err, want)
	}
}

// plain is text as nix's newer versions quote it.
func plain(text string) string { return strings.ReplaceAll(text, "`", "'") }

// The hash in flake.lock is that of the sops-nix which the tests evaluate with.
func TestLockedSopsNix(t *testing.T) {
	dir := os.Getenv("CC_CI_SOPS_NIX")
	if dir == "" {
		t.Skip("no sops-nix: name a checkout by CC_CI_SOPS_NIX")
	}
	got, err := narHash(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read(t, "../flake.lock"), `"narHash": "`+got+`"`) {
		t.Errorf("CC_CI_SOPS_NIX has the hash %s, which flake.lock has not: take the locked revision, without .git", got)
	}
}
