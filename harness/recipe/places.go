package recipe

import (
	"cmp"
	"path"
	"strings"

	"github.com/docker/cli/cli/compose/types"
)

// LongestTarget is how long the path of a place in a container may be, in bytes. Linux takes no longer one.
const LongestTarget = 4095

// GuardedPath reports whether nothing of a recipe may lie at a path of a container: at its root, or where the
// kernel shows itself. /dev/shm is memory. The path is taken as it is, without following links.
func GuardedPath(name string) bool {
	clean := strings.ToLower(path.Clean("/" + name))
	return clean == "/" || Within("/proc", clean) || Within("/sys", clean) || Within("/dev", clean) && !Within("/dev/shm", clean)
}

// Within reports whether a clean, absolute path is a folder, or in it.
func Within(folder, name string) bool {
	return name == folder || folder == "/" || strings.HasPrefix(name, folder+"/")
}

// Mount is what lies at a place in the containers of a service.
type Mount struct {
	Service string
	What    string // as in "volume data", unique in the service with Target
	Target  string // absolute and clean
	Volume  string // on the daemon; "" where no other container has what lies there
	Subpath string // folder of the volume, absolute and clean
	Write   bool   // the service can change it
	File    bool   // it is one file: a config or a secret
	Copied  bool   // what the image has there is put into a new volume
}

// MountsOf lists what a service of a stack mounts, in the order of the model.
func MountsOf(stack *Stack, s types.ServiceConfig) []Mount {
	var out []Mount
	add := func(m Mount) {
		m.Service, m.Target = s.Name, path.Clean("/"+m.Target)
		out = append(out, m)
	}
	for _, v := range s.Volumes {
		m := Mount{What: "volume " + v.Source, Target: v.Target, Subpath: "/", Write: !v.ReadOnly}
		switch {
		case v.Type == "tmpfs":
			m.What = "tmpfs"
		case v.Type == "bind":
			m.What = "bind mount"
		case v.Source == "":
			m.What = "volume without a name"
		default:
			m.Volume = cmp.Or(stack.Config.Volumes[v.Source].Name, v.Source)
			m.Copied = v.Volume == nil || !v.Volume.NoCopy && v.Volume.Subpath == ""
			if v.Volume != nil {
				m.Subpath = path.Clean("/" + v.Volume.Subpath)
			}
		}
		add(m)
	}
	for _, ref := range s.Configs {
		add(Mount{What: "config " + ref.Source, Target: cmp.Or(ref.Target, ref.Source), File: true})
	}
	for _, ref := range s.Secrets {
		target := cmp.Or(ref.Target, ref.Source)
		if !path.IsAbs(target) {
			target = "/run/secrets/" + target
		}
		add(Mount{What: "secret " + ref.Source, Target: target, File: true})
	}
	return out
}

// Exposure is a mount whose place an app of the stack can move: it lies in a volume, and a service
// that may write there can put a link on the way, which the next container of the mount's service is given.
type Exposure struct {
	Mount  Mount
	Volume Mount // of the same service, in which it lies
	Writer Mount // of the volume, with nothing mounted at Way
	Way    string
}

// mostExposureSteps bounds the comparisons of one call of [Exposed]. What is beyond counts as exposed.
const mostExposureSteps = 1 << 20

// Exposed finds the mounts of a stack whose place an app can move, at most one exposure for each.
//
// A mount point cannot be renamed, removed or replaced by a process that sees it. So a mount within a volume is
// safe where each service that writes the volume has something mounted at the first folder of the way, as
// apps with a volume for themselves and one for their uploads have. A file can do harm only while the way is
// changed as a container starts, so that with a file other services count alone.
func Exposed(mounts []Mount) []Exposure {
	type spot struct{ service, target string }
	at := map[spot][]Mount{} // links of an image lead several to one place
	writers := map[string][]Mount{}
	for _, m := range mounts {
		at[spot{m.Service, m.Target}] = append(at[spot{m.Service, m.Target}], m)
		if m.Volume != "" && m.Write {
			writers[m.Volume] = append(writers[m.Volume], m)
		}
	}
	enclosing := func(m Mount) []Mount {
		for p := m.Target; p != "/" && len(m.Target) <= LongestTarget; {
			p = path.Dir(p)
			if all := at[spot{m.Service, p}]; all != nil {
				return all
			}
		}
		return nil
	}
	steps := 0
	exposed := func(m, around Mount) (Exposure, bool) {
		place := path.Join("/", around.Subpath, below(around.Target, m.Target))
		for _, w := range writers[around.Volume] {
			root := path.Clean("/" + w.Subpath)
			if steps++; m.File && w.Service == m.Service || place == root || !Within(root, place) {
				continue // of the way it sees nothing, or what lies below it
			}
			first, _, _ := strings.Cut(below(root, place), "/")
			if way := path.Join(w.Target, first); at[spot{w.Service, way}] == nil || steps > mostExposureSteps {
				return Exposure{Mount: m, Volume: around, Writer: w, Way: way}, true
			}
		}
		return Exposure{}, false
	}
	var out []Exposure
	for _, m := range mounts {
		for _, around := range enclosing(m) {
			e, found := exposed(m, around)
			if steps++; steps > 2*mostExposureSteps {
				e, found = Exposure{Mount: m, Volume: around, Writer: around, Way: m.Target}, true
			}
			if found {
				out = append(out, e)
				break
			}
		}
	}
	return out
}

// below is a path relative to a folder that it is in.
func below(folder, name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, folder), "/")
}
