package report

import (
	"fmt"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// review lists what the commit changes that can run code or raise privilege (P2). It stands in the
// comment of every run of a pull request, also of one that was refused or failed.
func review(run ccci.Run, result *ccci.Result) string {
	if result == nil || result.Review == nil {
		return ""
	}
	const most = 15
	r := result.Review
	against := Code(clip(r.Against, 100))
	if r.Commit != "" {
		against += " at " + Code(r.Commit.Short())
	}
	out := fmt.Sprintf("**Code and privileges that this commit changes**, compared with %s:", against)
	changes := unrefused(refusals(result), r.Changes)
	if len(changes) < len(r.Changes) {
		out = strings.TrimSuffix(out, ":") + ", apart from what is refused:"
	}
	approved := "\n\nThis run was approved for commit " + Code(run.Commit.Short()) + " only. A later push needs a new `!testme`."
	if !run.Status.Terminal() && run.CancelledBy == "" {
		approved += " `!cancel` ends it."
	}
	switch {
	case len(changes) == 0 && r.Note == "":
		return out + " none." + approved
	case len(changes) == 0:
		out += " not known."
	}
	for i, c := range changes {
		if i == most {
			out += fmt.Sprintf("\n- and %d more on the run's page", len(changes)-i)
			break
		}
		out += "\n- " + change(c)
	}
	if r.Note != "" {
		out += "\n- not everything could be compared: " + Text(clip(r.Note, 400))
	}
	return out + approved
}

// proposed says what is wrong with the enrolment files of the pull request (P20).
func proposed(result *ccci.Result) string {
	if result == nil || result.Review == nil || len(result.Review.Proposed) == 0 {
		return ""
	}
	const most = 10
	r := result.Review
	var files []string
	for i, file := range r.Proposed {
		if i == most {
			files = append(files, fmt.Sprintf("%d more", len(r.Proposed)-i))
			break
		}
		files = append(files, Code(clip(file, 120)))
	}
	out := "**Settings that this commit proposes** in " + strings.Join(files, ", ") + " (they do not count in this run):"
	if len(r.Findings) == 0 {
		return out + " no mistakes."
	}
	for i, f := range r.Findings {
		if i == most {
			return out + fmt.Sprintf("\n- and %d more on the run's page", len(r.Findings)-i)
		}
		out += "\n- " + finding(f)
		if f.Hint != "" {
			out += ". Hint: " + Text(clip(f.Hint, 300))
		}
	}
	return out
}

// change words one difference of two versions.
func change(c ccci.Change) string {
	line := Text(clip(c.Subject, 100)) + " " + Text(clip(c.What, 300))
	switch before, after := Code(clip(c.Before, 120)), Code(clip(c.After, 120)); {
	case before != "" && after != "":
		line += ": " + before + " → " + after
	case before != "" && c.Kind == "changed":
		line += ": " + before + " → nothing"
	case after != "" && c.Kind == "changed":
		line += ": nothing → " + after
	case before+after != "":
		line += ": " + before + after
	}
	return line
}
