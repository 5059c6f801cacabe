package ccci

// Word is what people read for a status, the same on pages and badges, in comments and in commit
// statuses. A status that is not one of [Statuses] is its own word.
func (s Status) Word() string {
	if s == StatusErrored {
		return string(VerdictErrored)
	}
	return string(s)
}

// Word is what people read for the outcome of a check or a stage. The zero value is one that did
// not end yet.
func (s CheckStatus) Word() string {
	switch s {
	case "":
		return "waiting"
	case Pass:
		return "passed"
	case Fail:
		return "failed"
	case Skip:
		return "skipped"
	}
	return string(s)
}

// WordNotAskedFor and WordNotReached are what people read for a stage that has no outcome: the
// comment left it out, or the run ended before it. WordNotTested is for a recipe without a verdict,
// WordStale for one whose verdict is too old to count.
const (
	WordNotAskedFor = "not asked for"
	WordNotReached  = "not reached"
	WordNotTested   = "not tested"
	WordStale       = "stale"
)
