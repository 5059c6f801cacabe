package swarm

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/image"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// runc looks for the place of a mount in the container's root and follows the links there. Admission judges the
// places that a recipe states. What they are in an image, and what the image asks for itself, is judged here by
// the same rules, before the image runs.

// entry is what an image has at a path of which no folder is a link.
type entry struct {
	missing bool
	folder  bool
	link    string // as it stands in the image; "" for none
}

// lookAt says what an image has at a path of which no folder is a link.
type lookAt func(img image.InspectResponse, name string) (entry, error)

// trace is where a path leads in an image.
type trace struct {
	from  string
	links []link // on the way, in their order
	end   string // absolute, without links
}

type link struct{ from, to string } // absolute; to may lead through further links

// String says where a path leads, and by which links.
func (t trace) String() string {
	if len(t.links) == 0 {
		return t.from
	}
	var links []string
	for _, l := range t.links {
		links = append(links, fmt.Sprintf("%s is a link to %s", l.from, l.to))
	}
	return clip(fmt.Sprintf("%s, where %s in its image has %s", t.end, t.from, strings.Join(links, " and ")), 800)
}

const (
	mostFolders = 64   // on the way to one place
	mostLinks   = 40   // on the way to one place, as in Linux
	mostLooks   = 2000 // into one image, each a request
)

// follow finds out where a path leads in an image, within its root.
func follow(look func(name string) (entry, error), name string) (trace, error) {
	t := trace{from: path.Clean("/" + name), end: "/"}
	rest := folders(t.from)
	for len(rest) > 0 {
		if len(rest) > mostFolders || len(t.links) > mostLinks {
			return t, ccci.Errorf(ccci.CodeRecipe, "%s leads through more than %d folders or %d links", clip(t.from, 200), mostFolders, mostLinks).
				WithHint("is there a circle of links in the image?")
		}
		here := path.Join(t.end, rest[0]) // ".." of / is /
		if rest[0] == ".." {
			t.end, rest = here, rest[1:]
			continue
		}
		at, err := look(here)
		switch {
		case err != nil:
			return t, err
		case at.link != "":
			if path.IsAbs(at.link) {
				t.end = "/"
			}
			t.links = append(t.links, link{here, path.Join(t.end, at.link)})
			rest = append(folders(at.link), rest[1:]...)
		case at.missing || !at.folder: // nothing is below
			t.end = path.Join(append([]string{here}, rest[1:]...)...)
			return t, nil
		default:
			t.end, rest = here, rest[1:]
		}
	}
	return t, nil
}

// folders are the names that a path consists of, also those that lead up.
func folders(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." })
}

// ofImage is what an image asks for: volumes, absolute and clean, and the folder in which processes start.
func ofImage(img image.InspectResponse) (volumes []string, workingDir string) {
	if img.Config == nil {
		return nil, ""
	}
	for v := range img.Config.Volumes {
		volumes = append(volumes, path.Clean("/"+v))
	}
	slices.Sort(volumes)
	return slices.Compact(volumes), img.Config.WorkingDir
}

// put is something of a service with where it leads in the service's image. The target of the mount is that.
type put struct {
	recipe.Mount
	trace
	image image.InspectResponse
}

// judgePlaces judges where the mounts of a stack, and the folders in which its processes start, come to lie.
func judgePlaces(stack *recipe.Stack, imageOf func(types.ServiceConfig) image.InspectResponse, look lookAt) error {
	var stated []recipe.Mount
	var all []put
	for _, s := range stack.Config.Services {
		own := recipe.MountsOf(stack, s)
		stated = append(stated, own...)
		puts, err := putsOf(s, own, imageOf(s), look)
		if err != nil {
			return err
		}
		all = append(all, puts...)
	}
	if err := judgeExposed(stated, all); err != nil {
		return err
	}
	return judgeFilled(all, look)
}

// startFolder is what the folder in which processes start is called among the mounts.
const startFolder = "working directory"

