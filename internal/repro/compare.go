package repro

import (
	"fmt"
	"slices"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Same reports whether two results have the same verdict, whatever single checks say.
func Same(before, after *ccci.Result) bool {
	return before.VerdictWord() == after.VerdictWord() && before.Level == after.Level
}

// Verdict writes a result's verdict: "passed, level 5".
func Verdict(r *ccci.Result) string { return fmt.Sprintf("%s, level %d", r.VerdictWord(), r.Level) }

// Differences lists the checks whose outcome is not the same in two results, in their order.
func Differences(before, after *ccci.Result) []string {
	type row struct{ before, after *ccci.Check }
	rows := map[string]*row{}
	var order []string
	each := func(r *ccci.Result, note func(*row, *ccci.Check)) {
		for i := range r.Stages {
			for j := range r.Stages[i].Checks {
				c := &r.Stages[i].Checks[j]
				if rows[c.Name] == nil {
					rows[c.Name] = &row{}
					order = append(order, c.Name)
				}
				note(rows[c.Name], c)
			}
		}
	}
	each(before, func(r *row, c *ccci.Check) { r.before = c })
	each(after, func(r *row, c *ccci.Check) { r.after = c })
	var all []string
	for _, name := range order {
		switch r := rows[name]; {
		case r.after == nil:
			all = append(all, fmt.Sprintf("%s: %s then, did not run now", name, r.before.Row().Word()))
		case r.before == nil:
			all = append(all, withMessage(fmt.Sprintf("%s: did not run then, %s now", name, r.after.Row().Word()), r.after.Message))
		case r.before.Row() != r.after.Row():
			all = append(all, withMessage(fmt.Sprintf("%s: %s then, %s now", name, r.before.Row().Word(), r.after.Row().Word()), r.after.Message))
		}
	}
	return all
}

func withMessage(line, message string) string {
	if message == "" {
		return line
	}
	return line + ": " + message
}

// Environment lists where two environments differ, by name.
func Environment(then, now map[string]string) []string {
	names := sorted(then)
	for name := range now {
		if _, ok := then[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var all []string
	for _, name := range names {
		if then[name] != now[name] {
			all = append(all, fmt.Sprintf("%s: %s then, %s now", name, orUnknown(then[name]), orUnknown(now[name])))
		}
	}
	return all
}

func orUnknown(text string) string {
	if text == "" {
		return "not known"
	}
	return text
}

// Settings lists the effective settings, ceilings among them, that two results have both and
// that differ. A run that ended early has no ceilings.
func Settings(before, after *ccci.Result) []string {
	both := map[string]string{}
	for name, value := range before.Settings {
		if _, ok := after.Settings[name]; ok {
			both[name] = value
		}
	}
	now := map[string]string{}
	for name := range both {
		now[name] = after.Settings[name]
	}
	return Environment(both, now)
}

// Images lists the images that differ between two results. Images of one content count as the
// same, whichever way they came.
func Images(before, after *ccci.Result) []string {
	var all []string
	for _, then := range before.Images {
		i := slices.IndexFunc(after.Images, func(now ccci.Image) bool {
			return now.Stage == then.Stage && now.Service == then.Service && now.Reference == then.Reference
		})
		if i < 0 {
			continue // the run did not come so far, which the checks say
		}
		now := after.Images[i]
		if now.Digest == then.Digest || now.RepoDigest != "" && now.RepoDigest == then.RepoDigest {
			continue
		}
		line := fmt.Sprintf("image %s of service %s: %s then, %s now", then.Reference, then.Service, then.Digest, now.Digest)
		if !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	return all
}
