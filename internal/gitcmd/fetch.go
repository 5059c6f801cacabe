package gitcmd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// FetchOptions say what is fetched, and how much of it at most.
type FetchOptions struct {
	Refs   []string // refspecs, or full commits
	Tags   bool     // all tags besides
	Limits Limits
	// Token is sent to the URL's own host, over HTTPS alone; empty: none is.
	Token ccci.Secret
}

// lookEvery is how often a fetch is measured while it is under way.
const lookEvery = 50 * time.Millisecond

// Fetch fetches from url into the repository in dir, which is to be new: what is in it
// counts. Objects are checked as git fsck does. A repository beyond the limits, or with
// an object that is not sound, is an Error with CodeRefused that names the limit; it
// leaves dir in no particular state. Redirects are not followed, and only the protocol of
// the URL is used.
func Fetch(ctx context.Context, dir, url string, o FetchOptions) error {
	limits := o.Limits.orDefault()
	late := &overdue{limits.Time}
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, late)
	defer cancel()
	env := append([]string{"GIT_ALLOW_PROTOCOL=" + protocolOf(url)}, authorisation(url, o.Token)...)
	refs := o.Refs
	if o.Tags {
		tags, err := listTags(ctx, dir, url, env, limits)
		if err != nil {
			return limits.explain(err)
		}
		refs = append(tags, refs...)
	}
	if len(refs) == 0 {
		return nil
	}
	watched, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	objects, err := objectsOf(ctx, dir)
	if err != nil {
		stop(nil)
		return err
	}
	go func() {
		defer close(done)
		limits.watch(watched, objects, stop)
	}()
	err = call{dir: dir, env: env, bound: limits.bound(), out: io.Discard, in: strings.NewReader(strings.Join(refs, "\n") + "\n"),
		args: []string{"fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--stdin", "--", url},
	}.run(watched)
	stop(nil)
	<-done
	if err != nil {
		// git that the kernel has ended at a limit does not say so itself.
		if beyond := limits.measure(objects, false); beyond != nil {
			return beyond
		}
		return limits.explain(err)
	}
	return limits.measure(objects, true)
}

// listTags returns a refspec for each tag of a repository. Only what is listed is fetched,
// so that there are never more.
func listTags(ctx context.Context, dir, url string, env []string, limits Limits) ([]string, error) {
	var tags []string
	lines := lineWriter{end: '\n', each: func(line string) error {
		_, name, _ := strings.Cut(line, "\t")
		if !strings.HasPrefix(name, "refs/tags/") || strings.ContainsAny(name, ":*^~?[\\ ") || strings.Contains(name, "..") {
			return nil // not one that git lets anybody make
		}
		if len(tags) >= limits.Refs {
			return refused("has more than %d tags", "refs", limits.Refs)
		}
		tags = append(tags, "+"+name+":"+name)
		return nil
	}}
	err := call{dir: dir, env: env, bound: limits.bound(), out: &lines,
		args: []string{"ls-remote", "--quiet", "--refs", "--tags", "--", url}}.run(ctx)
	return tags, err
}

// maxLine bounds a line of git's, in bytes: a name and what stands before it.
const maxLine = 8 << 10

// lineWriter hands on whole lines.
type lineWriter struct {
	end  byte // of a line
	each func(line string) error
	rest []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte{l.end})
		if !ok {
			break
		}
		l.rest = rest
		if err := l.each(string(line)); err != nil {
			return 0, err
		}
	}
	if len(l.rest) > maxLine {
		return 0, ccci.Errorf(ccci.CodeRefused, "the repository has a name of more than %d bytes", maxLine).WithHint("rename it")
	}
	return len(p), nil
}

// overdue is the cause of a fetch's end when its time is over.
type overdue struct{ after time.Duration }

func (o *overdue) Error() string { return fmt.Sprintf("it took longer than %s", o.after) }

