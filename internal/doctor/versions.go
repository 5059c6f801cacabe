package doctor

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// knownFault is a fault of a component by which an app can act on the host.
type knownFault struct {
	component string
	ids       []string // CVE-…
	fixed     []string // the first version with the fix of each series that has one, oldest first; later series have it
	// backports are beginnings of what distributions call packages that have the fix under an older version.
	backports []string
	what      string
}

// knownFaults are those that matter to cc-ci, from the advisories of runc (GHSA-xr7r-f8xq-vfvv, GHSA-9493-h29p-rfm2,
// GHSA-qw9x-cqr3-wc7r, GHSA-cgrx-mc8f-2prm) and Moby (GHSA-vp62-88p7-qqf5, GHSA-x86f-5xw2-fm2r, GHSA-rg2x-37c3-w2rh), and the changelog of
// Debian's package runc.
var knownFaults = []knownFault{
	{component: "runc", ids: []string{"CVE-2024-21626"}, fixed: []string{"1.1.12", "1.2.0-rc.1"}, backports: []string{"1.1.5+ds1-1+deb12u"},
		what: "a container can be made to start in a folder of the host"},
	{component: "runc", ids: []string{"CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"}, fixed: []string{"1.2.8", "1.3.3", "1.4.0-rc.3"},
		what: "an app can write to files of the kernel, and so leave its container"},
	{component: "Docker Engine", ids: []string{"CVE-2026-41567", "CVE-2026-41568", "CVE-2026-42306"}, fixed: []string{"29.5.1"},
		what: "an app can act on the host while somebody copies files into its container with docker cp, which cc-ci does not do"},
}

// Versions warns of versions of Docker Engine and of its default runtime that have a known fault. It says no more
// than a warning: the version does not show what a distribution has mended under an older one. It is pure.
func Versions(answer types.Version, defaultRuntime string) []ccci.Diagnosis {
	runtime := types.ComponentVersion{Name: defaultRuntime}
	for _, c := range answer.Components {
		if c.Name == defaultRuntime {
			runtime = c
		}
	}
	if runtime.Name == "" || strings.HasPrefix(runtime.Name, "io.containerd.runc.") { // an alias of Docker's
		runtime.Name = "runc"
	}
	const name = "version of runc"
	engine := judgeVersion("version of Docker Engine", types.ComponentVersion{Name: "Docker Engine", Version: answer.Version})
	if runtime.Name == "runc" {
		return []ccci.Diagnosis{engine, judgeVersion(name, runtime)}
	}
	return []ccci.Diagnosis{engine, {Check: name, Code: ccci.CodeInfra, Warning: true,
		Message: fmt.Sprintf("Docker starts containers with %s, which cc-ci does not check for known faults", strings.TrimSpace(runtime.Name+" "+runtime.Version)),
		Hint:    "keep it up to date, or set default-runtime to runc in /etc/docker/daemon.json"}}
}

// ofPackages are where the components come from: a package of Docker's, and one of Debian and Ubuntu.
var ofPackages = map[string][2]string{"Docker Engine": {"docker-ce", "docker.io"}, "runc": {"containerd.io", "runc"}}

// judgeVersion says which known faults a version of a component has.
func judgeVersion(check string, c types.ComponentVersion) ccci.Diagnosis {
	d := ccci.Diagnosis{Check: check, Code: ccci.CodeInfra, Warning: true}
	faults := slices.DeleteFunc(slices.Clone(knownFaults), func(f knownFault) bool { return f.component != c.Name })
	packages := ofPackages[c.Name]
	have, ok := parseRelease(c.Version)
	if !ok {
		d.Message = fmt.Sprintf("Docker says %q of the version of %s, so it is not checked for known faults", c.Version, c.Name)
		d.Hint = "see docker version, and make sure that it has the fixes of " + strings.Join(idsOf(faults), ", ")
		return d
	}
	called := c.Name + " " + c.Version
	revision := c.Details["GitCommit"]
	if strings.HasPrefix(revision, c.Version+"-") { // of a distribution's package
		called += " (" + revision + ")"
	}
	faults = slices.DeleteFunc(faults, func(f knownFault) bool { return f.fixedIn(have, cmp.Or(revision, c.Version)) })
	if len(faults) == 0 {
		return Well(check, "%s has the fixes of the faults that cc-ci knows", called)
	}
	var whats []string
	for _, f := range faults {
		whats = append(whats, fmt.Sprintf("%s (%s)", f.what, strings.Join(f.ids, ", ")))
	}
	fixed := faults[len(faults)-1].fixed
	d.Message = fmt.Sprintf("unless the distribution has fixed it under an older version, %s has a known fault: %s; it is fixed in %s", called, strings.Join(whats, "; "), strings.Join(fixed, ", "))
	d.Hint = fmt.Sprintf("update it: on NixOS the flake's nixpkgs, elsewhere the package %s of Docker's repository (docs.docker.com/engine/install), or that of the distribution where its changelog names the fix (Debian, Ubuntu: apt changelog %s)",
		packages[0], packages[1])
	return d
}

func idsOf(faults []knownFault) (ids []string) {
	for _, f := range faults {
		ids = append(ids, f.ids...)
	}
	return ids
}

// fixedIn reports whether a version, or a package with this revision, has the fix.
func (f knownFault) fixedIn(have release, revision string) bool {
	if slices.ContainsFunc(f.backports, func(p string) bool { return strings.HasPrefix(revision, p) }) {
		return true
	}
	var last release
	for _, text := range f.fixed {
		last, _ = parseRelease(text)
		if have.major == last.major && have.minor == last.minor {
			return have.compare(last) >= 0
		}
	}
	return have.compare(last) > 0
}

// release is a version of Docker Engine or runc.
type release struct{ major, minor, patch, candidate int }

// released is the candidate of what is none; earlier ones than release candidates have 0.
const released = 1 << 30

// releaseForm is a version as upstream writes it, as 28.5.2 or 1.4.0-rc.3, and what a distribution adds to it: Debian has 1.1.5+ds1
// and 1.3.0~rc.2+ds1, Ubuntu 1.3.3-0ubuntu1~24.04.3, Fedora 1.3.3-1.fc42. An epoch may precede it.
var releaseForm = regexp.MustCompile(`^(?:\d{1,3}:)?v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-~]?(rc|beta|alpha|dev)[.-]?(\d{0,6}))?([+~-].*)?$`)

func parseRelease(text string) (release, bool) {
	m := releaseForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return release{}, false
	}
	n := func(s string) int { i, _ := strconv.Atoi(s); return i }
	r := release{major: n(m[1]), minor: n(m[2]), patch: n(m[3]), candidate: released}
	switch m[4] {
	case "rc":
		r.candidate = n(m[5])
	case "alpha", "beta", "dev":
		r.candidate = 0
	}
	return r, true
}

func (r release) compare(o release) int {
	return cmp.Or(cmp.Compare(r.major, o.major), cmp.Compare(r.minor, o.minor), cmp.Compare(r.patch, o.patch), cmp.Compare(r.candidate, o.candidate))
}
