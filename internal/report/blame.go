package report

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Sentences are words of a run that its comment and its page share, each in its own markup.
type Sentences []Words

// Words are a part of a sentence. Those that are ours are shown as they are, foreign ones as [Text]
// makes them, and code as code.
type Words struct {
	Text    string
	Code    bool // a command, or foreign text that is a name or a version
	foreign bool
}

func code(s string) Words    { return Words{Text: clip(visible(s), 100), Code: true} }
func foreign(s string) Words { return Words{Text: clip(visible(s), 100), foreign: true} }

// say makes sentences of a format, whose every %s stands for one of words. What it has in backquotes is code.
func say(format string, words ...Words) (s Sentences) {
	for i, part := range strings.Split(format, "%s") {
		if i > 0 {
			s = append(s, words[i-1])
		}
		for j, text := range strings.Split(part, "`") {
			if text != "" {
				s = append(s, Words{Text: text, Code: j%2 == 1})
			}
		}
	}
	return s
}

// markdown renders sentences for a comment.
func (s Sentences) markdown() string {
	var b strings.Builder
	for _, w := range s {
		switch {
		case w.Code:
			b.WriteString(Code(w.Text))
		case w.foreign:
			b.WriteString(Text(w.Text))
		default:
			b.WriteString(w.Text)
		}
	}
	return b.String()
}

// Blame says whose the outcome of a run is; nothing where its word says that already.
func Blame(run ccci.Run, result *ccci.Result) Sentences {
	switch run.Status {
	case ccci.StatusFailed:
		return blameOfFailure(result)
	case ccci.StatusRefused:
		if len(refusals(result)) > 0 { // the cause says what for
			return say("The recipe was not tested.")
		}
		return say("The recipe asks for something that cc-ci does not allow. It was not tested.")
	case ccci.StatusErrored:
		return say("cc-ci, its machine or a registry failed. The recipe did not cause it.")
	case ccci.StatusInconclusive:
		switch b := brokenStart(run, result); {
		case b == nil:
			return say("The time limit was reached before there was a result. Either the app hangs or the machine is slow: cc-ci cannot tell which.")
		case run.Options.Quick:
			return say("%s, the last green canonical, from which this quick run was to start, did not install. This says nothing about your commit.", code(b.Version))
		default:
			return say("%s, the release from which this run was to start, did not install, so the upgrade from it has no answer.", code(b.Version))
		}
	case ccci.StatusFlaky:
		return say("A check failed and then passed on the same deployment. Either the app or the check is unreliable: cc-ci cannot tell which. A flaky run is not a pass.")
	}
	return nil
}

func blameOfFailure(result *ccci.Result) Sentences {
	switch {
	case result == nil || result.Cause == nil && (result.Teardown == nil || result.Teardown.Clean):
		return nil
	case result.Cause == nil:
		return say("The recipe passed what was tested, but objects were left after its removal.")
	case onlyBroken(result):
		if b := result.LikeBase(); b != nil {
			return say("%s, %s, fails in the same way. This commit probably did not cause it, but cannot pass until it is fixed.", code(b.Version), foreign(b.What))
		}
		b := result.BrokenBases[len(result.BrokenBases)-1]
		return say("This commit and %s both fail to install, for different reasons. The recipe has to change.", foreign(b.What))
	case strings.HasPrefix(result.Cause.Check, "checks/"):
		return say("The app did not do what a check expects. The recipe has to change, or the check.")
	}
	return say("The recipe has to change.")
}

// onlyBroken reports whether a commit failed to install that had no release to start from, since none
// installs.
func onlyBroken(result *ccci.Result) bool {
	return strings.HasPrefix(result.Cause.Check, "install/") && len(result.BrokenBases) > 0 && result.Base == nil
}

// Part says what a run was restricted to; "" for a whole run.
func Part(o ccci.Options) string {
	if o.Whole() {
		return ""
	}
	return partOf(o)
}

