package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
)

const (
	// registryPatience bounds one question to a registry.
	registryPatience = 30 * time.Second
	// mostPins bounds the images of a result, which may be anybody's, that are looked for.
	mostPins = 200
)

// pin finds the images of a past run: by what the recipe states, which image stands for it
// now, and where that is not the one of then.
func (p *platform) pin(ctx context.Context, then []ccci.Image) (pins map[string]string, deviations []string) {
	pins = map[string]string{}
	var seen []string
	for _, image := range then {
		if slices.Contains(seen, image.Reference) {
			continue
		}
		if len(seen) == mostPins {
			return pins, append(deviations, fmt.Sprintf("the result has more than %d images; the others are those of now", mostPins))
		}
		seen = append(seen, image.Reference)
		exact, why := p.exact(ctx, image)
		if exact != "" {
			pins[image.Reference] = exact
		}
		if why != "" {
			deviations = append(deviations, fmt.Sprintf("image %s of service %s: %s", image.Reference, image.Service, why))
		}
	}
	return pins, deviations
}

// exact is the reference of an image as it was, "" when there is none; why says what may differ.
func (p *platform) exact(ctx context.Context, then ccci.Image) (exact, why string) {
	if then.RepoDigest == "" {
		here, err := p.docker.ImageInspect(ctx, then.Reference)
		switch {
		case cerrdefs.IsNotFound(err):
			return "", "it came from no registry then, and is not on this machine"
		case err != nil:
			return "", fmt.Sprintf("looking for it: %v", err)
		case here.ID != then.Digest:
			return "", fmt.Sprintf("it was %s then and came from no registry; here it is %s", then.Digest, here.ID)
		}
		return "", ""
	}
	if !sameName(then.Reference, then.RepoDigest) {
		return "", fmt.Sprintf("the result says that it was %s, which is another image's name; the tag counts", then.RepoDigest)
	}
	if _, err := p.docker.ImageInspect(ctx, then.RepoDigest); err == nil {
		return then.RepoDigest, ""
	}
	// The result may be anybody's, and nothing of it has been judged yet. Of what is judged later, the
	// recipe, waivers may lift the rule.
	if err := admission.CheckRegistry(then.RepoDigest); err != nil {
		return then.RepoDigest, fmt.Sprintf("whether the registry still has it is not known: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	_, err := p.docker.DistributionInspect(ctx, then.RepoDigest, "")
	switch {
	case err == nil:
		return then.RepoDigest, ""
	case cerrdefs.IsNotFound(err) || strings.Contains(err.Error(), "manifest unknown"):
		return "", fmt.Sprintf("the registry no longer has %s; what the tag names now is used", then.RepoDigest)
	}
	return then.RepoDigest, fmt.Sprintf("whether the registry still has %s is not known: %v", then.RepoDigest, err)
}

// sameName reports whether digest is a digest of the image that ref names.
func sameName(ref, digest string) bool {
	a, errA := reference.ParseNormalizedNamed(ref)
	b, errB := reference.ParseNormalizedNamed(digest)
	if errA != nil || errB != nil {
		return false
	}
	_, exact := b.(reference.Canonical)
	return exact && a.Name() == b.Name()
}
