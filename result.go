package ccci

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ResultSchema is the version of [Result]'s published JSON Schema
// (result.schema.json). A field may be added within a version; a change of
// meaning or a removal raises it.
const ResultSchema = 1

// CheckStatus is the outcome of one check or stage (U6).
type CheckStatus string

const (
	Pass       CheckStatus = "pass"
	Fail       CheckStatus = "fail"
	Skip       CheckStatus = "skip"       // declared or structural, always with a reason
	Unverified CheckStatus = "unverified" // should have run and did not; never counts as pass
	// Flaky is a check that failed and passed when the same deployment was asked again. It never
	// counts as pass (N14).
	Flaky CheckStatus = "flaky"
)

// CheckStatuses lists every status that a check may have.
var CheckStatuses = []CheckStatus{Pass, Fail, Skip, Unverified, Flaky}

// Worked reports whether the app did at last what was asked, so that what stands on it can be
// tested. It is not the same as a pass.
func (s CheckStatus) Worked() bool { return s == Pass || s == Flaky }

// Check is one question asked of the app and its answer.
type Check struct {
	Name     string        `json:"name"` // "install/health": stage, slash, lower-case words with hyphens
	Status   CheckStatus   `json:"status"`
	Message  string        `json:"message,omitempty"`  // one sentence; for skip and unverified the reason
	Detail   []string      `json:"detail,omitempty"`   // log lines or a body excerpt, at most 40 lines
	DetailOf string        `json:"detailOf,omitempty"` // what Detail is, as "Service app: its task, and the last 20 lines of its log"
	Code     Code          `json:"code,omitempty"`     // for fail: whose fault; recipe or infra
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration"` // nanoseconds
	// Attempts are both answers of a check that was asked twice, in their order; else it is empty.
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Attempt is one answer of a check that was asked twice.
type Attempt struct {
	Status   CheckStatus   `json:"status"` // pass or fail
	Message  string        `json:"message,omitempty"`
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration"` // nanoseconds
}

// FailedTwice reports whether the failure of a check was confirmed.
func (c Check) FailedTwice() bool { return c.Status == Fail && len(c.Attempts) > 1 }

// CheckWord makes the last part of a [Check]'s name of what people call it: lower-case words with
// hyphens. Names that differ in other characters alone make the same one.
func CheckWord(name string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteRune(r)
		default:
			dash = true
		}
	}
	if b.Len() == 0 {
		return "unnamed"
	}
	return b.String()
}

// Stage is one stage with its checks. Its status follows from them.
type Stage struct {
	Name     StageName     `json:"name"`
	Status   CheckStatus   `json:"status"`
	Reason   string        `json:"reason,omitempty"` // why skipped, unverified or failed
	Absent   bool          `json:"absent,omitempty"` // of a skip: there is nothing that the stage could test, as without a volume
	Started  time.Time     `json:"started,omitzero"`
	Duration time.Duration `json:"duration"` // nanoseconds
	Checks   []Check       `json:"checks"`
}

// Refused reports whether the check ended since the recipe asks for what no run gets.
func (c Check) Refused() bool { return c.Status == Fail && c.Code == CodeRefused }

// Refused reports whether the stage ended since the recipe asks for what no run gets: it is the
// first of its failures that counts.
func (s Stage) Refused() bool {
	i := slices.IndexFunc(s.Checks, func(c Check) bool { return c.Status == Fail })
	return s.Status == Fail && i >= 0 && s.Checks[i].Refused()
}

// Row is the stage as lists show it.
func (s Stage) Row() StageRow {
	return StageRow{Name: s.Name, Status: s.Status, Reason: s.Reason, Refused: s.Refused(), Duration: s.Duration}
}

// Settle computes the stage's status from its checks: any fail fails it, else
// any flaky one makes it flaky, else any unverified leaves it unverified, else any pass passes it, else it is a skip.
// A stage without checks is unverified: nothing was observed.
func (s *Stage) Settle() {
	rank := map[CheckStatus]int{Skip: 1, Pass: 2, Unverified: 3, Flaky: 4, Fail: 5}
	s.Status = ""
	for _, c := range s.Checks {
		if rank[c.Status] > rank[s.Status] {
			s.Status = c.Status
			if c.Status != Pass {
				s.Reason = c.Message
			} else {
				s.Reason = ""
			}
		}
	}
	if s.Status == "" {
		s.Status = Unverified
		if s.Reason == "" {
			s.Reason = "nothing was checked"
		}
	}
}

