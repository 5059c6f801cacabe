package doctor

import (
	"context"
	"strings"
	"testing"

	"github.com/docker/docker/api/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// N3: versions as daemons of distributions report them.
func TestN3_VersionsWithKnownFaults(t *testing.T) {
	const (
		older   = "CVE-2024-21626"
		escapes = "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881"
		copies  = "CVE-2026-41567, CVE-2026-41568, CVE-2026-42306"
	)
	for name, tc := range map[string]struct {
		engine, runc, commit string
		want                 string // ids of the engine's and runc's faults
	}{
		"Debian 12":                      {"20.10.24+dfsg1", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1", copies + " | " + escapes},
		"Debian 12 without its update":   {"20.10.24+dfsg1", "1.1.5+ds1", "1.1.5+ds1-1", copies + " | " + older + " " + escapes},
		"Debian 13":                      {"26.1.5+dfsg1", "1.1.15+ds1", "1.1.15+ds1-2+b4", copies + " | " + escapes},
		"Ubuntu 24.04":                   {"28.2.2-0ubuntu1~24.04.1", "1.3.3-0ubuntu1~24.04.3", "", copies + " | "},
		"Ubuntu 22.04 in 2023":           {"20.10.25-0ubuntu1~22.04.2", "1.1.7-0ubuntu1~22.04.1", "", copies + " | " + older + " " + escapes},
		"Docker CE 28":                   {"28.5.1", "1.3.0", "v1.3.0-0-g4ca628d1", copies + " | " + escapes},
		"Docker CE 28 with a later runc": {"28.5.2", "1.3.3", "v1.3.3-0-gd842d771", copies + " | "},
		"Docker CE 27 with runc 1.2":     {"27.5.1", "1.2.8", "v1.2.8-0-geeb7e602", copies + " | "},
		"one before the fix of 1.2":      {"27.5.1", "1.2.7", "", copies + " | " + escapes},
		"Docker CE 29.5.0":               {"29.5.0", "1.4.2", "", copies + " | "},
		"Docker CE 29.5.1":               {"29.5.1", "1.4.2", "", " | "},
		"Docker CE 29 before its fix":    {"29.5.1-rc.1", "1.4.0-rc.2", "", copies + " | " + escapes},
		"a candidate with the fix":       {"29.6.0-rc.1", "1.4.0-rc.3", "", " | "},
		"the release after it":           {"30.0.0", "1.4.0", "", " | "},
		"a later series":                 {"30.1.0", "1.5.0-rc.1+dev", "", " | "},
		"Fedora":                         {"29.6.1", "1.3.3-1.fc42", "", " | "},
		"Debian's candidate":             {"29.5.1+dfsg1", "1.4.0~rc.2+ds1", "1.4.0~rc.2+ds1-1", " | " + escapes},
		"with an epoch and a v":          {"5:29.5.1-1~debian.12~bookworm", "v1.3.4", "", " | "},
		"before runc 1.0":                {"18.09.1-ce", "1.0.0-rc93", "", copies + " | " + older + " " + escapes},
		"two numbers":                    {"29.6", "1.5", "", " | "},
	} {
		answer := types.Version{Version: tc.engine, Components: []types.ComponentVersion{
			{Name: "Engine", Version: tc.engine}, {Name: "containerd", Version: "1.6.20~ds1"},
			{Name: "runc", Version: tc.runc, Details: map[string]string{"GitCommit": tc.commit}}, {Name: "docker-init", Version: "0.19.0"},
		}}
		engine, runc, _ := strings.Cut(tc.want, " | ")
		for i, d := range Versions(answer, "runc") {
			check, version, want := "version of Docker Engine", tc.engine, engine
			if i == 1 {
				check, version, want = "version of runc", tc.runc, runc
			}
			bad := want != ""
			if d.Check != check || d.Warning != bad || (d.Code == ccci.CodeInfra) != bad || (d.Hint != "") != bad || !strings.Contains(d.Message, version) {
				t.Errorf("%s: %+v", name, d)
			}
			for _, ids := range []string{older, escapes, copies} {
				if strings.Contains(d.Message, "("+ids+")") != strings.Contains(want, ids) {
					t.Errorf("%s: want %q, got %q", name, want, d.Message)
				}
			}
		}
	}
}

// What cannot be compared is no all-clear, and no problem.
func TestN3_VersionsThatSayNothing(t *testing.T) {
	look := func(answer types.Version, runtime string) string {
		return said(t, func(context.Context) []ccci.Diagnosis { return Versions(answer, runtime) })
	}
	version := func(engine, name, runtime string) types.Version {
		return types.Version{Version: engine, Components: []types.ComponentVersion{{Name: name, Version: runtime}}}
	}
	expect(t, "a build of somebody's own", look(version("library-import", "runc", "unknown"), "runc"),
		`warning  version of Docker Engine: Docker says "library-import" of the version of Docker Engine`, "hint: see docker version, and make sure that it has the fixes of CVE-2026-41567",
		`warning  version of runc: Docker says "unknown"`, "CVE-2024-21626, CVE-2025-31133")
	expect(t, "no runtime", look(types.Version{Version: "29.5.1"}, "runc"), "ok       version of Docker Engine: Docker Engine 29.5.1 has the fixes", `warning  version of runc: Docker says ""`)
	expect(t, "Docker's alias", look(version("29.5.1", "io.containerd.runc.v2", "1.3.3"), "io.containerd.runc.v2"), "ok       version of runc: runc 1.3.3 has the fixes")
	expect(t, "another runtime", look(version("29.5.1", "crun", "1.21"), "crun"), "warning  version of runc: Docker starts containers with crun 1.21, which cc-ci does not check")
	expect(t, "the way out", look(version("28.5.2", "runc", "1.2.0"), "runc"), "it is fixed in 29.5.1", "the package docker-ce of Docker's repository", "apt changelog docker.io",
		"warning  version of runc: unless the distribution has fixed it under an older version, runc 1.2.0 has a known fault: an app can ", "it is fixed in 1.2.8, 1.3.3, 1.4.0-rc.3", "the package containerd.io", "apt changelog runc")
}
