package ccci_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// swept is what a run of the sweep leaves that may become a canonical.
func swept() *ccci.Result {
	return &ccci.Result{
		RunID: "261121-030000-abcdef", Recipe: "wiki", Commit: "6f2c1c0de4a55b7d9b1c3f7a8e9d0c1b2a3f4e5d", Version: "1.1.0+2.0", Trigger: ccci.TriggerSweep,
		Status: ccci.StatusPassed, Level: 4, Teardown: &ccci.Teardown{Clean: true}, Kept: &ccci.Kept{Snapshot: "beef", Volumes: []string{"data"}, Marker: "m"},
		Stages: []ccci.Stage{{Name: ccci.StageInstall, Status: ccci.Pass}, {Name: ccci.StageUpgrade, Status: ccci.Skip}},
		Images: []ccci.Image{{Service: "app", Digest: "sha256:old", Stage: "base"}, {Service: "app", Digest: "sha256:new", Stage: "head"}},
	}
}

func TestU20_Promotion(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	c, reason := ccci.Promote(swept(), "1.1.0+2.0", "", now)
	if reason != "" || c.Recipe != "wiki" || c.Commit != swept().Commit || c.Run != swept().RunID || c.Level != 4 || c.Kept.Snapshot != "beef" || !c.Promoted.Equal(now) || c.Name() != "1.1.0+2.0" {
		t.Errorf("%+v, %q", c, reason)
	}
	if len(c.Images) != 1 || c.Images[0].Digest != "sha256:new" {
		t.Errorf("images %+v", c.Images)
	}
	if c, reason := ccci.Promote(swept(), "", "main", now); reason != "" || c.Name() != "main at 6f2c1c0d" {
		t.Errorf("%+v, %q", c, reason)
	}
	for want, change := range map[string]func(*ccci.Result){
		"only a run of the sweep":           func(r *ccci.Result) { r.Trigger = "" },
		"a run of a pull request":           func(r *ccci.Result) { r.PR.Number = 3 },
		"it was not the whole suite":        func(r *ccci.Result) { r.Options.Stages = []ccci.StageName{ccci.StageInstall} },
		"it was not the whole suite from":   func(r *ccci.Result) { r.Options.Quick = true },
		"from the base that the rule":       func(r *ccci.Result) { r.Options.From = "1.0.0+1" },
		"it did not pass":                   func(r *ccci.Result) { r.Status = ccci.StatusFailed },
		"its teardown is not proven":        func(r *ccci.Result) { r.Teardown = nil },
		"its teardown is not":               func(r *ccci.Result) { r.Teardown.Clean = false },
		"nothing was installed":             func(r *ccci.Result) { r.Stages = nil },
		"its data was not kept":             func(r *ccci.Result) { r.Kept = nil },
		"neither of a release nor of a tip": nil,
	} {
		r, release := swept(), "1.1.0+2.0"
		if change == nil {
			release, want = "", "neither of a release"
		} else {
			change(r)
		}
		if c, reason := ccci.Promote(r, release, "", now); !strings.Contains(reason, want) || c.Recipe != "" {
			t.Errorf("%q: promoted to %+v, reason %q", want, c, reason)
		}
	}
	if _, reason := ccci.Promote(swept(), "1.1.0+2.0", "main", now); reason == "" {
		t.Error("a release and a tip at once")
	}
}

type oneBlob struct {
	text string
	err  error
}

func (b oneBlob) Get(context.Context, string) (io.ReadCloser, ccci.BlobInfo, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(b.text))), ccci.BlobInfo{}, b.err
}

func (oneBlob) List(context.Context, string) ([]ccci.BlobInfo, error) { return nil, nil }

func TestU20_ReadCanonical(t *testing.T) {
	good := `{"recipe":"wiki","commit":"6f2c1c0de4a55b7d9b1c3f7a8e9d0c1b2a3f4e5d","release":"1.0.0+1"}`
	if c, err := ccci.ReadCanonical(t.Context(), oneBlob{text: good}, "wiki"); err != nil || c.Release != "1.0.0+1" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, text := range []string{"", "{", `{"recipe":"wiki","commit":"6f2c"}`, good + "x", strings.Replace(good, "wiki", "blog", 1)} {
		if _, err := ccci.ReadCanonical(t.Context(), oneBlob{text: text}, "wiki"); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ccci.ReadCanonical(t.Context(), oneBlob{err: ccci.ErrNotFound}, "wiki"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
