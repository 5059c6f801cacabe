package swarm

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Logs returns each service's log by its key in the compose file: the lines of all its
// containers, ended ones too, oldest first, at most limit bytes from the end.
// A container whose log cannot be read leaves a line that says so.
func (d *Deployer) Logs(ctx context.Context, stack *recipe.Stack, limit int64) (map[string][]byte, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	containers, err := d.docker.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack.Name), filters.Arg("label", labelServiceName)),
	})
	if err != nil {
		return nil, d.fault("listing containers of "+stack.Name, err)
	}
	slices.SortFunc(containers, func(a, b container.Summary) int { return int(a.Created - b.Created) })
	byService := map[string][]logLine{}
	for _, c := range containers {
		key := strings.TrimPrefix(c.Labels[labelServiceName], stack.Name+"_")
		lines, err := d.containerLog(ctx, c.ID, 20_000, max(limit, 1))
		if err != nil {
			if ctx.Err() != nil {
				return nil, d.fault("reading logs of "+stack.Name, err)
			}
			lines = []logLine{{text: "(the log of container " + c.ID[:12] + " cannot be read: " + words(err) + ")"}}
		}
		byService[key] = append(byService[key], lines...)
	}
	out := map[string][]byte{}
	for key, lines := range byService {
		slices.SortStableFunc(lines, func(a, b logLine) int { return a.at.Compare(b.at) })
		out[key] = joinTail(lines, limit)
	}
	return out, nil
}

// joinTail joins the last whole lines that fit into limit bytes.
func joinTail(lines []logLine, limit int64) []byte {
	var size int64
	first := len(lines)
	for first > 0 && size+int64(len(lines[first-1].text))+1 <= limit {
		first--
		size += int64(len(lines[first].text)) + 1
	}
	var out bytes.Buffer
	for _, l := range lines[first:] {
		out.WriteString(l.text)
		out.WriteByte('\n')
	}
	return out.Bytes()
}
