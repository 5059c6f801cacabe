// Package leak looks for secrets where none may be: in the files of a repository, and
// in all that its history holds. It looks for private keys by their form, and for
// known values in the encodings in which programs write them.
package leak

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

const (
	// piece is how much of a file is looked at at once, in bytes; the next begins with the
	// last bytes of the one before.
	piece   = 1 << 20
	overlap = 64 << 10
	// maxFile bounds what is asked of git for one version of a file, in bytes; larger ones
	// are counted.
	maxFile = 16 << 20
	// chunk and chunkFiles bound what is asked of git at once.
	chunk      = 32 << 20
	chunkFiles = 500
	// longLine is from when on a line of a secret with several is looked for by
	// itself, in bytes.
	longLine = 20
)

// ThrowAway marks a file with a key that opens nothing, made to be seen. It counts only
// for files in a folder of examples.
const ThrowAway = "cc-ci: a throw-away key that opens nothing but this example"

// Finding is one leak. It never holds the secret.
type Finding struct {
	Where string `json:"where"` // file, or commit and file
	Line  int    `json:"line,omitempty"`
	What  string `json:"what"`
}

func (f Finding) String() string {
	if f.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", f.Where, f.Line, f.What)
	}
	return f.Where + ": " + f.What
}

// Report is what a scan came to.
type Report struct {
	Findings []Finding
	Scanned  int      // files and versions of files
	Skipped  []string // versions of files that are larger than what is asked of git
}

// Scan looks for leaks. The zero value looks for private keys alone.
type Scan struct {
	censor censor.Censor
	report Report
}

// Know makes the scan look for a value, under the name it goes by. Values of less than
// [censor.MinLength] bytes cannot be told from ordinary words and are not looked for.
func (s *Scan) Know(name string, value ccci.Secret) {
	s.censor.Add(name, ccci.NewSecret(strings.TrimSpace(value.Reveal())))
	lines := strings.Split(value.Reveal(), "\n")
	if len(lines) == 1 {
		return
	}
	for _, line := range lines {
		if line = strings.TrimSpace(line); len(line) >= longLine && !strings.HasPrefix(line, "-----") {
			s.censor.Add(name, ccci.NewSecret(line))
		}
	}
}

// Report returns what was found so far, each leak once.
func (s *Scan) Report() Report {
	r := s.report
	r.Findings = slices.Clone(r.Findings)
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	r.Findings = slices.Compact(r.Findings)
	return r
}

// Folder looks at all files below a folder, but not into .git.
func (s *Scan) Folder(dir string) error {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" && file != dir {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return s.file(file, filepath.ToSlash(file))
	})
	if err != nil {
		return fmt.Errorf("looking for leaks in %s: %w", dir, err)
	}
	return nil
}

func (s *Scan) file(file, name string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) { // git lists what is deleted and not committed yet
		return nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.read(name, f)
}

// read looks at all of a file.
func (s *Scan) read(name string, r io.Reader) error {
	s.report.Scanned++
	var kept []byte // of the piece before
	for lines := 0; ; {
		text, err := io.ReadAll(io.LimitReader(io.MultiReader(bytes.NewReader(kept), r), piece))
		if err != nil {
			return err
		}
		s.look(name, name, lines, text)
		if len(text) < piece {
			return nil
		}
		lines += bytes.Count(text[:piece-overlap], []byte("\n"))
		kept = text[piece-overlap:]
	}
}

// Text looks at what a program has printed.
func (s *Scan) Text(where, text string) {
	s.report.Scanned++
	s.look(where, "", 0, []byte(text))
}

// Repository looks at the files of the git work tree at dir, ignored ones excepted, and
// at every version of a file and every message in the history of its HEAD. Submodules
// are others' repositories.
func (s *Scan) Repository(ctx context.Context, dir string) error {
	top, err := gitcmd.Run(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "looking for leaks: %s is no work tree of git: %w", dir, err).WithHint("name the base repository with --repo")
	}
	list, err := gitcmd.Output(ctx, top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return fmt.Errorf("looking for leaks: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		if err := s.file(filepath.Join(top, filepath.FromSlash(name)), name); err != nil {
			return fmt.Errorf("looking for leaks: %w", err)
		}
	}
	if _, err := gitcmd.Run(ctx, top, "rev-parse", "--verify", "--quiet", "HEAD"); err != nil {
		return ctx.Err() // nothing is committed yet
	}
	messages, err := gitcmd.Output(ctx, top, "log", "--format=%H%n%B", "HEAD")
	if err != nil {
		return fmt.Errorf("looking for leaks: %w", err)
	}
	s.Text("messages of commits", string(messages))
	return s.history(ctx, top)
}