// Cause is the first real cause of a bad end (N12).
type Cause struct {
	Check   string   `json:"check"` // the name of the check that failed first
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
	Detail  []string `json:"detail,omitempty"`
	// DetailOf is what the lines of Detail are, as [Check.DetailOf].
	DetailOf string `json:"detailOf,omitempty"`
	// Findings lists what a recipe is refused for, each with the waiver that would lift it.
	Findings []Finding `json:"findings,omitempty"`
}

// Image is one container image that ran.
type Image struct {
	Service   string `json:"service"`
	Reference string `json:"reference"`
	Digest    string `json:"digest"` // the image's content identifier, "sha256:…"
	// RepoDigest is the reference under which the registry has these bytes, "name@sha256:…"; "" for
	// an image that came from none.
	RepoDigest string `json:"repoDigest,omitempty"`
	Size       int64  `json:"size"`  // bytes on disk
	Stage      string `json:"stage"` // "base", "head" or "dependency"
}

// Finding is one remark of the recipe linter, or one refusal of admission.
type Finding struct {
	Rule        string `json:"rule"`     // "R014" or "C003"; of a refusal "privileged"
	Severity    string `json:"severity"` // "error" or "warning"
	File        string `json:"file,omitempty"`
	Line        int    `json:"line,omitempty"` // from 1; 0 when unknown
	Message     string `json:"message"`
	Hint        string `json:"hint,omitempty"`
	Waiver      string `json:"waiver,omitempty"`      // the entry of recipe.yml that would lift a refusal; "" when none can
	AbraRefuses bool   `json:"abraRefuses,omitempty"` // abra refuses to deploy the recipe for it
}

// At names the place of a finding, as "compose.yml:12: "; "" for one that has none.
func (f Finding) At() string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File + ": "
	}
	return fmt.Sprintf("%s:%d: ", f.File, f.Line)
}

// Change is one difference between base and head that the people who run the
// app may notice when they upgrade (N8). Its texts come from the pull request and are
// plain text; values of secret-looking names are "***".
type Change struct {
	Subject string `json:"subject"` // "service app", "volume data", "env", "image app", "start-up", …
	Kind    string `json:"kind"`    // "added", "removed" or "changed"
	What    string `json:"what"`    // the part of a sentence that follows the subject
	Before  string `json:"before"`  // "" when there was nothing, or nothing to show
	After   string `json:"after"`
}

// Review is what a person who asked for a run of a pull request agreed to, as far as it differs
// from the target branch (P2), and what is wrong with the settings that it proposes (P20). Its
// texts come from the pull request and are plain text. It decides no verdict.
type Review struct {
	Against  string    `json:"against"`            // the target branch
	Commit   Commit    `json:"commit"`             // of it, where the pull request begins; "" when it is not known
	Changes  []Change  `json:"changes"`            // what can run code or raise privilege
	Proposed []string  `json:"proposed,omitempty"` // enrolment files that it adds or changes
	Findings []Finding `json:"findings,omitempty"` // mistakes in them
	Note     string    `json:"note,omitempty"`     // why something could not be compared
}

// Artifact is a file that a run left behind, by its path within the run's folder.
type Artifact struct {
	Path  string `json:"path"`
	Title string `json:"title"`
	Kind  string `json:"kind"` // "screenshot", "difference", "log", "report", "archive"
	Size  int64  `json:"size"` // bytes
}

// Teardown is the proof that nothing was left (A19, N6).
type Teardown struct {
	Clean     bool           `json:"clean"`
	Removed   map[string]int `json:"removed"`             // objects removed, by kind: service, container, network, …
	Leftovers []string       `json:"leftovers,omitempty"` // "volume stray-data": what the daemon has and had not before
	Duration  time.Duration  `json:"duration"`            // nanoseconds
	Error     string         `json:"error,omitempty"`
}

