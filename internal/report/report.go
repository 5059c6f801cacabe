// Package report words a run for the people on a pull request: the comment
// that follows it, and the commit status. It is pure: the same run, result,
// links and queue always give the same text, byte by byte.
//
// Whatever comes from a recipe, its containers or its authors is hostile text.
// It reaches the Markdown through [Text], [Code] and [Block] alone, so that it
// can open no link, no heading, no HTML, mention nobody and look like no command.
package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Limit is the size in bytes that no comment exceeds. Forges take 65,536
// characters; the difference is room for what they add themselves.
const Limit = 60_000

// Links are the addresses of a run's pages; "" where there is none.
type Links struct {
	Run   string // the run's page: live stages, log, files
	Files string // prefix of its artifacts, with the final slash
	Queue string
}

// LinksFor derives a run's links from the dashboard's address, as
// "https://ci.example.org". An empty address gives no links.
func LinksFor(dashboard string, id ccci.RunID) Links {
	base := strings.TrimRight(dashboard, "/")
	if base == "" {
		return Links{}
	}
	run := base + "/runs/" + string(id)
	return Links{Run: run, Files: run + "/files/", Queue: base + "/queue"}
}

// Queue is where a run stands among those that wait.
type Queue struct {
	Position int       // 1 for the next to start
	Ahead    []string  // what runs or waits before it, as "miniflux#3 (running)"
	Start    time.Time // when it is expected to start; zero when nothing is known
}

// Comment renders a run's comment: a live checklist while it runs, the verdict
// when it has ended. result is nil while there is none, and also when a run
// ended without one; of a run that goes on it has the review alone. queue is nil unless the run waits.
func Comment(run ccci.Run, result *ccci.Result, links Links, queue *Queue) string {
	// Detail is what can be large; without it every part is bounded.
	for _, lines := range []int{40, 10, 0} {
		body := comment(run, result, links, queue, lines)
		if len(body) <= Limit {
			return body
		}
	}
	return headline(run, result) + "\n\n" + footer(run, links)
}

func comment(run ccci.Run, result *ccci.Result, links Links, queue *Queue, detail int) string {
	parts := []string{headline(run, result)}
	add := func(part string) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if !run.Status.Terminal() {
		add(repeated(run))
		add(waiting(run, queue))
		add(checklist(run, stageRows(run, nil), nil))
		add(review(run, result))
		add(proposed(result))
		add(footer(run, links))
		return strings.Join(parts, "\n\n") + "\n"
	}
	add(Blame(run, result).markdown())
	add(level(run, result, links))
	add(superseded(run, links))
	add(cause(run, result, detail))
	add(flakes(run, result))
	add(findings(run, result))
	add(brokenBases(run, result, min(detail, 10)))
	if run.Superseded.IsZero() || result != nil { // otherwise no stage was reached
		rows := withoutSaid(stageRows(run, result), run, result)
		add(checklist(run, rows, versions(run, result)))
		if run.Status == ccci.StatusPassed { // any other word says that already
			add(skips(rows))
		}
	}
	add(review(run, result))
	add(proposed(result))
	add(changes(run, result))
	add(teardown(run, result))
	add(warnings(run, result))
	add(artifacts(result, links))
	add(again(run, result, links))
	add(footer(run, links))
	return strings.Join(parts, "\n\n") + "\n"
}

var runSymbols = map[ccci.Status]string{
	ccci.StatusQueued: "⏳", ccci.StatusRunning: "🔄", ccci.StatusPassed: "✅", ccci.StatusFailed: "❌", ccci.StatusRefused: "⛔",
	ccci.StatusInconclusive: "❔", ccci.StatusFlaky: "🔁", ccci.StatusErrored: "⚠️", ccci.StatusCancelled: "🚫",
}

// headline is the first line, from which alone the outcome is clear.
func headline(run ccci.Run, result *ccci.Result) string {
	what := Code(run.Recipe)
	if v := version(run, result); v != "" {
		what += " " + Code(v)
	}
	what += " at " + Code(run.Commit.Short())
	line := fmt.Sprintf("### %s %s: %s", runSymbols[run.Status], run.Word(), what)
	if !run.Options.Whole() {
		line += " (" + Text(partOf(run.Options)) + ")"
	}
	return line
}

func version(run ccci.Run, result *ccci.Result) string {
	if result != nil && result.Version != "" {
		return result.Version
	}
	return run.Version
}

