package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// pastRun is a run that is to be repeated: where its result and its archive are.
type pastRun struct {
	at string // for people
	// ours says that both are from this machine's own data folder, so that the enrolment in the
	// archive is the operator's.
	ours bool
	// open opens a file of the run; ErrNotFound when there is none.
	open func(ctx context.Context, name string) (io.ReadCloser, error)
}

var runID = regexp.MustCompile(`^[0-9]{6}-[0-9]{6}-[0-9a-f]{6}$`)

// findRun finds what a person calls a run: its number, the address of its page or of a file
// of it, a result.json, or the folder with that.
func findRun(cfg config.Config, name string) (pastRun, error) {
	switch {
	case strings.Contains(name, "://"):
		return runAt(name)
	case runID.MatchString(name):
		return runOf(cfg, ccci.RunID(name))
	}
	dir := name
	if filepath.Base(name) == ccci.ResultFile {
		dir = filepath.Dir(name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return pastRun{}, fmt.Errorf("finding %s: %w", name, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ccci.ResultFile)); err != nil {
		return pastRun{}, ccci.Errorf(ccci.CodeNotFound, "there is no run %q: it is no number of a run, no address, and no file", name).
			WithHint("name a run of this machine (260102-030405-abcdef), the https address of its page, or a result.json")
	}
	return pastRun{at: filepath.Join(dir, ccci.ResultFile), ours: within(cfg.Data, dir), open: openIn(dir)}, nil
}

func openIn(dir string) func(context.Context, string) (io.ReadCloser, error) {
	return func(_ context.Context, name string) (io.ReadCloser, error) {
		f, err := os.OpenInRoot(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), ccci.ErrNotFound)
		}
		return f, err
	}
}

// runOf finds a run in this machine's data folder.
func runOf(cfg config.Config, id ccci.RunID) (pastRun, error) {
	dir := filepath.Join(cfg.Data, byHandDir, string(id))
	if _, err := os.Stat(filepath.Join(dir, ccci.ResultFile)); err == nil {
		return pastRun{at: filepath.Join(dir, ccci.ResultFile), ours: true, open: openIn(dir)}, nil
	}
	unknown := ccci.Errorf(ccci.CodeNotFound, "there is no run %s in the data folder %s", id, cfg.Data).
		WithHint("name its page on the machine that has it, as https://ci.example.org/runs/%s, or choose another configuration with --config", id)
	blobs, err := dirblob.OpenReader(blobsPath(cfg))
	if err != nil {
		return pastRun{}, unknown
	}
	open := func(ctx context.Context, name string) (io.ReadCloser, error) {
		r, _, err := blobs.Get(ctx, ccci.ArtifactKey(id, name))
		return r, err
	}
	r, err := open(context.Background(), ccci.ResultFile)
	if errors.Is(err, ccci.ErrNotFound) {
		return pastRun{}, unknown
	}
	if err != nil {
		return pastRun{}, err
	}
	return pastRun{at: "run " + string(id), ours: true, open: open}, r.Close()
}

// downloadPatience bounds one download; most of the time it is bound by size.
const downloadPatience = 5 * time.Minute

// runAt finds a run by the address of its page or of one of its files.
func runAt(address string) (pastRun, error) {
	refuse := func(why, hint string) (pastRun, error) {
		return pastRun{}, ccci.Errorf(ccci.CodeInvalid, "%q %s", address, why).WithHint("%s", hint)
	}
	const example = "name the page of a run, as https://ci.example.org/runs/260102-030405-abcdef"
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return refuse("is no address", example)
	}
	if !safeScheme(u) {
		return refuse("is not read: only https, and http of this machine", example)
	}
	u.RawQuery, u.Fragment, u.RawFragment = "", "", ""
	base := *u
	before, rest, ok := strings.Cut(u.Path, "/runs/")
	id, _, _ := strings.Cut(rest, "/")
	switch {
	case ok && runID.MatchString(id):
		base.Path = before + "/runs/" + id + "/files"
	case strings.HasSuffix(u.Path, "/"+ccci.ResultFile):
		base.Path = strings.TrimSuffix(u.Path, "/"+ccci.ResultFile)
	default:
		return refuse("is neither the page of a run nor a "+ccci.ResultFile, example)
	}
	base.RawPath = ""
	client := &http.Client{Timeout: downloadPatience, CheckRedirect: sameHost}
	return pastRun{at: u.Redacted(), open: func(ctx context.Context, name string) (io.ReadCloser, error) {
		return download(ctx, client, base.JoinPath(name))
	}}, nil
}

