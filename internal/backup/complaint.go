package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// complaint is what restic says about one file that it could not read or write. It goes on with
// the others.
type complaint struct{ item, reason string }

// complaints reads restic's standard error as it comes, and keeps its end. An app has as many
// files as it likes, so what is kept of them is bounded.
type complaints struct {
	ending
	// readOnlyRoot: what cannot be written is where a link of the app leads. A disk that cannot be written starts no container.
	readOnlyRoot bool

	line     []byte // the one that is not complete
	all      int
	vanished int         // files that were removed while they were read
	ours     int         // what no app can cause
	silent   []string    // files without a reason: restic before 0.17 leaves some out
	gone     []complaint // of the vanished, at most mostComplaints
	first    []complaint // of the rest, at most mostComplaints
}

const (
	mostComplaints = 5
	mostSilent     = 100
	longestLine    = 64 << 10 // bytes; of a longer one the beginning is read
)

func (c *complaints) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		c.line = append(c.line, line[:min(len(line), longestLine-min(len(c.line), longestLine))]...)
		if rest = after; whole {
			c.read(c.line)
			c.line = c.line[:0]
		}
	}
	return c.ending.Write(p)
}

// ignored is a complaint of restic restore, and of restic backup without --json.
var ignored = regexp.MustCompile(`^ignoring error for (.*?): (.*)$`)

func (c *complaints) read(line []byte) {
	var m struct {
		MessageType string `json:"message_type"`
		During      string `json:"during"`
		Item        string `json:"item"`
		Error       struct {
			Message string          `json:"message"` // since restic 0.17
			Op      string          `json:"Op"`      // before: Go's fs.PathError
			Err     json.RawMessage `json:"Err"`
		} `json:"error"`
	}
	if json.Unmarshal(line, &m) == nil && m.MessageType == "error" {
		if m.During == "scan" { // it only counts; what it missed is met again
			return
		}
		var number syscall.Errno
		reason := m.Error.Message
		if reason == "" && json.Unmarshal(m.Error.Err, &number) == nil && number != 0 {
			reason = m.Error.Op + ": " + number.Error()
		}
		c.add(complaint{m.Item, reason})
	} else if found := ignored.FindSubmatch(line); found != nil {
		c.add(complaint{string(found[1]), string(found[2])})
	}
}

func (c *complaints) add(one complaint) {
	c.all++
	list := &c.first
	switch {
	case strings.HasSuffix(one.reason, syscall.ENOENT.Error()) && !ofRepository(one):
		c.vanished++
		list = &c.gone
	case one.reason == "" && len(c.silent) < mostSilent:
		c.silent = append(c.silent, one.item)
	case c.readOnlyRoot && strings.HasSuffix(one.reason, syscall.EROFS.Error()):
	case ofRepository(one), slices.ContainsFunc(deviceErrors, func(e syscall.Errno) bool { return strings.HasSuffix(one.reason, e.Error()) }):
		c.ours++
	}
	if len(*list) < mostComplaints {
		*list = append(*list, one)
	}
}

// settle counts those files without a reason that are not there any more as vanished.
func (c *complaints) settle(exists func(path string) bool) {
	for _, path := range c.silent {
		if !exists(path) {
			c.vanished++
		}
	}
	c.silent = nil
}

// deviceErrors are of the machine's disk.
var deviceErrors = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EUCLEAN, syscall.EBADMSG, syscall.ESTALE, syscall.ENODEV, syscall.EDQUOT, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE}

// fromRepository is how restic names what it reads from a repository.
var fromRepository = regexp.MustCompile(`^[A-Za-z]+\(<|` + regexp.QuoteMeta(repository) + `/|\bblob [0-9a-f]{8}|\bpack [0-9a-f]{8}|ciphertext verification|(^|: )(unexpected )?EOF$`)

func ofRepository(one complaint) bool {
	return fromRepository.MatchString(strings.ReplaceAll(one.reason, one.item, ""))
}

// String lists the files, as a person reads them: first those that did not just vanish.
func (c *complaints) String() string {
	var list []string
	shown := append(slices.Clone(c.first), c.gone...)
	shown = shown[:min(len(shown), mostComplaints)]
	for _, one := range shown {
		list = append(list, fmt.Sprintf("%.200q: %s", one.item, cmp.Or(clip(strings.ReplaceAll(one.reason, " "+one.item, "")), "no reason given")))
	}
	if more := c.all - len(shown); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, "; ")
}

func clip(reason string) string {
	if len(reason) > 300 {
		reason = "…" + reason[len(reason)-300:]
	}
	return strings.ToValidUTF8(reason, "?")
}

// atTheEnd is what restic restore says last if all that went wrong are single files.
var atTheEnd = regexp.MustCompile(`There were \d+ errors\s*$`)

// fault says whose doing it is that restic did not succeed: the app's, by what it keeps in its
// volumes, or else ours.
func (b *Backup) fault(activity string, err error) error {
	var failed *resticError
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return ccci.Errorf(ccci.CodeRecipe, "%s %s: a path in its volumes is longer than %d MiB", activity, b.plan.Stack, longestPath>>20)
	case !errors.As(err, &failed):
	case failed.starved:
		return ccci.Errorf(ccci.CodeRecipe, "%s %s: restic needs more than its limit of %d GiB of memory for what is in the volumes", activity, b.plan.Stack, boxMemory>>30).
			WithHint("exclude volumes with very many files, or with very long symbolic links, from the backup")
	case failed.about.all > 0 && failed.about.ours == 0 && (failed.code == incomplete || atTheEnd.MatchString(failed.stderr)):
		return ccci.Errorf(ccci.CodeRecipe, "%s %s: restic could not read or write some files: %s", activity, b.plan.Stack, failed.about)
	}
	return ccci.Errorf(ccci.CodeInfra, "%s %s: %w", activity, b.plan.Stack, err)
}
