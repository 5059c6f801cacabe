package ccci

import "regexp"

// passing are the parts of a message that differ from one deployment to the next while what went wrong
// is the same: times of day, names and numbers that Docker, Swarm or cc-ci gave to objects, and how
// often something was tried. Exit codes, versions and ports say what went wrong, and stay.
var passing = regexp.MustCompile(`\b\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?` + // 2026-11-30T12:00:01.5Z
	`|\b\d\d:\d\d:\d\d(?:[.,]\d+)?` +
	`|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b` + // UUID
	`|\b[a-z0-9]{1,4}-[0-9a-f]{6}(?:\b|_)` + // stack of a run, as cana-001778
	`|\b(?:0x)?[0-9a-f]{8,}\b` + // commit, digest, container, address
	`|\b[0-9a-z]{25}\b` + // task or service of Swarm
	`|\b\d+ (?:times|tries|attempts)\b|\b(?:try|attempt) \d+\b`)

// Same reports whether two causes are one: the same check failed and said the same, but for what
// differs from one deployment to the next.
func (c Cause) Same(other Cause) bool {
	return c.Check == other.Check && passing.ReplaceAllString(c.Message, "#") == passing.ReplaceAllString(other.Message, "#")
}

// LikeBase returns the broken base that fails as the commit under test does; nil when none does.
func (r *Result) LikeBase() *BrokenBase {
	for i := range r.BrokenBases {
		if r.Cause != nil && r.Cause.Same(r.BrokenBases[i].Cause) {
			return &r.BrokenBases[i]
		}
	}
	return nil
}