// putsOf follows what a service mounts, what its image asks for besides, and the folder in which its processes start.
func putsOf(s types.ServiceConfig, own []recipe.Mount, img image.InspectResponse, look lookAt) ([]put, error) {
	subject := fmt.Sprintf("image %s of service %s", s.Image, s.Name)
	var out []put
	add := func(m recipe.Mount, stated bool) error {
		t, err := follow(func(name string) (entry, error) { return look(img, name) }, m.Target)
		if err != nil {
			return named(fmt.Sprintf("%s: looking for the place of the %s", subject, clip(m.What, 200)), err)
		}
		root := t.end == "/" && m.What == startFolder
		// What the recipe itself states is admission's to judge, which knows the waivers.
		if recipe.GuardedPath(t.end) && !root && !(stated && recipe.GuardedPath(m.Target)) {
			hint := "build the image with another VOLUME or WORKDIR"
			if len(t.links) > 0 {
				hint = "choose another folder, or build the image without the link"
			}
			return ccci.Errorf(ccci.CodeRecipe, "%s: the %s would be at %s", subject, clip(m.What, 200), t).
				WithHint("%s: nothing of a recipe may lie at / or in /proc, /sys and /dev (rule mount-path)", hint)
		}
		m.Target = t.end
		out = append(out, put{m, t, img})
		return nil
	}
	for _, m := range own {
		if err := add(m, true); err != nil {
			return nil, err
		}
	}
	volumes, dir := ofImage(img)
	for _, target := range volumes {
		if slices.ContainsFunc(own, func(m recipe.Mount) bool { return m.Target == target && !m.File }) {
			continue
		}
		if err := add(recipe.Mount{Service: s.Name, What: "volume of the image", Target: target, Write: true}, false); err != nil {
			return nil, err
		}
	}
	start := recipe.Mount{Service: s.Name, What: startFolder, Target: path.Clean("/" + cmp.Or(s.WorkingDir, dir))}
	if err := add(start, s.WorkingDir != ""); err != nil {
		return nil, err
	}
	// Of a volume with a name the image does not say what is in it.
	for i, p := range out {
		for _, l := range p.links {
			for j, v := range out {
				if i != j && v.Volume != "" && l.from != v.end && recipe.Within(v.end, l.from) {
					return nil, ccci.Errorf(ccci.CodeRecipe, "%s: the %s would be at %s; the link lies within the %s, which may hold another one", subject, clip(p.What, 200), p, clip(v.What, 200)).
						WithHint("choose a place outside of the volume, or build the image without the link (rule mount-path)")
				}
			}
		}
	}
	return out, nil
}

// judgeExposed judges what comes to lie within a volume, unless admission has judged the same already.
func judgeExposed(stated []recipe.Mount, all []put) error {
	var real []recipe.Mount
	for _, p := range all {
		if p.What != startFolder {
			real = append(real, p.Mount)
		}
	}
	known := map[[2]string]bool{}
	for _, e := range recipe.Exposed(stated) {
		known[[2]string{e.Mount.Service, e.Mount.Target}] = true
	}
	for _, e := range recipe.Exposed(real) {
		i := slices.IndexFunc(all, func(p put) bool { return p.Mount == e.Mount && !known[[2]string{p.Service, p.from}] })
		if i < 0 {
			continue
		}
		return ccci.Errorf(ccci.CodeRecipe, "service %s: the %s would be at %s, within the %s: service %s can write the volume and put a link in place of %s",
			e.Mount.Service, clip(e.Mount.What, 200), all[i], clip(e.Volume.What, 200), e.Writer.Service, clip(e.Way, 200)).
			WithHint("choose a place outside of the volume, or build the image without the link (rule mount-path; docs/admission.md, places in volumes)")
	}
	return nil
}

