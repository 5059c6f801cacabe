package harness

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// logsHoldNoSecrets reads the app's logs whole, looks for secrets in them, and keeps them. A
// service that has secrets must have a log that can be read: what nobody can look at proves nothing.
func (l *life) logsHoldNoSecrets(ctx context.Context) error {
	logs, err := l.readLogs(ctx, l.instance, "logs/", "Log of ")
	if err != nil {
		return err
	}
	l.logsKept = true
	var found []string
	for _, log := range logs {
		for _, name := range log.found() {
			found = append(found, fmt.Sprintf("%s in the log of service %s", name, log.service))
		}
	}
	if len(found) > 0 {
		return &checks.Failure{Message: "the app prints what must stay secret: " + strings.Join(found, "; ")}
	}
	for _, log := range logs {
		if !hasSecrets(l.current, log.service) {
			continue
		}
		if log.err != nil {
			return ccci.Errorf(ccci.CodeOf(log.err), "service %s has secrets and its log cannot be read: %w", log.service, log.err).
				WithHint("%s", cmp.Or(ccci.HintOf(log.err), "without the log nothing shows that the secrets are not in it"))
		}
		if log.rotated {
			l.warn(fmt.Sprintf("the log of service %s was rotated: what it began with was not searched for secrets", log.service))
		}
	}
	return nil
}

func hasSecrets(stack *recipe.Stack, service string) bool {
	for _, s := range stack.Config.Services {
		if s.Name == service {
			return len(s.Secrets) > 0
		}
	}
	return false
}

// readLogs reads an app's logs, keeps the end of each, masked, and says what was in them. Memory
// does not grow with a log.
func (l *life) readLogs(ctx context.Context, in *instance, folder, title string) ([]*serviceLog, error) {
	var logs []*serviceLog
	end := func() error {
		if len(logs) == 0 {
			return nil
		}
		log := logs[len(logs)-1]
		if err := log.close(); err != nil {
			return err
		}
		l.artifact(folder+safeName(log.service)+".log", title+log.service, "log", log.tail.text())
		log.tail.data = nil
		return nil
	}
	err := in.Deployer.Logs(ctx, in.current, func(p LogPiece) error {
		if n := len(logs); n == 0 || logs[n-1].service != p.Service {
			if err := end(); err != nil {
				return err
			}
			logs = append(logs, &serviceLog{service: p.Service, censor: l.Censor, tail: logTail{limit: int(l.logLimit())}, names: map[string]bool{}})
		}
		return logs[len(logs)-1].add(p)
	})
	if err == nil {
		err = end()
	}
	return logs, err
}

// serviceLog is what is known of one service's log, container after container.
type serviceLog struct {
	service string
	err     error // of the first container whose log cannot be read
	rotated bool

	censor    *censor.Censor
	tail      logTail
	names     map[string]bool // secrets that were found
	container string
	streams   [2]*logStream // standard output and error
	seq       int           // of the last line, in the order in which lines ended
	done      []logLine     // lines that are masked and not in tail yet
	size      int           // of done
}

// logLine is a line, or a part of one that is too long, with its line end.
type logLine struct {
	seq  int
	text string
}

