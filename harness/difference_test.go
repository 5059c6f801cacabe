package harness

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
)

func drawnPicture(t *testing.T, w, h int, spots map[image.Rectangle]color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	for r, c := range spots {
		draw.Draw(img, r, image.NewUniform(c), image.Point{}, draw.Src)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// P18: what differs between two pictures is marked, what does not is pale.
func TestP18_DifferencesAreMarked(t *testing.T) {
	head := image.Rect(0, 0, 100, 10)
	before := drawnPicture(t, 100, 80, map[image.Rectangle]color.Color{head: color.Black})
	after := drawnPicture(t, 100, 80, map[image.Rectangle]color.Color{head: color.Black, image.Rect(70, 40, 80, 50): color.RGBA{0, 0, 200, 255}, image.Rect(0, 60, 5, 65): color.RGBA{250, 250, 250, 255}})
	text, share, err := difference(before, after)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(share-100.0/8000) > 1e-9 {
		t.Errorf("%.4f of the pixels differ, want 0.0125", share)
	}
	img, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[image.Point]color.Color{
		{75, 45}: marked, {64, 32}: marked, {95, 63}: marked, // the change, and corners of its square
		{60, 45}: color.RGBA{255, 255, 255, 255}, {2, 62}: color.RGBA{254, 254, 254, 255}, {50, 5}: color.RGBA{170, 170, 170, 255},
	} {
		r, g, b, _ := want.RGBA()
		if x, y, z, _ := img.At(at.X, at.Y).RGBA(); x != r || y != g || z != b {
			t.Errorf("at %v: %v, want %v", at, img.At(at.X, at.Y), want)
		}
	}
	if _, share, err := difference(before, before); err != nil || share != 0 {
		t.Errorf("a picture differs from itself by %f: %v", share, err)
	}
	if _, share, err := difference(drawnPicture(t, 100, 40, nil), drawnPicture(t, 100, 80, nil)); err != nil || share != 0.5 {
		t.Errorf("a picture twice as high differs by %f: %v", share, err)
	}
	for name, text := range map[string][]byte{"no picture": []byte("x"), "too large": drawnPicture(t, 4097, 1025, nil)} {
		if _, _, err := difference(before, text); err == nil {
			t.Errorf("%s is compared", name)
		}
	}
	if _, _, err := difference(drawnPicture(t, 3000, 10, nil), drawnPicture(t, 10, 3000, nil)); err == nil {
		t.Error("two pictures whose union is too large are compared")
	}
}

// The picture of what differs is an artifact as it is, and takes part in no verdict.
func TestP18_DifferenceIsKept(t *testing.T) {
	c := Config{OutDir: t.TempDir(), Censor: &censor.Censor{}, Now: time.Now}
	c.Censor.Add("short", ccci.NewSecret("PNG\r\n\x1a\n\x00\x00\x00\rIHDR")) // in every picture
	l := &life{instance: &instance{Config: &c}, result: &ccci.Result{}, log: c.Censor.NewWriter(io.Discard)}
	l.comparePictures(drawnPicture(t, 10, 10, nil)) // no picture before: nothing is compared
	l.pictured = drawnPicture(t, 10, 10, nil)
	l.comparePictures(drawnPicture(t, 10, 10, nil)) // the same
	if len(l.result.Artifacts) > 0 {
		t.Fatalf("kept: %+v", l.result.Artifacts)
	}
	l.pictured = drawnPicture(t, 10, 10, nil)
	l.comparePictures(drawnPicture(t, 10, 10, map[image.Rectangle]color.Color{image.Rect(0, 0, 5, 5): color.Black}))
	if len(l.result.Artifacts) != 1 || l.result.Artifacts[0].Kind != "difference" || l.result.Artifacts[0].Title != "What differs after the upgrade: 25.0 % of the picture" {
		t.Fatalf("kept: %+v", l.result.Artifacts)
	}
	text, err := os.ReadFile(filepath.Join(c.OutDir, l.result.Artifacts[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(text)); err != nil {
		t.Error(err)
	}
}
