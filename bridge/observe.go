package bridge

import (
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Observer is told what a bridge does, for figures. Its methods are called from
// many goroutines, must not block, and get words from closed sets where they are
// used as labels: forge, verb, outcome and reason.
type Observer interface {
	// Looked: a repository's comments were asked for, so long after they should have been.
	Looked(forge string, late time.Duration, err error)
	// Reachable: the forge became reachable, or ceased to be.
	Reachable(forge string, yes bool)
	// Decided: a command was decided.
	Decided(forge string, verb Verb, outcome, reason string)
	// Started: a run began to run.
	Started(forge string, run ccci.Run)
	// Ended: a run ended; result may be nil.
	Ended(forge string, run ccci.Run, result *ccci.Result)
	// Said: a message was delivered, or a try failed.
	Said(forge string, kind ccci.MessageKind, err error)
	// Answered: a command got its first answer, so long after it was written.
	Answered(forge string, after time.Duration)
	// Told: a run's verdict stands on its pull request, so long after its end.
	Told(forge string, after time.Duration)
	// Waiting: so many messages wait to be delivered, the oldest for so long.
	Waiting(forge string, messages int, oldest time.Duration)
}

// unobserved is the Observer of a bridge that has none.
type unobserved struct{}

func (unobserved) Looked(string, time.Duration, error)                      {}
func (unobserved) Reachable(string, bool)                                   {}
func (unobserved) Decided(string, Verb, string, string)                     {}
func (unobserved) Started(string, ccci.Run)                                 {}
func (unobserved) Ended(string, ccci.Run, *ccci.Result)                     {}
func (unobserved) Said(string, ccci.MessageKind, error)                     {}
func (unobserved) Answered(string, time.Duration)                           {}
func (unobserved) Told(string, time.Duration)                               {}
func (unobserved) Waiting(forge string, messages int, oldest time.Duration) {}