// Result is the whole output of one harness process.
type Result struct {
	Schema  int       `json:"schema"`
	Harness string    `json:"harness"` // version of cc-ci that wrote it
	RunID   RunID     `json:"runId"`
	Attempt int       `json:"attempt"` // that of the job, from 1
	Recipe  string    `json:"recipe"`
	PR      PRRef     `json:"pr"`
	Commit  Commit    `json:"commit"`
	Version string    `json:"version"`        // of the head; "" when the recipe states none
	Base    *Revision `json:"base,omitempty"` // what the upgrade started from; nil when there was none
	// BrokenBases failed by themselves, before anything of the commit under test was deployed.
	BrokenBases []BrokenBase `json:"brokenBases,omitempty"`
	Options     Options      `json:"options"`
	Trigger     Trigger      `json:"trigger,omitempty"` // "" for a person's wish
	Domain      string       `json:"domain"`
	// Dependencies are the other apps that were deployed for the run, in their order.
	Dependencies []Dependent `json:"dependencies,omitempty"`

	Status      Status  `json:"status"`
	Verdict     Verdict `json:"verdict"`
	Level       int     `json:"level"`       // 0 to 5
	LevelReason string  `json:"levelReason"` // why it is not higher; "" at 5
	Cause       *Cause  `json:"cause,omitempty"`
	Stages      []Stage `json:"stages"`

	Deployments int        `json:"deployments"` // how often an app was created; for a run that got so far exactly 1, and 1 for each dependency (U2)
	Upgrades    int        `json:"upgrades"`
	Lint        []Finding  `json:"lint"`
	LintRan     bool       `json:"lintRan"`
	Images      []Image    `json:"images"`
	Changes     []Change   `json:"changes"`          // what the upgrade changes for operators; what they must act on comes first
	Review      *Review    `json:"review,omitempty"` // nil when there is no target branch
	Settings    Settings   `json:"settings"`
	PeakMemory  int64      `json:"peakMemory"` // bytes, the sum over the app's containers at its highest sample
	Artifacts   []Artifact `json:"artifacts"`
	Warnings    []string   `json:"warnings"`
	Kept        *Kept      `json:"kept,omitempty"`     // the app's data, kept by a run of the sweep that was green until then
	Teardown    *Teardown  `json:"teardown,omitempty"` // nil when nothing was ever created

	Started  time.Time     `json:"started"`
	Finished time.Time     `json:"finished"`
	Duration time.Duration `json:"duration"` // nanoseconds
}

// Revision is a version of the recipe that was deployed.
type Revision struct {
	Version string `json:"version"`
	Commit  Commit `json:"commit"`
	Reason  string `json:"reason"` // why this one was chosen as base
}

// BrokenBase is a version that an upgrade should have started from and that does not install.
type BrokenBase struct {
	Version string `json:"version"`
	Commit  Commit `json:"commit"`
	What    string `json:"what"` // "the last release"
	Cause   Cause  `json:"cause"`
}

// Dependent is an app that was deployed because the recipe under test needs it.
type Dependent struct {
	Recipe  string `json:"recipe"`
	Version string `json:"version"`
	Commit  Commit `json:"commit"`
	Domain  string `json:"domain"`
}

// Settings are the effective settings by dotted key, in the form in which a
// person may read them: values of secret-looking keys are "***".
type Settings map[string]string

// FirstBase is what the run tried first to upgrade from, also when that is broken; nil when it
// tried nothing.
func (r *Result) FirstBase() *Revision {
	if len(r.BrokenBases) > 0 {
		return &Revision{Version: r.BrokenBases[0].Version, Commit: r.BrokenBases[0].Commit}
	}
	return r.Base
}

// Stage returns the named stage, or a zero Stage that is unverified.
func (r *Result) Stage(name StageName) Stage {
	for _, s := range r.Stages {
		if s.Name == name {
			return s
		}
	}
	return Stage{Name: name, Status: Unverified, Reason: "the run ended before it"}
}

// VerdictWord names the verdict for people. Of the runs that are inconclusive, a flaky one is named so.
func (r *Result) VerdictWord() string {
	if r.Status == StatusFlaky {
		return string(r.Status)
	}
	return string(r.Verdict)
}

// Check returns the first check of that name, or nil.
func (r *Result) Check(name string) *Check {
	for i := range r.Stages {
		for j := range r.Stages[i].Checks {
			if c := &r.Stages[i].Checks[j]; c.Name == name {
				return c
			}
		}
	}
	return nil
}

// Flaky returns the checks that are flaky, in their order.
func (r *Result) Flaky() (checks []Check) {
	for _, s := range r.Stages {
		for _, c := range s.Checks {
			if c.Status == Flaky {
				checks = append(checks, c)
			}
		}
	}
	return checks
}
