package report

import (
	"fmt"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Settle maps how a build ended and what it found to the run's end (N7). It is
// green only when everything agrees that it is; what nobody can explain is our
// fault and never the recipe's.
func Settle(run ccci.Run, build ccci.Build, result *ccci.Result, problem string, deadline time.Duration) (ccci.Status, string) {
	switch build.Ending {
	case ccci.EndCancelled:
		return ccci.StatusCancelled, ""
	case ccci.EndDeadline:
		return ccci.StatusInconclusive, "the run took longer than " + Duration(deadline) + " and was ended"
	case ccci.EndLost:
		return ccci.StatusErrored, "the machine or the engine failed during the run, more often than a run is repeated"
	case ccci.EndExited:
	default:
		return ccci.StatusErrored, fmt.Sprintf("the engine says of the build that it %q", build.Ending)
	}
	if result == nil {
		if run.CancelledBy != "" {
			return ccci.StatusCancelled, ""
		}
		return ccci.StatusErrored, fmt.Sprintf("the harness ended with exit code %d: %s", build.ExitCode, problem)
	}
	cause := OneLine(result.Cause)
	switch result.Status {
	case ccci.StatusPassed:
		switch {
		case build.ExitCode != 0:
			return ccci.StatusErrored, fmt.Sprintf("the result says passed and the harness ended with exit code %d", build.ExitCode)
		case result.Teardown == nil:
			return ccci.StatusErrored, "the result says passed and holds no proof of teardown"
		case !result.Teardown.Clean || len(result.Teardown.Leftovers) > 0:
			return ccci.StatusFailed, "teardown left objects behind"
		}
		return ccci.StatusPassed, ""
	case ccci.StatusFailed:
		return ccci.StatusFailed, cause
	case ccci.StatusRefused, ccci.StatusErrored, ccci.StatusInconclusive, ccci.StatusFlaky:
		return result.Status, cause
	case ccci.StatusCancelled:
		if run.CancelledBy != "" {
			return ccci.StatusCancelled, ""
		}
		return ccci.StatusErrored, "the harness was interrupted, but the run was not cancelled"
	}
	return ccci.StatusErrored, fmt.Sprintf("the harness ended with exit code %d and its result says %q", build.ExitCode, result.Status)
}