// partOf says what a run was restricted to, so that its green is not taken for more.
func partOf(o ccci.Options) string {
	if o.Quick && o.Retest != "" {
		return "retest, quick"
	}
	if o.Quick {
		return "quick"
	}
	var names []string
	for _, s := range ccci.StageNames {
		if o.Wants(s) {
			names = append(names, string(s))
		}
	}
	var parts []string
	switch {
	case o.Retest != "":
		parts = append(parts, "retest of "+strings.Join(names, ", "))
	case len(names) < len(ccci.StageNames):
		parts = append(parts, "only "+strings.Join(names, ", "))
	}
	if o.From != "" {
		parts = append(parts, "upgrade from "+o.From)
	}
	return strings.Join(parts, "; ")
}

// repeated says why a run that is under way is not in its first attempt.
func repeated(run ccci.Run) string {
	if run.Attempt < 2 || run.Cause == "" {
		return ""
	}
	return "The attempt before ended without a verdict: " + Text(run.Cause) + ". The recipe did not cause it. This is the last attempt."
}

func waiting(run ccci.Run, queue *Queue) string {
	if !run.Superseded.IsZero() {
		return "Superseded by " + Text(run.Superseded.By()) + ". It will not run."
	}
	if run.CancelledBy != "" {
		return "Cancelled by " + Code(run.CancelledBy) + ". cc-ci removes what the run created; this comment will say when that is complete."
	}
	if run.Status != ccci.StatusQueued {
		return ""
	}
	if queue == nil {
		return "Starting."
	}
	line := fmt.Sprintf("Position %d in the queue", queue.Position)
	if n := len(queue.Ahead); n > 0 {
		shown := make([]string, 0, 5)
		for _, a := range queue.Ahead[:min(n, 5)] {
			shown = append(shown, Text(a))
		}
		if n > 5 {
			shown = append(shown, fmt.Sprintf("%d more", n-5))
		}
		line += ", behind " + strings.Join(shown, ", ")
	}
	if !queue.Start.IsZero() {
		line += ". Expected start: about " + queue.Start.UTC().Format("15:04 MST")
	}
	return line + "."
}