// safeScheme reports whether what comes from an address cannot be changed on its way.
func safeScheme(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && ccci.Loopback(u.Hostname())
}

// sameHost follows few redirects, and none that leads to another server.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > 5:
		return errors.New("too many redirects")
	case next.URL.Host != first.Host || next.URL.Scheme != first.Scheme:
		return fmt.Errorf("it redirects to another server, %s", next.URL.Redacted())
	}
	return nil
}

func download(ctx context.Context, client *http.Client, from *url.URL) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "downloading: %w", err).WithHint("is the address right, and is the server reachable?")
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%s: %w", from.Redacted(), ccci.ErrNotFound)
		}
		return nil, ccci.Errorf(ccci.CodeInfra, "downloading %s: it was answered with %s", from.Redacted(), resp.Status).
			WithHint("download %s and %s by hand into one folder, and name that", ccci.ResultFile, ccci.ReproArchive)
	}
	return resp.Body, nil
}

// result reads the run's result, which may come from anybody.
func (p pastRun) result(ctx context.Context) (*ccci.Result, error) {
	r, err := p.open(ctx, ccci.ResultFile)
	if errors.Is(err, ccci.ErrNotFound) {
		return nil, ccci.Errorf(ccci.CodeNotFound, "%s has no result: %w", p.at, err).WithHint("has the run ended, and is it still kept?")
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	bad := func(format string, args ...any) error {
		return ccci.Errorf(ccci.CodeInvalid, "%s cannot be used: %s", p.at, fmt.Sprintf(format, args...)).WithHint("name the %s that cc-ci wrote", ccci.ResultFile)
	}
	text, err := io.ReadAll(io.LimitReader(r, ccci.ResultLimit+1))
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "reading the result of %s: %w", p.at, err).WithHint("try again")
	}
	if len(text) > ccci.ResultLimit {
		return nil, bad("it has more than %d MiB", ccci.ResultLimit>>20)
	}
	var result ccci.Result
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, bad("it does not parse: %v", err)
	}
	switch {
	case result.Schema != ccci.ResultSchema:
		return nil, bad("it has schema %d and not %d", result.Schema, ccci.ResultSchema)
	case !runID.MatchString(string(result.RunID)):
		return nil, bad("%q is no number of a run", result.RunID)
	case !enrol.ValidName(result.Recipe):
		return nil, bad("%q is not the name of a recipe", result.Recipe)
	case !result.Commit.Valid():
		return nil, bad("%q is not a full commit", result.Commit)
	case result.FirstBase() != nil && !result.FirstBase().Commit.Valid():
		return nil, bad("its base %q is not a full commit", result.FirstBase().Commit)
	}
	for _, d := range result.Dependencies {
		if !enrol.ValidName(d.Recipe) {
			return nil, bad("%q is not the name of a recipe", d.Recipe)
		}
	}
	return &result, nil
}

// archive lays out the run's archive in dir. ErrNotFound when it has none.
func (p pastRun) archive(ctx context.Context, of *ccci.Result, dir string) (*repro.Archive, error) {
	r, err := p.open(ctx, ccci.ReproArchive)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	a, err := repro.Open(r, dir)
	if err != nil {
		return nil, err
	}
	if a.RunID != of.RunID || a.Recipe != of.Recipe || a.Commit != of.Commit {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s is of run %s, %s at %s, and the result is not", ccci.ReproArchive, a.RunID, a.Recipe, a.Commit.Short()).
			WithHint("take both files from the same run")
	}
	return a, nil
}