// judgeFilled judges what lies within a volume that is new and is filled from an image: a link of that image is
// followed in the root of another service.
func judgeFilled(all []put, look lookAt) error {
	fillers := map[string][]put{}   // by volume
	places := map[[2]string][]put{} // by service and place
	for _, p := range all {
		if p.What != startFolder {
			at := [2]string{p.Service, p.end}
			places[at] = append(places[at], p)
		}
		if p.Copied {
			fillers[p.Volume] = append(fillers[p.Volume], p)
		}
	}
	for _, p := range all {
		var arounds []put
		for at := p.end; at != "/" && arounds == nil; {
			at = path.Dir(at)
			arounds = places[[2]string{p.Service, at}]
		}
		for _, around := range arounds {
			for _, f := range fillers[around.Volume] {
				if err := judgeFill(p, around, f, look); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// judgeFill judges what lies within a volume that one image fills.
func judgeFill(p, around, filler put, look lookAt) error {
	here := filler.end
	for _, name := range folders(path.Join("/", around.Subpath, strings.TrimPrefix(p.end, around.end))) {
		here = path.Join(here, name)
		at, err := look(filler.image, here)
		if err != nil {
			return named(fmt.Sprintf("image of service %s: looking at what it has in the %s", filler.Service, clip(filler.What, 200)), err)
		}
		if at.link != "" {
			return ccci.Errorf(ccci.CodeRecipe, "service %s: the %s would be at %s, within the %s, which is filled from the image of service %s: there %s is a link to %s",
				p.Service, clip(p.What, 200), p, clip(around.What, 200), filler.Service, clip(here, 200), clip(at.link, 200)).
				WithHint("choose a place outside of the volume, or build the image without the link (rule mount-path)")
		}
		if at.missing || !at.folder {
			return nil
		}
	}
	return nil
}

// looker looks into an image in a container that is never started, which it makes for the first look.
type looker struct {
	d             *Deployer
	services, ref string
	img           image.InspectResponse
	made          string // ID of the container
	looks         int
}

// at says what the image has at a path of which no folder is a link.
func (l *looker) at(ctx context.Context, name string) (entry, error) {
	key := [2]string{l.img.ID, name}
	l.d.mu.Lock()
	at, known := l.d.entries[key]
	l.d.mu.Unlock()
	if known {
		return at, nil
	}
	if l.looks++; l.looks > mostLooks {
		return at, ccci.Errorf(ccci.CodeRecipe, "the places of all mounts have more than %d folders", mostLooks).WithHint("use fewer volumes, configs and secrets, or shorter paths")
	}
	at, err := l.ask(ctx, name)
	if err != nil {
		return at, err
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.d.entries[key] = at
	return at, nil
}

func (l *looker) ask(ctx context.Context, name string) (entry, error) {
	if err := l.open(ctx); err != nil {
		return entry{}, err
	}
	stat, err := l.d.docker.ContainerStatPath(ctx, l.made, name)
	switch {
	case cerrdefs.IsNotFound(err):
		return entry{missing: true}, nil
	case err != nil:
		return entry{}, l.fault(ctx, name, err)
	case stat.Mode&fs.ModeSymlink == 0:
		return entry{folder: stat.Mode.IsDir()}, nil
	}
	// Docker says where a link leads in the end, and not through what.
	stream, _, err := l.d.docker.CopyFromContainer(ctx, l.made, name)
	if err != nil {
		return entry{}, l.fault(ctx, name, err)
	}
	defer stream.Close()
	head, err := tar.NewReader(stream).Next()
	if err != nil || head.Typeflag != tar.TypeSymlink || head.Linkname == "" {
		return entry{}, ccci.Errorf(ccci.CodeInfra, "reading link %s of image %s of service %s: Docker answers with no link (%v)", name, l.ref, l.services, err).
			WithHint("try again; if it stays so, report it with the version of Docker")
	}
	return entry{link: head.Linkname}, nil
}

// fault tells the daemon's faults from what the image cannot be asked for. The answer has no words.
func (l *looker) fault(ctx context.Context, name string, err error) error {
	if _, rootErr := l.d.docker.ContainerStatPath(ctx, l.made, "/"); rootErr != nil {
		return l.d.fault(fmt.Sprintf("looking into image %s of service %s", l.ref, l.services), rootErr)
	}
	return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its %s cannot be looked at: %s", l.ref, l.services, clip(name, 200), clip(words(err), 300))
}