// stageRows merges what is known about every stage, in order.
func stageRows(run ccci.Run, result *ccci.Result) []ccci.StageRow {
	rows := make([]ccci.StageRow, 0, len(ccci.StageNames))
	for _, name := range ccci.StageNames {
		row := ccci.StageRow{Name: name}
		if i := slices.IndexFunc(run.Stages, func(r ccci.StageRow) bool { return r.Name == name }); i >= 0 {
			row = run.Stages[i]
		}
		if result != nil {
			s := result.Stage(name)
			if s.Checks == nil && !run.Options.Wants(name) {
				rows = append(rows, ccci.StageRow{Name: name})
				continue
			}
			row = s.Row()
		}
		if run.Status.Terminal() {
			row.Running = false
			if row.Status == "" && run.Options.Wants(name) {
				row.Status, row.Reason = ccci.Unverified, ccci.WordNotReached
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// withoutSaid takes the reason from a stage where the cause or the reason of the level has told it.
func withoutSaid(rows []ccci.StageRow, run ccci.Run, result *ccci.Result) []ccci.StageRow {
	if result == nil {
		return rows
	}
	for i, row := range rows {
		ofCause := result.Cause != nil && row.Status != ccci.Pass && (result.Cause.Check == string(row.Name) || strings.HasPrefix(result.Cause.Check, string(row.Name)+"/"))
		if ofCause || row.Reason != "" && strings.HasSuffix(whyNotHigher(run, result), ": "+row.Reason) {
			rows[i].Reason = ""
		}
	}
	return rows
}

// versions says what install and upgrade deployed: the upgrade starts from the base, which is what
// is installed first; without one the commit itself is.
func versions(run ccci.Run, result *ccci.Result) map[ccci.StageName]string {
	if result == nil || result.Version == "" {
		return nil
	}
	head := Code(clip(result.Version, 100))
	if result.Base == nil || !run.Options.Wants(ccci.StageUpgrade) {
		return map[ccci.StageName]string{ccci.StageInstall: "of " + head}
	}
	return map[ccci.StageName]string{ccci.StageInstall: "of " + Code(clip(result.Base.Version, 100)), ccci.StageUpgrade: "to " + head}
}

// checklist lists the stages. of says what was deployed in them.
func checklist(run ccci.Run, rows []ccci.StageRow, of map[ccci.StageName]string) string {
	var lines []string
	for i := 0; i < len(rows); i++ {
		row := rows[i]
		name := string(row.Name)
		for untested(row) && i+1 < len(rows) && sameReason(row, rows[i+1]) {
			i++ // one line for what one cause kept from being tested
			name += ", " + string(rows[i].Name)
		}
		switch {
		case row.Running:
			lines = append(lines, fmt.Sprintf("- 🔄 **%s** %s", name, ccci.StatusRunning.Word()))
		case row.Status == "" && !run.Options.Wants(row.Name):
			lines = append(lines, fmt.Sprintf("- ➖ %s %s", name, ccci.WordNotAskedFor))
		case row.Status == "":
			lines = append(lines, fmt.Sprintf("- ⬜ %s", name))
		default:
			if row.Status == ccci.Unverified && strings.HasPrefix(row.Reason, "not run: ") {
				lines = append(lines, fmt.Sprintf("- %s **%s** %s", symbolOf(row), name, Text(clip(row.Reason, 300))))
				continue
			}
			line := fmt.Sprintf("- %s **%s** %s", symbolOf(row), name, row.Word())
			deployed := row.Status.Worked() || row.Status == ccci.Fail && !row.Refused
			if of := of[row.Name]; of != "" && deployed {
				line = fmt.Sprintf("- %s **%s** %s %s", symbolOf(row), name, of, row.Word())
			}
			if !untested(row) && row.Duration > 0 {
				line += " in " + Duration(row.Duration)
			}
			if row.Reason != "" && row.Status != ccci.Pass {
				line += ": " + Text(clip(row.Reason, 300))
			}
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// sameReason reports whether two stages were not tested for one reason.
func sameReason(a, b ccci.StageRow) bool {
	return b.Status == a.Status && b.Reason == a.Reason && untested(b) && !b.Running
}

// untested reports whether a stage has a reason in place of an answer, and took no time.
func untested(row ccci.StageRow) bool {
	return (row.Status == ccci.Unverified || row.Status == ccci.Skip) && row.Duration < time.Millisecond
}

func symbolOf(row ccci.StageRow) string {
	if row.Refused {
		return runSymbols[ccci.StatusRefused]
	}
	switch row.Status {
	case ccci.Pass:
		return "✅"
	case ccci.Fail:
		return "❌"
	case ccci.Skip:
		return "⏭️"
	case ccci.Flaky:
		return "🔁"
	}
	return "❔"
}

// whyNotHigher is the reason of the level, "" where the comment gives none: there is no level, or the
// cause is the reason.
func whyNotHigher(run ccci.Run, result *ccci.Result) string {
	c := result.Cause
	if !run.Status.Judged() || run.Options.Quick || c != nil && c.Message != "" && strings.Contains(result.LevelReason, c.Message) {
		return ""
	}
	return result.LevelReason
}

// level names the rung and why it is not a higher one (U7).
func level(run ccci.Run, result *ccci.Result, links Links) string {
	if result == nil || !run.Status.Judged() {
		return ""
	}
	if run.Options.Quick {
		line := "**Quick.** Only the upgrade was tested in full"
		if result.Base != nil {
			line += ", with kept data: " + Text(clip(result.Base.Reason, 300))
		}
		return line + ". A quick run gives no level and does not change the badge. `!testme` tests everything."
	}
	line := fmt.Sprintf("**Level %d of 5.**", result.Level)
	if why := whyNotHigher(run, result); why != "" {
		line += " Why not higher: " + Text(strings.TrimRight(clip(why, 400), ".")) + "."
	}
	if !run.Options.Whole() {
		line += " It does not change the badge: only `!testme` without options does."
	}
	if links.Run != "" {
		line += " [What the levels mean](" + links.Run + "#levels)."
	}
	return line
}

// superseded says why a run left the queue, and what to do in its place (P4).
func superseded(run ccci.Run, links Links) string {
	switch s := run.Superseded; {
	case s.Run != "":
		newer := "run " + Code(string(s.Run))
		if links.Run != "" {
			newer = "[run " + string(s.Run) + "](" + strings.TrimSuffix(links.Run, string(run.ID)) + string(s.Run) + ")"
		}
		line := "A newer command on this pull request took its place in the queue: " + newer
		if s.Head != "" {
			return line + ", which tests the newer commit " + Code(s.Head.Short()) + ". This says nothing about the recipe."
		}
		return line + ". This says nothing about the recipe. If you want both, repeat this command once that run has started."
	case s.Head != "":
		return "A newer commit was pushed while the run waited: the head is " + Code(s.Head.Short()) + " now. The older commit was not tested, which says nothing about the recipe. " +
			"The new one is tested when a member has read it and comments:\n\n" + Block([]string{"!testme " + string(s.Head)})
	}
	return ""
}

// cause shows the first real cause and its own log lines (N12), not the last ones.
func cause(run ccci.Run, result *ccci.Result, detail int) string {
	if run.Status == ccci.StatusPassed {
		return ""
	}
	var parts []string
	// A cause of the run itself (a deadline, a lost machine) explains why whatever
	// the harness noticed came about, so it goes first.
	var c *ccci.Cause
	if result != nil {
		c = result.Cause
	}
	if run.Cause != "" && (c == nil || run.Cause != OneLine(c)) {
		parts = append(parts, "**Cause:** "+Text(clip(run.Cause, 500)))
	}
	if c != nil {
		message, hint := CauseWords(run, result)
		line := "**First cause:** "
		if c.Check != "" {
			line += Code(clip(c.Check, 100))
			if asked := result.Check(c.Check); asked != nil && asked.FailedTwice() {
				line += " failed twice"
			}
			line += ": "
		}
		if message != "" || c.Message == "" {
			parts = append(parts, line+Text(clip(message, 600)))
		}
		if hint != "" {
			parts = append(parts, "**Hint:** "+Text(clip(hint, 400)))
		}
		if n := min(len(c.Detail), detail); n > 0 {
			parts = append(parts, titled(*c, n))
		}
	}
	switch {
	case run.Status == ccci.StatusCancelled && run.CancelledBy != "" && run.Superseded.IsZero():
		parts = append([]string{"Cancelled by " + Code(run.CancelledBy) + ". This says nothing about the recipe."}, parts...)
	}
	return strings.Join(parts, "\n\n")
}

// titled is the block of a cause's first lines, under a line that says what they are.
func titled(c ccci.Cause, lines int) string {
	title := "Lines of the check"
	if c.DetailOf != "" {
		title = Text(clip(c.DetailOf, 200))
	}
	if lines < len(c.Detail) {
		title += fmt.Sprintf(" (%d of %d lines; the run's page has all)", lines, len(c.Detail))
	}
	return title + ":\n\n" + Block(c.Detail[:lines])
}

// finding words one remark of the linter or of admission, with where it stands.
func finding(f ccci.Finding) string {
	line := Code(f.Rule) + " " + Text(clip(f.Message, 300))
	if f.File == "" {
		return line
	}
	return Code(clip(strings.TrimSuffix(f.At(), ": "), 120)) + " " + line
}

// OneLine puts a cause into one line, the form in which [ccci.Run] keeps it.
func OneLine(c *ccci.Cause) string {
	if c == nil {
		return ""
	}
	line := strings.Join(strings.Fields(c.Message), " ")
	if c.Check != "" {
		line = c.Check + ": " + line
	}
	return clip(line, 300)
}

// skips says aloud what was not tested; a skip is never a pass.
func skips(rows []ccci.StageRow) string {
	var names []string
	for _, r := range rows {
		if r.Status == ccci.Skip || r.Status == ccci.Unverified {
			names = append(names, string(r.Name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "**Not tested:** " + strings.Join(names, ", ") + "."
}

func footer(run ccci.Run, links Links) string {
	parts := []string{"run " + Code(string(run.ID))}
	if links.Run != "" {
		parts = []string{"[Run " + string(run.ID) + "](" + links.Run + ")"}
	}
	if run.RequestedBy.Name != "" {
		parts = append(parts, "requested by "+Code(run.RequestedBy.Name))
	}
	if run.Status.Terminal() && !run.Started.IsZero() && run.Finished.After(run.Started) {
		parts = append(parts, "took "+Duration(run.Finished.Sub(run.Started)))
	}
	if run.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", run.Attempt))
	}
	if !run.Status.Terminal() && links.Queue != "" && run.Status == ccci.StatusQueued {
		parts = append(parts, "[queue]("+links.Queue+")")
	}
	return strings.Join(parts, " · ")
}
