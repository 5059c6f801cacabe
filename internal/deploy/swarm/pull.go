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

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Pull makes the images of a stack present. An image that the daemon has is taken as
// it is; a registry is asked only for what is missing, each reference once.
// Images are returned in the order of their services; Stage is left empty.
func (d *Deployer) Pull(ctx context.Context, stack *recipe.Stack) ([]ccci.Image, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	users := map[string][]string{} // reference -> services
	var references []string
	stated := stack.Config.Services
	stack = d.pinned(stack)
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
			found[i], err = d.pullOne(groupCtx, strings.Join(users[ref], ", "), ref)
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
	for i, s := range stack.Config.Services {
		img := found[slices.Index(references, s.Image)]
		if err := weight.add(s.Name, s.Image, img); err != nil {
			return nil, err
		}
		if img.Config != nil {
			d.calmProbe(s.Image, img.Config.Healthcheck)
		}
		out = append(out, ccci.Image{Service: s.Name, Reference: stated[i].Image, Digest: img.ID, RepoDigest: repoDigest(s.Image, img.RepoDigests), Size: img.Size})
	}
	return out, nil
}

// pinned is a stack with the images that Pins name in place of what it states.
func (d *Deployer) pinned(stack *recipe.Stack) *recipe.Stack {
	if len(d.o.Pins) == 0 || stack == nil || stack.Config == nil {
		return stack
	}
	out, config := *stack, *stack.Config
	config.Services = slices.Clone(config.Services)
	for i := range config.Services {
		s := &config.Services[i]
		s.Image = cmp.Or(d.o.Pins[s.Image], s.Image)
	}
	out.Config = &config
	return &out
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

// imageWeight sums what the images of a stack bring into the daemon's answers: each list of
// containers, of every run of the machine, has the labels of all of them.
type imageWeight struct{ bytes, volumes int }

const (
	mostImageConfig  = 2 << 20 // bytes of all services' image configurations, as JSON
	mostImageVolumes = 256
)

func (w *imageWeight) add(service, ref string, img image.InspectResponse) error {
	if img.Config == nil {
		return nil
	}
	text, err := json.Marshal(img.Config)
	if err != nil {
		return fmt.Errorf("image %s of service %s: %w", ref, service, err)
	}
	w.bytes += len(text)
	w.volumes += len(img.Config.Volumes)
	switch {
	case w.bytes > mostImageConfig:
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its configuration has %s, and those of all services together may have %s", ref, service, bytesText(int64(len(text))), bytesText(mostImageConfig)).
			WithHint("the labels of an image and its environment belong to its configuration; docker image inspect %s shows them", ref)
	case w.volumes > mostImageVolumes:
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: it declares %d volumes, and the images of all services together may declare %d", ref, service, len(img.Config.Volumes), mostImageVolumes).
			WithHint("docker image inspect %s shows them", ref)
	}
	return nil
}

func (d *Deployer) pullOne(ctx context.Context, services, ref string) (image.InspectResponse, error) {
	activity := fmt.Sprintf("pulling image %s of service %s", ref, services)
	if ref == "" {
		return image.InspectResponse{}, ccci.Errorf(ccci.CodeRecipe, "pulling the image of service %s: it has none", services)
	}
	img, err := d.docker.ImageInspect(ctx, ref)
	if err == nil {
		return img, nil
	}
	if !cerrdefs.IsNotFound(err) {
		return img, d.fault(activity, err)
	}
	if strings.HasPrefix(ref, recipe.LocalRegistry+"/") {
		return img, ccci.Errorf(ccci.CodeRecipe, "%s: it is not on this machine", activity).
			WithHint("images of %s are made on the machine and are never pulled; use a registry", recipe.LocalRegistry)
	}
	auth, err := d.auth(ref)
	if err != nil {
		return img, err
	}
	d.log.Info("pulling an image", "image", ref, "service", services)
	d.mu.Lock()
	d.pulled = append(d.pulled, ref)
	d.mu.Unlock()
	stream, err := d.docker.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return img, d.pullFault(activity, ref, auth != "", err)
	}
	defer stream.Close()
	if err := pullProgress(stream); err != nil {
		return img, d.pullFault(activity, ref, auth != "", err)
	}
	img, err = d.docker.ImageInspect(ctx, ref)
	return img, d.fault(activity, err)
}

// calmProbe notes how the healthcheck that an image brings is to be changed, so that it is not asked
// more often than one of a compose file. What is 0 the daemon takes from the image.
func (d *Deployer) calmProbe(ref string, own *container.HealthConfig) {
	least := d.o.Ceilings.HealthInterval
	change := &container.HealthConfig{}
	if own != nil && own.Interval > 0 && own.Interval < least {
		change.Interval = least
	}
	if own != nil && own.StartInterval > 0 && own.StartInterval < least {
		change.StartInterval = least
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.probes, ref)
	if change.Interval > 0 || change.StartInterval > 0 {
		d.probes[ref] = change
	}
}

// calmed returns a service's healthcheck with what is noted about its image's.
func (d *Deployer) calmed(ref string, stated *container.HealthConfig) *container.HealthConfig {
	d.mu.Lock()
	change := d.probes[ref]
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
// must not keep all others waiting. An image that a container uses stays.
func (d *Deployer) dropImages(ctx context.Context) {
	if d.o.Short == nil {
		return
	}
	d.mu.Lock()
	pulled := d.pulled
	d.mu.Unlock()
	for _, ref := range pulled {
		why := d.o.Short()
		if why == "" {
			return
		}
		_, err := d.docker.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
		if err != nil && !cerrdefs.IsNotFound(err) {
			d.log.Warn("an image that the run pulled stays", "image", ref, "error", err)
			continue
		}
		d.log.Info("removed an image that the run pulled", "image", ref, "why", why)
	}
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
		return fail(ccci.CodeInfra, "the registry has a fault of its own; try again later")
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
