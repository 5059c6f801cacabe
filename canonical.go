package ccci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Trigger says what a run was started by; "" stands for a person.
type Trigger string

// TriggerSweep is the sweep: nobody's wish, and of no pull request.
const TriggerSweep Trigger = "sweep"

// Canonical is the last version of a recipe that came out green in the sweep (U20):
// what upgrades start from, and what a quick run stands on. Only [Promote] makes one.
type Canonical struct {
	Recipe  string `json:"recipe"`
	Commit  Commit `json:"commit"`
	Version string `json:"version"` // what the recipe states; "" when it states none
	// Exactly one of the two is set: the tag that was tested, or the branch whose tip was.
	Release string `json:"release,omitempty"`
	Branch  string `json:"branch,omitempty"`

	Run      RunID     `json:"run"`
	Level    int       `json:"level"`
	Images   []Image   `json:"images"` // those of this version, with their digests
	Kept     Kept      `json:"kept"`
	Promoted time.Time `json:"promoted"`
}

// Kept is what a run left of its app's data.
type Kept struct {
	Snapshot string   `json:"snapshot,omitempty"` // restic's id of the one snapshot with all volumes; "" without any
	Volumes  []string `json:"volumes,omitempty"`  // by their keys in the compose file
	Marker   string   `json:"marker,omitempty"`   // what was seeded into them
	// Without says why there is no data, where there can be none; a quick run is
	// impossible then.
	Without string `json:"without,omitempty"`
}

// Name is what people call this version: "1.2.0+3.4", or "main at 6f2c1c0d".
func (c Canonical) Name() string {
	if c.Release != "" {
		return c.Release
	}
	return c.Branch + " at " + c.Commit.Short()
}

// Promote makes a canonical of what a run of the sweep found on a release, or on the
// tip of a branch. reason says why it makes none; then the former one stays.
func Promote(r *Result, release, branch string, now time.Time) (c Canonical, reason string) {
	switch {
	case r.Trigger != TriggerSweep:
		return c, "only a run of the sweep makes a canonical"
	case r.PR != PRRef{}:
		return c, "a run of a pull request never makes a canonical"
	case !r.Options.Whole():
		return c, "it was not the whole suite from the base that the rule chooses"
	case r.Status != StatusPassed:
		return c, "it did not pass"
	case r.Teardown == nil || !r.Teardown.Clean:
		return c, "its teardown is not proven"
	case r.Stage(StageInstall).Status != Pass:
		return c, "nothing was installed"
	case r.Kept == nil:
		return c, "its data was not kept"
	case (release == "") == (branch == ""):
		return c, "it is neither of a release nor of the tip of a branch"
	}
	c = Canonical{
		Recipe: r.Recipe, Commit: r.Commit, Version: r.Version, Release: release, Branch: branch,
		Run: r.RunID, Level: r.Level, Images: []Image{}, Kept: *r.Kept, Promoted: now,
	}
	for _, image := range r.Images {
		if image.Stage == "head" {
			c.Images = append(c.Images, image)
		}
	}
	return c, ""
}

// CanonicalKey names the blob that holds a recipe's canonical.
func CanonicalKey(recipe string) string { return "canonicals/" + recipe + ".json" }

// canonicalLimit bounds what is read of a canonical, in bytes.
const canonicalLimit = 4 << 20

// ReadCanonical returns a recipe's canonical, or ErrNotFound. One that cannot be
// used is an Error with CodeInvalid; it lasts until the sweep makes another.
func ReadCanonical(ctx context.Context, blobs BlobReader, recipe string) (Canonical, error) {
	r, _, err := blobs.Get(ctx, CanonicalKey(recipe))
	if err != nil {
		return Canonical{}, fmt.Errorf("reading the canonical of %s: %w", recipe, err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, canonicalLimit))
	var c Canonical
	if err == nil {
		err = json.Unmarshal(text, &c)
	} else if !errors.Is(err, ErrCorrupt) {
		return Canonical{}, fmt.Errorf("reading the canonical of %s: %w", recipe, err)
	}
	if err == nil && (c.Recipe != recipe || !c.Commit.Valid()) {
		err = fmt.Errorf("it is of %q at %q", c.Recipe, c.Commit)
	}
	if err != nil {
		return Canonical{}, Errorf(CodeInvalid, "the canonical of %s cannot be used: %w", recipe, err).
			WithHint("cc-ci sweep --recipe %s makes another", recipe)
	}
	return c, nil
}