func (s *serviceLog) found() []string {
	var names []string
	for name := range s.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// add takes the next piece. The two streams of a container are searched each by itself,
// since a line of one may stand in the middle of a secret in the other.
func (s *serviceLog) add(p LogPiece) error {
	if p.Container != s.container {
		if err := s.close(); err != nil {
			return err
		}
		s.container = p.Container
	}
	s.rotated = s.rotated || p.Rotated
	if p.Err != nil {
		s.err = cmp.Or(s.err, p.Err)
		s.tail.add("(the log of container " + p.Container[:min(12, len(p.Container))] + " cannot be read: " + plain.Line(p.Err.Error()) + ")\n")
		return nil
	}
	n := 0
	if p.Stderr {
		n = 1
	}
	if s.streams[n] == nil {
		s.streams[n] = newLogStream(s)
	}
	if err := s.streams[n].write(p.Text); err != nil {
		return err
	}
	s.settle(false)
	return nil
}

// close ends a container's log.
func (s *serviceLog) close() error {
	for n, stream := range s.streams {
		if stream == nil {
			continue
		}
		if err := stream.close(); err != nil {
			return err
		}
		for _, name := range stream.censor.Found() {
			s.names[name] = true
		}
		s.streams[n] = nil
	}
	s.settle(true)
	return nil
}

const (
	// settleSize is how many bytes of masked lines wait for earlier ones of the other stream
	// before they are sorted, and overdue from when on they wait no longer.
	settleSize = 256 << 10
	overdue    = 1 << 20
	// longLine is where a line is cut for keeping, in bytes.
	longLine = 64 << 10
)

// settle moves lines to tail in the order in which they ended.
func (s *serviceLog) settle(all bool) {
	if !all && s.size < settleSize {
		return
	}
	next := s.seq + 1 // of the earliest line that is still looked at
	for _, stream := range s.streams {
		if stream != nil && len(stream.ends) > 0 {
			next = min(next, stream.ends[0].seq)
		}
	}
	slices.SortStableFunc(s.done, func(a, b logLine) int { return a.seq - b.seq })
	n := len(s.done)
	if !all && s.size < overdue {
		n, _ = slices.BinarySearchFunc(s.done, next, func(l logLine, next int) int { return l.seq - next })
	}
	for _, line := range s.done[:n] {
		s.size -= len(line.text)
		s.tail.add(line.text)
	}
	s.done = slices.Clone(s.done[n:])
}

// logStream masks one stream of a container and cuts it into lines.
type logStream struct {
	log    *serviceLog
	censor *censor.Stream
	offset int64     // of what was written
	ends   []lineEnd // of lines that are not masked yet
	line   []byte    // the masked line so far
}

type lineEnd struct {
	offset int64 // behind the line end
	seq    int
}

func newLogStream(log *serviceLog) *logStream {
	s := &logStream{log: log}
	s.censor = log.censor.NewStream(s.masked)
	return s
}

func (s *logStream) write(text []byte) error {
	// The stream may mask a line as soon as it is written, so its end is noted before.
	for i := range text {
		if text[i] == '\n' {
			s.log.seq++
			s.ends = append(s.ends, lineEnd{s.offset + int64(i) + 1, s.log.seq})
		}
	}
	s.offset += int64(len(text))
	_, err := s.censor.Write(text)
	return err
}

// masked takes masked text that stands for the stream up to offset end.
func (s *logStream) masked(text []byte, end int64) error {
	for len(text) > 0 {
		piece, ended := text, false
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			piece, ended = text[:i+1], true
		}
		text = text[len(piece):]
		s.line = append(s.line, piece...)
		seq := s.passed(end - int64(len(text)))
		if ended || len(s.line) >= longLine {
			s.finish(seq)
		}
	}
	s.passed(end)
	return nil
}

// passed forgets the line ends up to an offset, and returns the number of the line there.
func (s *logStream) passed(offset int64) int {
	seq := s.log.seq + 1
	if len(s.ends) > 0 {
		seq = s.ends[0].seq
	}
	for len(s.ends) > 0 && s.ends[0].offset <= offset {
		s.ends = s.ends[1:]
	}
	return seq
}

func (s *logStream) finish(seq int) {
	line := plain.Text(string(s.line))
	s.log.done = append(s.log.done, logLine{seq, line})
	s.log.size += len(line)
	s.line = s.line[:0]
}

func (s *logStream) close() error {
	if err := s.censor.Close(); err != nil {
		return err
	}
	if len(s.line) > 0 {
		s.line = append(s.line, '\n')
		s.finish(s.log.seq + 1)
	}
	return nil
}

// logTail keeps the last lines that fit into limit bytes.
type logTail struct {
	limit   int
	data    []byte
	dropped int64 // bytes
}

func (t *logTail) add(text string) {
	t.data = append(t.data, text...)
	if len(t.data) > 2*t.limit {
		t.cut()
	}
}

// Write is add, for a program's output.
func (t *logTail) Write(p []byte) (int, error) {
	t.add(string(p))
	return len(p), nil
}

// cut drops whole lines until the rest fits.
func (t *logTail) cut() {
	over := len(t.data) - t.limit
	if over <= 0 {
		return
	}
	at := len(t.data)
	if i := bytes.IndexByte(t.data[over-1:], '\n'); i >= 0 {
		at = over + i
	}
	t.dropped += int64(at)
	t.data = append(t.data[:0], t.data[at:]...)
}

func (t *logTail) text() []byte {
	t.cut()
	if t.dropped == 0 {
		return t.data
	}
	return append([]byte(fmt.Sprintf("(the first %d bytes of this log are left out)\n", t.dropped)), t.data...)
}