func refused(what, setting string, args ...any) error {
	return ccci.Errorf(ccci.CodeRefused, "the repository "+what+" (git.%s)", append(args, setting)...).
		WithHint("make the repository smaller, or let the operator raise git.%s in the configuration", setting)
}

// explain tells whose fault an error is.
func (l Limits) explain(err error) error {
	var classified *ccci.Error
	var late *overdue
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.As(err, &classified):
		return err
	case errors.As(err, &late), has("died of signal 24", "CPU time limit"):
		return refused("takes longer than %s to be read", "time", l.Time)
	case has("died of signal 25", "file size limit", "File too large"):
		return refused("is larger than %d MiB", "fetch_mib", l.Bytes>>20)
	case has("ut of memory", "malloc failed", "annot allocate memory", "unable to create thread"):
		return refused("needs more than %d MiB of memory to be read", "memory_mib", l.Memory>>20)
	case has("fsck error", "died of signal 11", "segmentation fault"):
		return ccci.Errorf(ccci.CodeRefused, "the repository holds an object that git does not accept: %w", err).
			WithHint("git fsck in the repository names it")
	}
	return err
}

// objectsOf is where a repository keeps its objects.
func objectsOf(ctx context.Context, dir string) (string, error) {
	path, err := Run(ctx, dir, "rev-parse", "--git-path", "objects")
	if err == nil && !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return path, err
}

// watch ends a fetch that goes beyond the limits, while it is under way.
func (l Limits) watch(ctx context.Context, objects string, stop func(error)) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.measure(objects, false); err != nil {
			stop(err)
			return
		}
	}
}

// measure compares what is stored with the limits. Objects come in packs; loose ones, at
// the end, are from a server with the protocol of old, which skips the checks.
func (l Limits) measure(objects string, end bool) error {
	var size int64
	var count, loose int
	err := filepath.WalkDir(objects, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // gone meanwhile
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		size += info.Size()
		switch name := d.Name(); {
		case strings.HasPrefix(name, "tmp_pack_"), strings.HasSuffix(name, ".pack"):
			count += packed(path)
		case len(name) == 38 && len(filepath.Base(filepath.Dir(path))) == 2:
			count++
			loose++
		}
		if size >= l.Bytes || count > l.Objects {
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("measuring the fetched repository: %w", err)
	case size >= l.Bytes:
		return refused("is larger than %d MiB", "fetch_mib", l.Bytes>>20)
	case count > l.Objects:
		return refused("has more than %d objects", "objects", l.Objects)
	case end && loose > 0:
		return ccci.Errorf(ccci.CodeRefused, "the repository is on a server that speaks git's dumb protocol, which is not checked").
			WithHint("serve it with git http-backend, as every forge does")
	}
	return nil
}

// packed returns how many objects a pack says that it has, or 0.
func packed(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	var header [12]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[:4]) != "PACK" {
		return 0
	}
	return int(binary.BigEndian.Uint32(header[8:]))
}

// protocols are those that a fetch may use, one at a time.
var protocols = []string{"file", "git", "http", "https", "ssh"}

// protocolOf is the one protocol that a fetch from address may use; "none" for those of
// helper programs.
func protocolOf(address string) string {
	scheme, _, ok := strings.Cut(address, "://")
	host, _, colon := strings.Cut(address, ":")
	switch {
	case ok && slices.Contains(protocols, strings.ToLower(scheme)):
		return strings.ToLower(scheme)
	case ok || strings.Contains(address, "::"):
		return "none"
	case colon && !strings.Contains(host, "/"):
		return "ssh" // host:path
	}
	return "file"
}

// authorisation gives git a token for one host. The environment holds it: a command line
// is read by everybody.
func authorisation(address string, token ccci.Secret) []string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || token.Reveal() == "" {
		return nil
	}
	basic := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + token.Reveal()))
	return []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.https://" + u.Host + "/.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic " + basic}
}
