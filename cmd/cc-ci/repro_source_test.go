package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

const pastID = ccci.RunID("261121-030405-abcdef")

// pastFiles are the result of a run and its archive, whose enrolment is in dir.
func pastFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	repo := t.TempDir()
	gitIn(t, repo, "init", "--quiet")
	gitIn(t, repo, "commit", "--quiet", "--allow-empty", "-m", "x")
	commit, err := gitcmd.Run(t.Context(), repo, "rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	result, err := json.Marshal(ccci.Result{Schema: ccci.ResultSchema, RunID: pastID, Recipe: "wiki", Commit: ccci.Commit(commit), Verdict: ccci.VerdictPassed, Level: 5})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if _, err := repro.Write(t.Context(), &archive, repro.Contents{
		Manifest:   repro.Manifest{RunID: pastID, Recipe: "wiki", Commit: ccci.Commit(commit)},
		Recipe:     repro.Repository{Dir: repo, Head: ccci.Commit(commit)},
		Enrolments: map[string]repro.Enrolment{"wiki": repro.ReadEnrolment(dir, nil)}, TempDir: t.TempDir(),
	}); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{ccci.ResultFile: result, ccci.ReproArchive: archive.Bytes()}
}

// powerful is an enrolment with a hook, a Go test and a waiver.
func powerful(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"hooks/pre-install": "#!/bin/sh\n", "wiki_test.go": "package wiki\n",
		"recipe.yml": "waivers:\n  - {rule: privileged, service: app, reason: r, owner: o, expires: 2099-01-01}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// prepared is what comes of a run before Docker is looked for.
func prepared(t *testing.T, cfg config.Config, name string, cmd reproCmd) (handRun, error) {
	t.Helper()
	past, err := findRun(cfg, name)
	if err != nil {
		return handRun{}, err
	}
	before, err := past.result(t.Context())
	if err != nil {
		return handRun{}, err
	}
	return (&repetition{cmd: &cmd, cfg: cfg, past: past, before: before, dir: t.TempDir()}).prepare(t.Context())
}

// N9: what an enrolment of somebody else would do on this machine is named and needs a person's word;
// that of a run of this machine's own data folder does not.
func TestN9_ForeignEnrolmentsNeedConsent(t *testing.T) {
	files := pastFiles(t, powerful(t))
	cfg := config.Default()
	cfg.Data = t.TempDir()
	place := func(dir string) string {
		t.Helper()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(files[filepath.Base(r.URL.Path)])
	}))
	defer server.Close()
	ours := place(filepath.Join(cfg.Data, byHandDir, string(pastID)))
	link := filepath.Join(cfg.Data, "link") // within the data folder by name alone
	if err := os.Symlink(place(t.TempDir()), link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{place(t.TempDir()), link, server.URL + "/runs/" + string(pastID)} {
		_, err := prepared(t, cfg, name, reproCmd{})
		if ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(ccci.HintOf(err), "--trust-enrolment") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, power := range []string{"program hooks/pre-install", "program wiki_test.go", "waiver of privileged for service app"} {
			if !strings.Contains(err.Error(), power) {
				t.Errorf("%s: %q is not named: %v", name, power, err)
			}
		}
		if h, err := prepared(t, cfg, name, reproCmd{Trust: true}); err != nil || len(h.enrolment.Waivers) != 1 {
			t.Errorf("%s, with consent: %v", name, err)
		}
		if h, err := prepared(t, cfg, name, reproCmd{Tests: t.TempDir()}); err != nil || len(h.enrolment.Waivers) != 0 {
			t.Errorf("%s, with an enrolment of our own: %v", name, err)
		}
	}
	blobs, err := dirblob.Open(filepath.Join(cfg.Data, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ours, string(pastID)} {
		if _, err := prepared(t, cfg, name, reproCmd{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.RemoveAll(ours); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if _, err := blobs.Put(t.Context(), ccci.ArtifactKey(pastID, name), bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := prepared(t, cfg, string(pastID), reproCmd{}); err != nil {
		t.Errorf("a run of an engine: %v", err)
	}
}

// N9: an archive without programs and waivers needs no consent. Both files are of one run.
func TestN9_FilesOfARunBelongTogether(t *testing.T) {
	cfg := config.Default()
	cfg.Data = t.TempDir()
	files := pastFiles(t, t.TempDir())
	dir := t.TempDir()
	put := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(ccci.ResultFile, files[ccci.ResultFile])
	put(ccci.ReproArchive, files[ccci.ReproArchive])
	h, err := prepared(t, cfg, dir, reproCmd{})
	if err != nil || h.enrolment.Name != "wiki" || h.job.RunID == pastID || h.job.Trigger != "" {
		t.Errorf("%+v, %v", h.job, err)
	}
	put(ccci.ResultFile, bytes.Replace(files[ccci.ResultFile], []byte(pastID), []byte("261121-030405-fedcba"), 1))
	if _, err := prepared(t, cfg, dir, reproCmd{}); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("another run's archive: %v", err)
	}
	put(ccci.ResultFile, append(files[ccci.ResultFile], bytes.Repeat([]byte(" "), ccci.ResultLimit)...))
	if _, err := prepared(t, cfg, dir, reproCmd{}); ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), "more than 4 MiB") {
		t.Errorf("a large result: %v", err)
	}
}

// N9: only the server that a person named is asked, over a way that nobody changes, and not for ever.
func TestN9_DownloadsAreBounded(t *testing.T) {
	files := pastFiles(t, t.TempDir())
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; w.Write(files[ccci.ResultFile]) }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	page := "/runs/" + string(pastID)
	mux.HandleFunc("/ci"+page+"/files/{name}", func(w http.ResponseWriter, r *http.Request) { w.Write(files[r.PathValue("name")]) })
	mux.HandleFunc("/kept/{name}", func(w http.ResponseWriter, r *http.Request) { w.Write(files[r.PathValue("name")]) })
	mux.HandleFunc("/away/result.json", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/result.json", http.StatusFound)
	})
	mux.HandleFunc("/moved/result.json", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/kept/result.json", http.StatusFound)
	})
	mux.HandleFunc("/round/result.json", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/round/result.json", http.StatusFound)
	})
	mux.HandleFunc("/endless/result.json", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/broken/result.json", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	server := httptest.NewServer(mux)
	defer server.Close()
	read := func(address string) (*ccci.Result, error) {
		p, err := runAt(server.URL + address)
		if err != nil {
			return nil, err
		}
		return p.result(t.Context())
	}
	for _, address := range []string{"/ci" + page, "/ci" + page + "/", "/ci" + page + "?x=1#log", "/ci" + page + "/files/result.json", "/ci" + page + "/files/repro.tar", "/kept/result.json", "/moved/result.json"} {
		if r, err := read(address); err != nil || r.RunID != pastID {
			t.Errorf("%s: %v", address, err)
		}
	}
	for address, want := range map[string]ccci.Code{
		"/away/result.json": ccci.CodeInfra, "/round/result.json": ccci.CodeInfra, "/broken/result.json": ccci.CodeInfra,
		"/endless/result.json": ccci.CodeInvalid, "/absent/result.json": ccci.CodeNotFound, "/": ccci.CodeInvalid, "/runs/x": ccci.CodeInvalid,
	} {
		if _, err := read(address); err == nil || ccci.CodeOf(err) != want || ccci.HintOf(err) == "" {
			t.Errorf("%s: %v", address, err)
		}
	}
	if asked > 0 {
		t.Error("a redirect led to another server")
	}
	p, err := runAt(server.URL + "/ci" + page)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.open(context.Background(), ccci.ReproArchive)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || !bytes.Equal(text, files[ccci.ReproArchive]) {
		t.Errorf("the archive: %d bytes, %v", len(text), err)
	}
}

// A digest counts only for the image that the recipe names.
func TestN9_PinsAreOfTheSameImage(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		ref, digest string
		want        bool
	}{
		{"nginx:1.27", "nginx" + digest, true},
		{"docker.io/library/nginx:1.27", "nginx" + digest, true},
		{"nginx:1.27", "evil.example/nginx" + digest, false},
		{"nginx:1.27", "nginx:1.27", false},
		{"nginx:1.27", "--privileged", false},
		{"", "", false},
	} {
		if got := sameName(c.ref, c.digest); got != c.want {
			t.Errorf("%q, %q: %t", c.ref, c.digest, got)
		}
	}
}
