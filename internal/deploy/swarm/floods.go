package swarm

import (
	"fmt"
	"slices"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// mostLog is how many bytes of log per second the containers of a run may write together. dockerd
	// reads, wraps and writes each line: 50 MB/s of short lines cost it a third of a processor or more.
	mostLog = 4 << 20
	// A run is ended when floodTimes of the last floodWindow measurements are above mostLog: with
	// diskInterval, after twenty seconds. A start that logs a lot is shorter.
	floodTimes, floodWindow = 4, 10
)

// logRate is how fast a container writes to its log, in bytes per second.
type logRate struct {
	container, service string
	bytes              int64
}

// logRateOf reads a line of [Box].Measure about a log.
func logRateOf(line string) (r logRate, ok bool) {
	n, _ := fmt.Sscanf(line, "log %d %s", &r.bytes, &r.container)
	return r, n == 2
}

// floods has, of the last measurements, whether the run's logs were above mostLog.
type floods []bool

// judge notes a measurement and says what is too much.
func (f *floods) judge(all []usage) error {
	var total int64
	var loudest logRate
	for _, u := range all {
		if u.log != nil {
			total += u.log.bytes
			if u.log.bytes > loudest.bytes {
				loudest = *u.log
			}
		}
	}
	*f = append(*f, total > mostLog)
	if len(*f) > floodWindow {
		*f = slices.Delete(*f, 0, 1)
	}
	above := 0
	for _, flood := range *f {
		if flood {
			above++
		}
	}
	if above < floodTimes {
		return nil
	}
	return ccci.Errorf(ccci.CodeRecipe, "log limit: the run writes %s of log per second, at most %s are allowed: service %s writes %s",
		bytesText(total), bytesText(mostLog), loudest.service, bytesText(loudest.bytes)).
		WithHint("turn off the app's debug output")
}
