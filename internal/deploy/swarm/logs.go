package swarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-units"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Logs implements harness.Deployer. No timestamps are asked for: the daemon keeps a long
// line in messages of 16 KiB, and would put one before each of them.
func (d *Deployer) Logs(ctx context.Context, stack *recipe.Stack, take func(harness.LogPiece) error) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	containers, err := d.docker.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack.Name), filters.Arg("label", labelServiceName)),
	})
	if err != nil {
		return d.fault("listing containers of "+stack.Name, err)
	}
	slices.SortFunc(containers, func(a, b container.Summary) int {
		return cmp.Or(cmp.Compare(a.Labels[labelServiceName], b.Labels[labelServiceName]), cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, c := range containers {
		piece := harness.LogPiece{Service: strings.TrimPrefix(c.Labels[labelServiceName], stack.Name+"_"), Container: c.ID}
		last, err := d.readLog(ctx, piece, take)
		if ctx.Err() != nil {
			return d.fault("reading logs of "+stack.Name, context.Cause(ctx))
		}
		if err == nil && (last.Err != nil || last.Rotated) {
			err = take(last)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readLog reads one container's log. last says what is missing from it; err is take's.
func (d *Deployer) readLog(ctx context.Context, piece harness.LogPiece, take func(harness.LogPiece) error) (last harness.LogPiece, err error) {
	last = piece
	info, err := d.docker.ContainerInspect(ctx, piece.Container)
	if err != nil {
		last.Err = unread(err)
		return last, nil
	}
	stream, err := d.docker.ContainerLogs(ctx, piece.Container, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		last.Err = unread(err)
		return last, nil
	}
	defer stream.Close()
	stdout, stderr := &pieceWriter{piece: piece, take: take}, &pieceWriter{piece: piece, take: take}
	stderr.piece.Stderr = true
	if info.Config != nil && info.Config.Tty {
		_, err = io.Copy(stdout, stream)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, stream)
	}
	if refused := errors.Join(stdout.err, stderr.err); refused != nil {
		return last, refused
	}
	if err != nil {
		last.Err = unread(err)
	}
	if info.ContainerJSONBase != nil && info.HostConfig != nil {
		last.Rotated = rotated(info.HostConfig.LogConfig, stdout.size+stderr.size, stdout.lines+stderr.lines)
	}
	return last, nil
}

// unread classifies why a log cannot be read. A driver that keeps none is the recipe's choice.
func unread(err error) error {
	text := words(err)
	if strings.Contains(text, "logging driver does not support reading") {
		return ccci.Errorf(ccci.CodeRecipe, "its logging driver keeps no log that Docker can read").
			WithHint("leave logging: out of the compose file, or use the driver json-file or local")
	}
	return ccci.Errorf(ccci.CodeInfra, "%s", text)
}

// messageOverhead is about what json-file writes around a message, in bytes.
const messageOverhead = 80

// rotated reports whether a driver may have dropped the beginning of a log of which so much
// is left. Before it drops anything, all its files but one are full.
func rotated(config container.LogConfig, size, lines int64) bool {
	most, err := units.FromHumanSize(config.Config["max-size"])
	if err != nil || most <= 0 {
		return false
	}
	files, err := strconv.ParseInt(config.Config["max-file"], 10, 64)
	if err != nil || files < 1 {
		files = 1
	}
	full := (files - 1) * most
	if files == 1 {
		full = most / 2 // the one file begins anew
	}
	return size+lines*messageOverhead >= full
}

// pieceWriter hands on what is written to it.
type pieceWriter struct {
	piece       harness.LogPiece
	take        func(harness.LogPiece) error
	size, lines int64
	err         error // of take
}

func (w *pieceWriter) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	w.lines += int64(bytes.Count(p, []byte("\n")))
	w.piece.Text = p
	if w.err = w.take(w.piece); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

const (
	// tailMessages is how many of a container's last messages are looked at for its last lines. A
	// message is a line or, of a longer one, 16 KiB.
	tailMessages = 200
	messageSize  = 16 << 10 // bytes
	tailLimit    = 64 << 10 // bytes
)

// lastLines returns a container's last whole lines, oldest first.
func (d *Deployer) lastLines(ctx context.Context, id string, most int) ([]string, error) {
	info, err := d.docker.ContainerInspect(ctx, id)
	if err != nil {
		return nil, err
	}
	stream, err := d.docker.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(tailMessages)})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	text := &lineTail{limit: tailLimit}
	if info.Config != nil && info.Config.Tty {
		_, err = io.Copy(text.stream(0), stream)
	} else {
		_, err = stdcopy.StdCopy(text.stream(0), text.stream(1), stream)
	}
	if err != nil && text.total == 0 {
		return nil, err
	}
	lines := text.end()
	return lines[max(0, len(lines)-most):], nil
}

// lineTail puts the lines of two streams together and keeps the last of them.
type lineTail struct {
	limit    int // bytes
	lines    []string
	size     int       // bytes in lines
	total    int       // bytes written
	messages int       // of the daemon, at least so many
	open     [2][]byte // lines that have not ended
	long     [2]bool   // the open line is longer than limit
	dropped  bool      // some line was
}

type lineTailStream struct {
	t *lineTail
	n int
}

func (t *lineTail) stream(n int) io.Writer { return lineTailStream{t, n} }

func (s lineTailStream) Write(p []byte) (int, error) {
	t := s.t
	t.total += len(p)
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		t.messages += len(line)/messageSize + 1
		t.open[s.n] = append(t.open[s.n], line...)
		if len(t.open[s.n]) > t.limit { // a line that long is not shown
			t.open[s.n], t.long[s.n] = t.open[s.n][:0], true
		}
		if ended {
			t.add(s.n)
		}
		rest = after
	}
	return len(p), nil
}

// add ends the open line of a stream.
func (t *lineTail) add(n int) {
	line := strings.TrimRight(strings.ToValidUTF8(string(t.open[n]), "\uFFFD"), "\r")
	if t.long[n] {
		line = "(a line longer than " + units.BytesSize(float64(t.limit)) + ")"
	}
	t.open[n], t.long[n] = t.open[n][:0], false
	t.lines = append(t.lines, line)
	t.size += len(line)
	for t.size > t.limit {
		t.size -= len(t.lines[0])
		t.lines, t.dropped = t.lines[1:], true
	}
}

// end returns the lines. Where the daemon left messages out, the first of the rest may
// be the end of a line, and is not among them.
func (t *lineTail) end() []string {
	for n := range t.open {
		if len(t.open[n]) > 0 || t.long[n] {
			t.add(n)
		}
	}
	if t.messages >= tailMessages && !t.dropped && len(t.lines) > 0 {
		return t.lines[1:]
	}
	return t.lines
}