// brokenStart is the base that was asked for and did not install, which leaves a run without its answer;
// nil for a run whose time was up.
func brokenStart(run ccci.Run, result *ccci.Result) *ccci.BrokenBase {
	if result == nil || result.Status != ccci.StatusInconclusive || result.Cause == nil || len(result.BrokenBases) == 0 {
		return nil
	}
	b := &result.BrokenBases[len(result.BrokenBases)-1]
	if run.Options.Quick && result.Cause.Same(b.Cause) || run.Options.From != "" && result.Cause.Check == string(ccci.StageUpgrade) {
		return b
	}
	return nil
}

// Bases says what it means for the commit that the upgrade could not start from a release; nothing when it could.
func Bases(result *ccci.Result) Sentences {
	if result == nil || len(result.BrokenBases) == 0 {
		return nil
	}
	deployed := slices.ContainsFunc(result.Images, func(i ccci.Image) bool { return i.Stage == "head" })
	switch {
	case result.Base != nil && deployed:
		return say("The upgrade started from %s instead. This pull request did not cause the failure of the release.", code(result.Base.Version))
	case deployed && result.Stage(ccci.StageInstall).Status != ccci.Pass:
		return say("This commit was installed without the release, and failed as well.")
	case deployed:
		return say("This commit was installed without the release, and the upgrade to it was not tested. This pull request did not cause that. A release of this commit gives later upgrades a base that installs.")
	}
	return say("This commit was not deployed.")
}

// Next says what a person can do now; nothing where there is nothing to do.
func Next(run ccci.Run, result *ccci.Result) Sentences {
	switch run.Status {
	case ccci.StatusPassed:
		if run.PR.Number > 0 && run.Options.Whole() {
			return say("Once these files are on the default branch, this is the recipe's verdict, and its badge shows it.")
		}
	case ccci.StatusFailed:
		if result != nil && slices.ContainsFunc(result.Stages, func(s ccci.Stage) bool { return s.Status == ccci.Fail }) {
			return say("Push a fix, then comment `!testme`. To repeat the failed stages of this commit, comment `!retest`.")
		}
		return say("Push a fix, then comment `!testme`.")
	case ccci.StatusRefused:
		return afterRefusal(result)
	case ccci.StatusErrored:
		return say("Comment `!testme` to try again, or `!retest` to repeat only what did not pass. If it ends the same way, tell the operator of cc-ci.")
	case ccci.StatusInconclusive:
		switch b := brokenStart(run, result); {
		case b == nil:
			return say("Comment `!testme` to try again. If it ends the same way, read what the app waits for in its log.")
		case run.Options.Quick:
			return say("Comment `!testme` to test this commit without the canonical.")
		default:
			return say("Comment `!testme` to start from a release that installs, or name another one with `from=`.")
		}
	case ccci.StatusFlaky:
		return say("Push a fix, then comment `!testme`.")
	case ccci.StatusCancelled:
		if run.Superseded.IsZero() { // otherwise it says itself what to do
			return say("Comment `!testme` to test it.")
		}
	}
	return nil
}

// again is [Next] in a comment, and how to see the same at home.
func again(run ccci.Run, result *ccci.Result, links Links) string {
	next := Next(run, result).markdown()
	if command := Reproduce(run, result, links); command != "" && run.Status != ccci.StatusCancelled {
		next += " Reproduce it on your machine: " + Code(command)
	}
	return strings.TrimSpace(next)
}

// brokenBases says which releases the upgrade could not start from, and what that means for the commit.
func brokenBases(run ccci.Run, result *ccci.Result, detail int) string {
	if result == nil || len(result.BrokenBases) == 0 {
		return ""
	}
	var parts []string
	for _, b := range BrokenBases(run, result) {
		line := fmt.Sprintf("**Install of %s, %s, failed**", Code(clip(b.Version, 100)), Text(clip(b.What, 100)))
		if result.Cause == nil || !result.Cause.Same(b.Cause) {
			line += ": " + Code(clip(b.Cause.Check, 100)) + ": " + Text(clip(b.Cause.Message, 600))
			if n := min(len(b.Cause.Detail), detail); n > 0 {
				line += "\n\n" + titled(b.Cause, n)
			}
			if b.Cause.Hint != "" {
				line += "\n\n**Hint:** " + Text(clip(b.Cause.Hint, 400))
			}
		}
		parts = append(parts, line)
	}
	return strings.Join(append(parts, Bases(result).markdown()), "\n\n")
}