type blob struct {
	id, path string
	size     int
}

// history looks at all blobs that HEAD leads to.
func (s *Scan) history(ctx context.Context, top string) error {
	sizes, err := gitcmd.Run(ctx, top, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype) %(objectsize)")
	if err != nil {
		return fmt.Errorf("looking for leaks: %w", err)
	}
	size := map[string]int{}
	for line := range strings.Lines(sizes) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "blob" {
			if size[f[0]], err = strconv.Atoi(f[2]); err != nil {
				return fmt.Errorf("looking for leaks: %w", err)
			}
		}
	}
	objects, err := gitcmd.Run(ctx, top, "rev-list", "--objects", "HEAD")
	if err != nil {
		return fmt.Errorf("looking for leaks: %w", err)
	}
	var part []blob
	total := 0
	flush := func() error {
		err := s.blobs(ctx, top, part, total)
		part, total = nil, 0
		return err
	}
	for line := range strings.Lines(objects) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, isBlob := size[id]
		switch {
		case !isBlob:
			continue
		case n > maxFile:
			s.report.Skipped = append(s.report.Skipped, id[:12]+":"+name)
			continue
		case total+n > chunk || len(part) == chunkFiles:
			if err := flush(); err != nil {
				return err
			}
		}
		part, total = append(part, blob{id, name, n}), total+n
	}
	return flush()
}

// blobs has git print several one after the other, and takes them apart by their sizes.
func (s *Scan) blobs(ctx context.Context, top string, part []blob, total int) error {
	if len(part) == 0 {
		return nil
	}
	args := []string{"show", "--no-textconv"}
	for _, b := range part {
		args = append(args, b.id)
	}
	text, err := gitcmd.Output(ctx, top, args...)
	if err != nil {
		return fmt.Errorf("looking for leaks: %w", err)
	}
	if len(text) != total {
		return fmt.Errorf("looking for leaks: git prints %d bytes of %d files that have %d", len(text), len(part), total)
	}
	for _, b := range part {
		s.report.Scanned++
		s.look("history: "+b.id[:12]+":"+b.path, b.path, 0, text[:b.size])
		text = text[b.size:]
	}
	return nil
}

// pemGap is what stands between the lines of a key, also in JSON, YAML or a program.
const pemGap = `(\\r|\\n|[\s"',+>|\\]){1,40}`

var (
	ageKey  = regexp.MustCompile(`AGE-SECRET-KEY-(PQ-)?1[02-9AC-HJ-NP-Z]{50,}`)
	pemKey  = regexp.MustCompile(`-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----` + pemGap + `([A-Za-z-]+: [^\n\\]*` + pemGap + `)*[A-Za-z0-9+/=]{40,}`)
	pemCode = regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/_\-\s]{40,}`) // -----BEGIN, in base64
)

// look looks at one text, before which there are so many lines. file is its path in a
// repository.
func (s *Scan) look(where, file string, lines int, text []byte) {
	add := func(at int, what string) {
		line := 0
		if at >= 0 {
			line = lines + 1 + bytes.Count(text[:at], []byte("\n"))
		}
		s.report.Findings = append(s.report.Findings, Finding{where, line, what})
	}
	for _, name := range s.censor.Find(text) {
		add(-1, "the value of "+name)
	}
	if exempt(file, text) {
		return
	}
	for _, at := range ageKey.FindAllIndex(text, -1) {
		add(at[0], "a secret key of age")
	}
	for _, at := range pemKey.FindAllIndex(text, -1) {
		add(at[0], "a private key")
	}
	for _, at := range pemCode.FindAllIndex(text, -1) {
		if bytes.Contains(decode(text[at[0]:at[1]]), []byte("PRIVATE KEY-----")) {
			add(at[0], "a private key in base64")
		}
	}
}

func decode(text []byte) []byte {
	clean := strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "", " ", "", "\t", "").Replace(string(text))
	out, _ := base64.RawStdEncoding.DecodeString(clean[:len(clean)/4*4])
	return out
}

// exempt reports whether a file says that its keys may be seen, and is where such files
// are.
func exempt(file string, text []byte) bool {
	return slices.Contains(strings.Split(path.Dir(file), "/"), "examples") && bytes.Contains(text, []byte(ThrowAway))
}
