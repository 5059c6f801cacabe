package harness

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
)

const (
	// pictureLimit bounds the pixels of a picture that is compared: each takes 4 bytes, three times.
	pictureLimit = 4 << 20
	// sameColour is up to which difference of a channel two pixels are the same: fonts and gradients
	// are not drawn alike each time.
	sameColour = 16
	// cell is the side of the squares that are outlined where something differs, in pixels.
	cell = 32
)

var marked = color.RGBA{R: 214, G: 0, B: 90, A: 255}

// difference draws the second picture pale, with what differs from the first in a strong colour and
// outlined (P18). share is the part of the pixels that differ, from 0 to 1; what one picture has
// beyond the other's edge differs.
func difference(before, after []byte) (picture []byte, share float64, err error) {
	a, err := decodePicture(before)
	if err != nil {
		return nil, 0, err
	}
	b, err := decodePicture(after)
	if err != nil {
		return nil, 0, err
	}
	size := a.Bounds().Union(b.Bounds())
	if size.Dx()*size.Dy() > pictureLimit {
		return nil, 0, fmt.Errorf("comparing pictures: %d by %d pixels are too many", size.Dx(), size.Dy())
	}
	out := image.NewRGBA(size)
	cells := map[image.Point]bool{}
	changed := 0
	for y := range size.Dy() {
		for x := range size.Dx() {
			if sameAt(a, b, x, y) {
				out.SetRGBA(x, y, pale(b.RGBAAt(x, y)))
				continue
			}
			changed++
			cells[image.Pt(x/cell, y/cell)] = true
			out.SetRGBA(x, y, marked)
		}
	}
	for at := range cells {
		outline(out, image.Rect(at.X*cell, at.Y*cell, (at.X+1)*cell, (at.Y+1)*cell).Intersect(size))
	}
	var text bytes.Buffer
	if err := png.Encode(&text, out); err != nil {
		return nil, 0, fmt.Errorf("comparing pictures: %w", err)
	}
	return text.Bytes(), float64(changed) / float64(size.Dx()*size.Dy()), nil
}

// decodePicture reads a PNG, unless it is too large. Its bounds begin at 0.
func decodePicture(text []byte) (*image.RGBA, error) {
	c, err := png.DecodeConfig(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("reading a picture: %w", err)
	}
	if c.Width <= 0 || c.Height <= 0 || c.Width > pictureLimit/c.Height {
		return nil, fmt.Errorf("reading a picture: %d by %d pixels are too many", c.Width, c.Height)
	}
	img, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("reading a picture: %w", err)
	}
	out := image.NewRGBA(image.Rect(0, 0, c.Width, c.Height))
	draw.Draw(out, out.Bounds(), img, img.Bounds().Min, draw.Src)
	return out, nil
}

func sameAt(a, b *image.RGBA, x, y int) bool {
	if at := image.Pt(x, y); !at.In(a.Bounds()) || !at.In(b.Bounds()) {
		return false
	}
	p, q := a.RGBAAt(x, y), b.RGBAAt(x, y)
	near := func(m, n uint8) bool { return max(m, n)-min(m, n) <= sameColour }
	return near(p.R, q.R) && near(p.G, q.G) && near(p.B, q.B)
}

// pale is a light grey that keeps the shape of what is drawn.
func pale(c color.RGBA) color.RGBA {
	grey := uint8((299*int(c.R) + 587*int(c.G) + 114*int(c.B)) / 1000)
	light := 255 - (255-grey)/3
	return color.RGBA{R: light, G: light, B: light, A: 255}
}

func outline(img *image.RGBA, r image.Rectangle) {
	for x := r.Min.X; x < r.Max.X; x++ {
		img.SetRGBA(x, r.Min.Y, marked)
		img.SetRGBA(x, r.Max.Y-1, marked)
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		img.SetRGBA(r.Min.X, y, marked)
		img.SetRGBA(r.Max.X-1, y, marked)
	}
}
