package swarm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Pull makes the images of a stack present. A registry is asked for each reference once in a run:
// from then on the reference means the image that was answered, and Deploy names it by its ID.
// Images are returned in the order of their services; Stage is left empty.
func (d *Deployer) Pull(ctx context.Context, stack *recipe.Stack) ([]ccci.Image, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	d.guard.start() // Deploy waits for it

	users := map[string][]string{} // reference -> services
	var references []string
	for _, s := range stack.Config.Services {
		if users[s.Image] == nil {
			references = append(references, s.Image)
		}
		users[s.Image] = append(users[s.Image], s.Name)
	}
	found := make([]image.InspectResponse, len(references))
	// Nothing bounds the size of an image before it is there.
	ctx, end := context.WithCancel(ctx)
	defer end()
	full := make(chan error, 1)
	go func() {
		if err := d.awaitFull(ctx); err != nil {
			full <- err
			end()
		}
	}()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(3)
	for i, ref := range references {
		group.Go(func() error {
			var err error
			found[i], err = d.present(groupCtx, strings.Join(users[ref], ", "), ref)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		select {
		case err = <-full:
		default:
		}
		return nil, err
	}
	var out []ccci.Image
	var weight imageWeight
	for _, s := range stack.Config.Services {
		img := found[slices.Index(references, s.Image)]
		if err := weight.add(s.Name, s.Image, img, containersOf(s)); err != nil {
			return nil, err
		}
		if img.Config != nil {
			d.calmProbe(img.ID, img.Config.Healthcheck)
		}
		out = append(out, ccci.Image{Service: s.Name, Reference: s.Image, Digest: img.ID, RepoDigest: repoDigest(d.source(s.Image), img.RepoDigests), Size: img.Size})
	}
	lookers := make([]*looker, len(references))
	for i, ref := range references {
		lookers[i] = &looker{d: d, services: strings.Join(users[ref], ", "), ref: ref, img: found[i]}
	}
	if err := d.checkFiles(ctx, stack, lookers); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, ref := range references {
		d.images[ref] = found[i].ID
	}
	return out, nil
}

// checkFiles looks into the images of a stack.
func (d *Deployer) checkFiles(ctx context.Context, stack *recipe.Stack, lookers []*looker) error {
	defer func() {
		var all sync.WaitGroup
		for _, l := range lookers {
			all.Go(func() { l.close(ctx) })
		}
		all.Wait()
	}()
	of := func(s types.ServiceConfig) *looker {
		return lookers[slices.IndexFunc(lookers, func(l *looker) bool { return l.ref == s.Image })]
	}
	imageOf := func(s types.ServiceConfig) image.InspectResponse { return of(s).img }
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(3)
	for _, l := range lookers {
		group.Go(func() error {
			if err := l.checkUserFiles(groupCtx); err != nil {
				return err
			}
			// A look takes some milliseconds, so that the images are looked into at the same time. What is found is
			// judged below, and errors come again there.
			for _, s := range stack.Config.Services {
				if of(s) == l {
					_, _ = putsOf(s, recipe.MountsOf(stack, s), l.img, func(_ image.InspectResponse, name string) (entry, error) { return l.at(groupCtx, name) })
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	err := judgePlaces(stack, imageOf, func(img image.InspectResponse, name string) (entry, error) {
		i := slices.IndexFunc(lookers, func(l *looker) bool { return l.img.ID == img.ID })
		return lookers[i].at(ctx, name)
	})
	if err != nil {
		return err
	}
	return d.checkCopies(ctx, stack, of)
}

// source is the reference that is pulled for what a recipe states.
func (d *Deployer) source(stated string) string { return cmp.Or(d.o.Pins[stated], stated) }

// imagesOf returns the IDs of a stack's images, by reference. It fails for what Pull has not brought:
// given a reference, swarm would ask the registry again as each task starts, and run what it answers then.
func (d *Deployer) imagesOf(stack *recipe.Stack) (map[string]string, error) {
	out := map[string]string{}
	if stack == nil || stack.Config == nil {
		return out, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range stack.Config.Services {
		id := d.images[s.Image]
		if id == "" && s.Image != "" {
			return nil, ccci.Errorf(ccci.CodeInvalid, "deploying %s: image %s of service %s has not been pulled", stack.Name, s.Image, s.Name)
		}
		out[s.Image] = id
	}
	return out, nil
}

// repoDigest is the one of an image's digests by which the registry of ref has it.
func repoDigest(ref string, digests []string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	for _, text := range digests {
		if d, err := reference.ParseNormalizedNamed(text); err == nil && d.Name() == named.Name() {
			return text
		}
	}
	return ""
}

// imageWeight sums what the images of a stack bring into the daemon's answers: each container has a copy
// of its image's configuration, and each list of containers, of every run of the machine, has the labels of
// all of them.
type imageWeight struct{ bytes, volumes int }

const (
	mostImageConfig  = 2 << 20 // bytes of the image configurations of all tasks, as JSON
	mostImageVolumes = 256     // of all tasks
)

// containersOf is how many containers a service has at a time, at least 1.
func containersOf(s types.ServiceConfig) int {
	return int(min(max(recipe.Replicas(s), 1), 1<<20))
}

// add counts the image of a service with n containers.
func (w *imageWeight) add(service, ref string, img image.InspectResponse, n int) error {
	if img.Config == nil { // the containerd store does not show that of every image which it runs
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: Docker shows no configuration of it for this machine's platform", ref, service).
			WithHint("build the image for this platform, without another manifest in its index that claims to be one")
	}
	text, err := json.Marshal(img.Config)
	if err != nil {
		return fmt.Errorf("image %s of service %s: %w", ref, service, err)
	}
	w.bytes += len(text) * n
	w.volumes += len(img.Config.Volumes) * n
	tasks := ""
	if n > 1 {
		tasks = fmt.Sprintf(" for each of %d tasks", n)
	}
	switch {
	case w.bytes > mostImageConfig:
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its configuration has %s%s, and those of all tasks together may have %s", ref, service, bytesText(int64(len(text))), tasks, bytesText(mostImageConfig)).
			WithHint("the labels of an image and its environment belong to its configuration; docker image inspect %s shows them", ref)
	case w.volumes > mostImageVolumes:
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: it declares %d volumes%s, and the images of all tasks together may declare %d", ref, service, len(img.Config.Volumes), tasks, mostImageVolumes).
			WithHint("docker image inspect %s shows them", ref)
	}
	return nil
}

// present returns the image that a stated reference means in this run.
func (d *Deployer) present(ctx context.Context, services, stated string) (image.InspectResponse, error) {
	d.mu.Lock()
	id := d.images[stated]
	d.mu.Unlock()
	if id != "" {
		img, err := d.docker.ImageInspect(ctx, id)
		if err == nil || !cerrdefs.IsNotFound(err) {
			return img, d.fault(fmt.Sprintf("inspecting image %s of service %s", stated, services), err)
		}
	}
	return d.pullOne(ctx, services, d.source(stated))
}

// qualified is a reference with its registry and its tag or digest. Docker resolves a short name such as
// ead13143b184 by the IDs of this machine's images too, and the ID of an image to nothing else.
func qualified(ref string) (string, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return "", err
	}
	if _, ok := parsed.(reference.Named); !ok {
		return "", errors.New("it is the ID of an image, which no registry is asked for")
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

func (d *Deployer) pullOne(ctx context.Context, services, ref string) (image.InspectResponse, error) {
	var none image.InspectResponse
	activity := fmt.Sprintf("pulling image %s of service %s", ref, services)
	if ref == "" {
		return none, ccci.Errorf(ccci.CodeRecipe, "pulling the image of service %s: it has none", services)
	}
	name, err := qualified(ref)
	if err != nil {
		return none, ccci.Errorf(ccci.CodeRecipe, "%s: %w", activity, err).WithHint("write registry/path:tag")
	}
	here, err := d.docker.ImageInspect(ctx, name)
	if err != nil && !cerrdefs.IsNotFound(err) {
		return none, d.fault(activity, err)
	}
	local := strings.HasPrefix(name, recipe.LocalRegistry+"/")
	switch has := err == nil; {
	case has && (local || strings.Contains(name, "@")): // the latter never means another image
		return here, nil
	case local:
		return none, ccci.Errorf(ccci.CodeRecipe, "%s: it is not on this machine", activity).
			WithHint("images of %s are made on the machine and are never pulled; use a registry", recipe.LocalRegistry)
	case !has:
		d.notePulled(name) // before it is there: a pull that is cut short leaves layers
	}
	img, err := d.fetch(ctx, activity, services, ref, name)
	switch {
	case err != nil && here.ID != "" && ctx.Err() == nil && ccci.CodeOf(err) == ccci.CodeInfra:
		// A registry that is down or limits this host fails no run that has the image. One that answers
		// that there is no such image does: an operator could not deploy the recipe.
		d.log.Warn("the registry does not answer for an image; the one of this machine is used", "image", ref, "service", services, "id", here.ID, "error", err)
		return here, nil
	case err == nil && here.ID != "" && here.ID != img.ID:
		d.notePulled(name)
	}
	return img, err
}

func (d *Deployer) notePulled(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pulled = append(d.pulled, name)
}

// fetch pulls name, the qualified form of ref. Of what is there already only the manifest is asked for.
func (d *Deployer) fetch(ctx context.Context, activity, services, ref, name string) (image.InspectResponse, error) {
	var none image.InspectResponse
	auth, err := d.auth(ref)
	if err != nil {
		return none, err
	}
	d.log.Info("pulling an image", "image", ref, "service", services)
	stream, err := d.docker.ImagePull(ctx, name, image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return none, d.pullFault(activity, ref, auth != "", err)
	}
	defer stream.Close()
	if err := pullProgress(stream); err != nil {
		return none, d.pullFault(activity, ref, auth != "", err)
	}
	img, err := d.docker.ImageInspect(ctx, name)
	return img, d.fault(activity, err)
}

func (d *Deployer) auth(reference string) (string, error) {
	if d.o.RegistryAuth == nil {
		return "", nil
	}
	auth, err := d.o.RegistryAuth(reference)
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "reading registry credentials for %s: %w", reference, err)
	}
	return auth, nil
}

// calmProbe notes how the healthcheck that an image brings is to be changed, so that it is not asked
// more often than one of a compose file. What is 0 the daemon takes from the image, where it does not check
// it: below 0 there would be no pause at all.
func (d *Deployer) calmProbe(id string, own *container.HealthConfig) {
	least := d.o.Ceilings.HealthInterval
	change := &container.HealthConfig{}
	if own != nil && own.Interval != 0 && own.Interval < least {
		change.Interval = least
	}
	if own != nil && own.StartInterval != 0 && own.StartInterval < least {
		change.StartInterval = least
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.probes, id)
	if change.Interval > 0 || change.StartInterval > 0 {
		d.probes[id] = change
	}
}

// calmed returns a service's healthcheck with what is noted about its image's.
func (d *Deployer) calmed(id string, stated *container.HealthConfig) *container.HealthConfig {
	d.mu.Lock()
	change := d.probes[id]
	d.mu.Unlock()
	if change == nil || stated != nil && len(stated.Test) > 0 && stated.Test[0] == "NONE" {
		return stated
	}
	var out container.HealthConfig
	if stated != nil {
		out = *stated
	}
	out.Interval, out.StartInterval = cmp.Or(out.Interval, change.Interval), cmp.Or(out.StartInterval, change.StartInterval)
	return &out
}

// dropImages removes what Pull has pulled when the disk is short: an image that one run has brought
// must not keep all others waiting. An image that a container or a service uses stays: the
// service of another run names it by its ID, for which swarm pulls nothing.
func (d *Deployer) dropImages(ctx context.Context) {
	if d.o.Short == nil {
		return
	}
	d.mu.Lock()
	pulled := d.pulled
	d.mu.Unlock()
	for _, name := range pulled {
		why := d.o.Short()
		if why == "" {
			return
		}
		img, err := d.docker.ImageInspect(ctx, name)
		if cerrdefs.IsNotFound(err) {
			continue
		}
		var used bool
		if err == nil {
			used, err = d.serviceUses(ctx, img.ID)
		}
		if used {
			d.log.Info("an image that the run pulled stays: a service uses it", "image", name)
			continue
		}
		if err == nil {
			_, err = d.docker.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		}
		if err != nil && !cerrdefs.IsNotFound(err) {
			d.log.Warn("an image that the run pulled stays", "image", name, "error", err)
			continue
		}
		d.log.Info("removed an image that the run pulled", "image", name, "why", why)
	}
}

// serviceUses reports whether the tasks of some service are made from an image.
func (d *Deployer) serviceUses(ctx context.Context, id string) (bool, error) {
	list, err := d.docker.ServiceList(ctx, swarm.ServiceListOptions{})
	return slices.ContainsFunc(list, func(s swarm.Service) bool {
		c := s.Spec.TaskTemplate.ContainerSpec
		return c != nil && c.Image == id
	}), err
}

// pullProgress reads the daemon's messages to the end; the failure is one of them.
func pullProgress(stream io.Reader) error {
	for messages := json.NewDecoder(stream); ; {
		var m struct {
			Error string `json:"error"`
		}
		err := messages.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != "":
			return errors.New(m.Error)
		}
	}
}

// pullFault tells by what was answered whose an image is that cannot be had. A name or a tag that
// a registry does not know, and a registry whose name is nowhere, are the recipe's; a registry that
// is down or limits this host is ours, and so is one that refuses credentials of ours.
func (d *Deployer) pullFault(activity, ref string, authorised bool, err error) error {
	text := withoutBody(words(err))
	says := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(strings.ToLower(text), p) })
	}
	fail := func(code ccci.Code, hint string, args ...any) error {
		return (&ccci.Error{Code: code, Message: activity + ": " + clip(text, 500), Err: err}).WithHint(hint, args...)
	}
	switch {
	case says("toomanyrequests", "too many requests", "rate limit"):
		return fail(ccci.CodeInfra, "the registry limits this host; log in to it (docker login) or use a mirror, and try again later")
	case says("no space left on device"):
		return fail(ccci.CodeInfra, "free space where Docker keeps its data (docker system df)")
	case serverFault.MatchString(text):
		return fail(ccci.CodeInfra, "the registry failed; try again later")
	case says("no such host") && !onHub(ref):
		return fail(ccci.CodeRecipe, "no registry has that name; check the part of %s before the first slash", ref)
	case says("no such host", "server misbehaving", "temporary failure in name resolution"):
		return fail(ccci.CodeInfra, "the registry's name cannot be resolved; check this host's network and DNS, or load the image by hand (docker load)")
	case says("manifest unknown", "manifest for ", "name unknown", "not found: manifest", "repository does not exist", "invalid reference format", "no matching manifest", "not found"):
		return fail(ccci.CodeRecipe, "check the name and the tag of %s; it must exist for this machine's architecture, and whoever installs the recipe must be able to pull it", ref)
	case says("unauthorized", "denied", "authentication required"):
		if authorised {
			return fail(ccci.CodeInfra, "the registry refuses this host's credentials; log in again (docker login), or check the name of %s", ref)
		}
		return fail(ccci.CodeRecipe, "check the name of %s: registries answer so for a name that does not exist, or for a private image, which nobody who installs the recipe can pull; where it is to be private, log this host in (docker login)", ref)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return d.fault(activity, err)
	}
	if says("no route to host") { // as the firewall refuses it
		return fail(ccci.CodeInfra, "the registry is at a private address or leads to one; where it is the operator's, reconcile.firewall.docker_allow has to name it; else check this host's network")
	}
	return fail(ccci.CodeInfra, "the registry cannot be reached; check this host's network and DNS, or load the image by hand (docker load)")
}

// serverFault matches how Docker tells a status of 500 or more, which the wording of the body must not hide.
var serverFault = regexp.MustCompile(`(?i)\bHTTP 5\d\d\b|\bstatus( code)?( from [^ ]* request to [^ ]*| \[[^]]*\])?: 5\d\d\b|\b(bad gateway|service unavailable|internal server error|gateway time-?out)\b`)

// onHub reports whether an image is on Docker Hub, whose name a recipe does not choose.
func onHub(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	return err == nil && reference.Domain(named) == "docker.io"
}

// withoutBody takes what a server answered out of the daemon's words. A registry names the address
// at which the daemon asks for a token, and redirects it, so that the answer may be that of
// a service which only this machine reaches.
func withoutBody(text string) string {
	before, _, cut := strings.Cut(text, " response body: ")
	if cut {
		return before + " response body"
	}
	return before
}
