package dashboard

import (
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
)

// trend is a chart of how long runs took, oldest on the left, with the same in words.
type trend struct {
	Width, Height int
	Bars          []trendBar
	MedianY       float64
	Median        string
	Words         string
}

type trendBar struct {
	X, Y, W, H float64
	Mark       mark
	Run        ccci.RunID
	Label      string
}

const trendBars = 40

// drawTrend charts finished runs, given newest first; nil when fewer than two
// have a length.
func drawTrend(runs []ccci.Run) *trend {
	var done []ccci.Run
	for _, r := range runs {
		if len(forecast.Spans([]ccci.Run{r})) == 1 && len(done) < trendBars {
			done = append(done, r)
		}
	}
	if len(done) < 2 {
		return nil
	}
	slices.Reverse(done)
	all := forecast.Spans(done)
	longest, mid := slices.Max(all), forecast.Median(all)
	t := &trend{Width: 640, Height: 120, Median: duration(mid)}
	slot := float64(t.Width) / float64(max(len(done), 12))
	scale := float64(t.Height-8) / float64(longest)
	for i, r := range done {
		h := max(float64(all[i])*scale, 3)
		t.Bars = append(t.Bars, trendBar{
			X: round(float64(i) * slot), W: round(slot - min(4, slot/4)), H: round(h), Y: round(float64(t.Height) - h),
			Mark: runMark(r), Run: r.ID,
			Label: fmt.Sprintf("%s, %s, %s", r.Finished.UTC().Format("2 Jan 2006"), r.Word(), duration(all[i])),
		})
	}
	t.MedianY = round(float64(t.Height) - float64(mid)*scale)
	t.Words = trendWords(done, all, mid)
	return t
}

func trendWords(done []ccci.Run, all []time.Duration, mid time.Duration) string {
	last := all[len(all)-1]
	passed := 0
	for _, r := range done {
		if r.Status == ccci.StatusPassed {
			passed++
		}
	}
	words := fmt.Sprintf("Of the last %d whole runs %d passed. Half of them took less than %s; the last took %s",
		len(done), passed, duration(mid), duration(last))
	if len(all) >= 4 {
		before := forecast.Median(all[:len(all)-1])
		switch change := float64(last)/float64(before) - 1; {
		case change > 0.2:
			words += fmt.Sprintf(", %.0f %% longer than usual", change*100)
		case change < -0.2:
			words += fmt.Sprintf(", %.0f %% shorter than usual", -change*100)
		default:
			words += ", about as long as usual"
		}
	}
	return words + "."
}

func round(f float64) float64 { return float64(int(f*10+0.5)) / 10 }
