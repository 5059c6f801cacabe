package repro

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, dir, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// repository has a release, a commit after it that no branch or tag holds, and a tag that is
// no release.
func repository(t *testing.T) (dir string, head, release ccci.Commit) {
	t.Helper()
	dir = t.TempDir()
	git(t, dir, "init", "--quiet", "--initial-branch=main")
	write(t, dir, "compose.yml", "a", 0o644)
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "--quiet", "-m", "one")
	git(t, dir, "tag", "-a", "-m", "r", "1.0.0+1.0")
	git(t, dir, "tag", "weekly")
	git(t, dir, "checkout", "--quiet", "--detach")
	write(t, dir, "compose.yml", "b", 0o644)
	git(t, dir, "commit", "--quiet", "-am", "two")
	head = ccci.Commit(git(t, dir, "rev-parse", "HEAD"))
	release = ccci.Commit(git(t, dir, "rev-parse", "1.0.0+1.0^{commit}"))
	git(t, dir, "checkout", "--quiet", "main")
	return dir, head, release
}

func contents(t *testing.T) Contents {
	t.Helper()
	dir, head, release := repository(t)
	other, _, _ := repository(t)
	enrolment := t.TempDir()
	write(t, enrolment, "recipe.yml", "health: {path: /x}\n", 0o644)
	write(t, enrolment, "hooks/pre-checks", "#!/bin/sh\n", 0o755)
	return Contents{
		Manifest: Manifest{RunID: "261121-030405-abcdef", Recipe: "wiki", Commit: head, Environment: map[string]string{"proxy": "embedded"}},
		Recipe:   Repository{Dir: dir, Head: head, From: release, Tags: []string{"1.0.0+1.0"}},
		Dependencies: map[string]Repository{
			"login": {Dir: other, Tags: []string{"1.0.0+1.0"}},
		},
		Enrolments: map[string]Enrolment{"wiki": ReadEnrolment(enrolment, nil)},
		TempDir:    t.TempDir(),
	}
}

func TestN9_ArchiveIsReadBack(t *testing.T) {
	c := contents(t)
	var out bytes.Buffer
	left, err := Write(t.Context(), &out, c)
	if err != nil || len(left) > 0 {
		t.Fatalf("%v, left out %v", err, left)
	}
	dir := t.TempDir()
	a, err := Open(&out, dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.RunID != c.Manifest.RunID || a.Environment["proxy"] != "embedded" || !slices.Equal(a.Enrolled, []string{"wiki"}) {
		t.Errorf("%+v", a.Manifest)
	}
	info, err := os.Stat(filepath.Join(a.Tests(), "wiki/hooks/pre-checks"))
	if err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("the hook: %v, %v", info, err)
	}
	repo := filepath.Join(t.TempDir(), "wiki")
	if err := a.Repository(t.Context(), repo, gitcmd.Limits{}); err != nil {
		t.Fatal(err)
	}
	if got := git(t, repo, "rev-parse", "refs/heads/head", "refs/heads/from"); got != string(c.Recipe.Head)+"\n"+string(c.Recipe.From) {
		t.Errorf("head and base: %s", got)
	}
	if got := git(t, repo, "tag"); got != "1.0.0+1.0" {
		t.Errorf("tags: %s", got)
	}
	if got := git(t, repo, "cat-file", "-t", "1.0.0+1.0"); got != "tag" { // R014 asks
		t.Errorf("the release's tag is a %s", got)
	}
	if err := a.Dependency(t.Context(), "login", filepath.Join(t.TempDir(), "login"), gitcmd.Limits{}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"mail", "../login", ""} {
		if err := a.Dependency(t.Context(), name, t.TempDir(), gitcmd.Limits{}); !errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What is too large is left out, and that is said.
func TestN9_ArchiveIsBounded(t *testing.T) {
	c := contents(t)
	noise := make([]byte, maxBundle+1<<20)
	random := rand.NewChaCha8([32]byte{})
	if _, err := random.Read(noise); err != nil {
		t.Fatal(err)
	}
	write(t, c.Recipe.Dir, "large", string(noise), 0o644)
	git(t, c.Recipe.Dir, "add", "-A")
	git(t, c.Recipe.Dir, "commit", "--quiet", "-m", "large")
	c.Recipe.Head = ccci.Commit(git(t, c.Recipe.Dir, "rev-parse", "HEAD"))
	large := t.TempDir()
	write(t, large, "recipe.yml", strings.Repeat("# nothing\n", maxEnrolment/10+1), 0o644)
	c.Enrolments["large"] = ReadEnrolment(large, nil)
	many := t.TempDir()
	for i := range maxFiles + 1 {
		write(t, many, "hooks/"+strings.Repeat("a", i%100+1)+string(rune('a'+i/100)), "", 0o755)
	}
	c.Enrolments["many"] = ReadEnrolment(many, nil)
	var out bytes.Buffer
	left, err := Write(t.Context(), &out, c)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, l := range left {
		parts = append(parts, l.Part)
	}
	if !slices.Equal(parts, []string{"recipe.bundle", "tests/large", "tests/many"}) || out.Len() > Limit {
		t.Errorf("left out: %v, %d bytes", left, out.Len())
	}
	a, err := Open(&out, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if why := a.Lacks("recipe.bundle"); !strings.Contains(why, "the repository has more than 16 MiB") {
		t.Errorf("%q", why)
	}
	if a.Lacks("tests/large") == "" || a.Lacks("tests/wiki") != "" {
		t.Errorf("%+v", a.LeftOut)
	}
	if err := a.Repository(t.Context(), t.TempDir(), gitcmd.Limits{}); !errors.Is(err, ccci.ErrNotFound) {
		t.Error(err)
	}
}

// U17: secrets of an enrolment do not get into the archive, in whichever file they stand.
func TestU17_EnrolmentIsKeptWithoutSecrets(t *testing.T) {
	const secret, other = "hunter2-hunter2", "correct horse battery"
	outside := t.TempDir()
	write(t, outside, "token", secret, 0o644)
	dir := t.TempDir()
	write(t, dir, "recipe.yml", "secrets: {api: "+secret+"}\nenv: {PASSWORD: "+other+"}\n", 0o644)
	write(t, dir, "hooks/pre-checks", "curl -u 'admin:"+secret+"'\n", 0o755)
	write(t, dir, "coded", base64.StdEncoding.EncodeToString([]byte(other)), 0o644)
	write(t, dir, ".env", "X="+secret, 0o644)
	write(t, dir, ".git/config", secret, 0o644)
	write(t, dir, "key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"+strings.Repeat("QUJD", 30)+"\n-----END OPENSSH PRIVATE KEY-----\n", 0o600)
	write(t, dir, "short", "pin: 1234", 0o644)
	if err := os.Symlink(filepath.Join(outside, "token"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	c := contents(t)
	c.Enrolments = map[string]Enrolment{"wiki": ReadEnrolment(dir, map[string]string{"secrets.api": secret, "env.PASSWORD": other, "secrets.pin": "1234"})}
	var out bytes.Buffer
	left, err := Write(t.Context(), &out, c)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, l := range left {
		parts = append(parts, strings.TrimPrefix(l.Part, "tests/wiki/"))
	}
	slices.Sort(parts)
	if !slices.Equal(parts, []string{".env", ".git", "away", "coded", "key"}) {
		t.Errorf("left out: %v", left)
	}
	for _, text := range []string{secret, other, base64.StdEncoding.EncodeToString([]byte(other)), "PRIVATE KEY"} {
		if bytes.Contains(out.Bytes(), []byte(text)) {
			t.Errorf("the archive holds %q", text)
		}
	}
	dir = t.TempDir()
	a, err := Open(&out, dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.Replaced, []string{"wiki: env.PASSWORD", "wiki: secrets.api"}) {
		t.Errorf("replaced: %v", a.Replaced)
	}
	settings, _ := os.ReadFile(filepath.Join(a.Tests(), "wiki/recipe.yml"))
	hook, _ := os.ReadFile(filepath.Join(a.Tests(), "wiki/hooks/pre-checks"))
	_, dummy, _ := strings.Cut(string(settings), "api: ")
	dummy, _, _ = strings.Cut(dummy, "}")
	if len(dummy) != len(secret) || string(hook) != "curl -u 'admin:"+dummy+"'\n" {
		t.Errorf("%s\n%s", settings, hook) // what fitted together still does
	}
}

// The module of Go tests is kept with them, where it begins above the folder.
func TestN9_GoTestsKeepTheirModule(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.org/tests\n", 0o644)
	write(t, dir, "tests/wiki/wiki_test.go", "package wiki\n", 0o644)
	write(t, dir, "tests/login/recipe.yml", "{}", 0o644)
	for name, want := range map[string]bool{"wiki": true, "login": false} {
		e := ReadEnrolment(filepath.Join(dir, "tests", name), nil)
		if got := slices.ContainsFunc(e.files, func(f file) bool { return f.path == "go.mod" }); got != want || e.err != nil {
			t.Errorf("%s: %t, %v", name, got, e.err)
		}
	}
}

// An archive may come from anybody: it writes nowhere but into its folder, nothing but plain
// files of known names, and never more than the bounds.
func TestN9_HostileArchivesAreRefused(t *testing.T) {
	manifest, err := json.Marshal(Manifest{Schema: Schema})
	if err != nil {
		t.Fatal(err)
	}
	good := tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Mode: 0o644, Size: int64(len(manifest))}
	regular := func(name string) []tar.Header { return []tar.Header{{Typeflag: tar.TypeReg, Name: name}, good} }
	many := []tar.Header{good}
	for i := range maxFiles {
		many = append(many, tar.Header{Typeflag: tar.TypeReg, Name: "tests/wiki/" + strings.Repeat("a", i%100+1) + strings.Repeat("b", i/100)})
	}
	for name, headers := range map[string][]tar.Header{
		"above":             regular("../escaped"),
		"above from within": regular("tests/wiki/../../../escaped"),
		"absolute":          regular("/tmp/escaped"),
		"a point":           regular("tests/./wiki/recipe.yml"),
		"hidden":            regular("tests/wiki/.git/hooks"),
		"backslash":         regular(`tests/wiki/..\x`),
		"line break":        regular("tests/wiki/a\nb"),
		"escape":            regular("tests/wiki/\x1b[2J"),
		"unknown":           regular("bin/sh"),
		"no recipe":         regular("tests/recipe.yml"),
		"bad recipe":        regular("tests/WIKI/recipe.yml"),
		"bad dependency":    regular("dependencies/a/b.bundle"),
		"deep":              regular("tests/wiki/" + strings.Repeat("a/", 20) + "b"),
		"link":              {{Typeflag: tar.TypeSymlink, Name: "tests/wiki/hooks", Linkname: "/tmp"}, good},
		"hard link":         {{Typeflag: tar.TypeLink, Name: "tests/wiki/a", Linkname: "/etc/passwd"}, good},
		"folder":            {{Typeflag: tar.TypeDir, Name: "tests/wiki/"}, good},
		"device":            {{Typeflag: tar.TypeChar, Name: "tests/wiki/a"}, good},
		"fifo":              {{Typeflag: tar.TypeFifo, Name: "tests/wiki/a"}, good},
		"twice":             {good, good},
		"file and folder":   {{Typeflag: tar.TypeReg, Name: "tests/wiki/a"}, {Typeflag: tar.TypeReg, Name: "tests/wiki/a/b"}, good},
		"too many":          many,
		"no manifest":       {{Typeflag: tar.TypeReg, Name: "recipe.bundle"}},
		"empty":             {},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			for _, h := range headers {
				h.Format = tar.FormatPAX
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					if _, err := w.Write(manifest); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			refusedIn(t, out.Bytes())
		})
	}
	for name, text := range map[string][]byte{
		"no tar":      []byte(strings.Repeat("not a tar ", 200)),
		"page":        []byte("<!DOCTYPE html>"),
		"claims much": claims(t, Limit+1),
		"sparse":      sparse(t, 8*Limit),
	} {
		t.Run(name, func(t *testing.T) { refusedIn(t, text) })
	}
	for name, text := range map[string]string{"schema": `{"schema": 7}`, "no JSON": "x", "large": `"` + strings.Repeat("x", maxManifest) + `"`} {
		t.Run("manifest "+name, func(t *testing.T) {
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Size: int64(len(text))})
			if err == nil {
				_, err = w.Write([]byte(text))
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			refusedIn(t, out.Bytes())
		})
	}
}

// claims is the beginning of a tar with a file of a size.
func claims(t *testing.T, size int64) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := tar.NewWriter(&out).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: recipeBundle, Size: size}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sparse is a tar of some hundred bytes with a file of a size, which has nothing but a hole.
func sparse(t *testing.T, size int) []byte {
	t.Helper()
	record := func(key, value string) string {
		for n := len(key) + len(value) + 3; ; n++ {
			if line := fmt.Sprintf("%d %s=%s\n", n, key, value); len(line) == n {
				return line
			}
		}
	}
	records := record("GNU.sparse.size", strconv.Itoa(size)) + record("GNU.sparse.numblocks", "1") + record("GNU.sparse.map", "0,0")
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "extended", Size: int64(len(records))})
	if err == nil {
		_, err = w.Write([]byte(records))
	}
	if err == nil {
		err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: recipeBundle})
	}
	if err == nil {
		err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: manifestName})
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	text := out.Bytes()
	text[156] = tar.TypeXHeader // the writer makes none by itself
	copy(text[148:156], "        ")
	sum := 0
	for _, b := range text[:512] {
		sum += int(b)
	}
	copy(text[148:156], fmt.Sprintf("%06o\x00 ", sum))
	in := tar.NewReader(bytes.NewReader(text))
	if h, err := in.Next(); err != nil || h.Size != int64(size) || h.Name != recipeBundle {
		t.Fatalf("no sparse file: %+v, %v", h, err)
	}
	return text
}

// refusedIn opens an archive in a folder beside which nothing may appear.
func refusedIn(t *testing.T, text []byte) {
	t.Helper()
	above := t.TempDir()
	dir := filepath.Join(above, "a", "b", "c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bytes.NewReader(text), dir); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
		t.Errorf("%v (hint %q)", err, ccci.HintOf(err))
	}
	err := filepath.WalkDir(above, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && (!filepath.IsLocal(rel) || !d.Type().IsRegular() || info.Size() > Limit) {
			t.Errorf("the archive made %s, %d bytes", path, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/tmp/escaped"); err == nil {
		t.Error("the archive made /tmp/escaped")
	}
}

func TestDifferences(t *testing.T) {
	result := func(checks ...ccci.Check) *ccci.Result {
		return &ccci.Result{Verdict: ccci.VerdictPassed, Level: 5, Stages: []ccci.Stage{{Name: ccci.StageChecks, Checks: checks}}}
	}
	before := result(ccci.Check{Name: "checks/a", Status: ccci.Pass}, ccci.Check{Name: "checks/b", Status: ccci.Pass}, ccci.Check{Name: "checks/c", Status: ccci.Fail})
	after := result(ccci.Check{Name: "checks/a", Status: ccci.Pass}, ccci.Check{Name: "checks/b", Status: ccci.Fail, Message: "404"}, ccci.Check{Name: "checks/d", Status: ccci.Pass})
	want := []string{"checks/b: passed then, failed now: 404", "checks/c: failed then, did not run now", "checks/d: did not run then, passed now"}
	if got := Differences(before, after); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if !Same(before, after) || Verdict(after) != "passed, level 5" {
		t.Error("the verdict is the same")
	}
	flaky, late := result(ccci.Check{Name: "checks/a", Status: ccci.Flaky}), result()
	flaky.Status, flaky.Verdict, late.Status, late.Verdict = ccci.StatusFlaky, ccci.VerdictInconclusive, ccci.StatusInconclusive, ccci.VerdictInconclusive
	if Same(flaky, late) || Same(flaky, before) || !Same(flaky, flaky) || Verdict(flaky) != "flaky, level 5" {
		t.Errorf("a flaky run has the verdict %q", Verdict(flaky))
	}
	if got := Differences(flaky, before)[0]; got != "checks/a: flaky then, passed now" {
		t.Errorf("%q", got)
	}
	failed, refused := ccci.Check{Name: "install/admitted", Status: ccci.Fail, Code: ccci.CodeInvalid}, ccci.Check{Name: "install/admitted", Status: ccci.Fail, Code: ccci.CodeRefused}
	if got := Differences(result(failed), result(refused)); !slices.Equal(got, []string{"install/admitted: failed then, refused now"}) {
		t.Errorf("%q", got)
	}
	after.Level = 4
	if Same(before, after) {
		t.Error("another level is the same verdict")
	}
	before.Settings, after.Settings = ccci.Settings{"a": "1", "b": "1", "c": "1"}, ccci.Settings{"a": "1", "b": "2"}
	if got := Settings(before, after); !slices.Equal(got, []string{"b: 1 then, 2 now"}) {
		t.Errorf("%q", got)
	}
	if got := Environment(map[string]string{"a": "1", "c": "1"}, map[string]string{"a": "1", "b": "2"}); !slices.Equal(got, []string{"b: not known then, 2 now", "c: 1 then, not known now"}) {
		t.Errorf("%q", got)
	}
	image := func(digest, repo string) []ccci.Image {
		return []ccci.Image{{Service: "app", Reference: "x:1", Stage: "head", Digest: digest, RepoDigest: repo}}
	}
	for _, c := range []struct {
		then, now []ccci.Image
		differ    int
	}{
		{image("sha256:a", ""), image("sha256:a", ""), 0},
		{image("sha256:a", "x@sha256:1"), image("sha256:b", "x@sha256:1"), 0}, // another store's identifier, or architecture
		{image("sha256:a", ""), image("sha256:b", ""), 1},
		{image("sha256:a", "x@sha256:1"), image("sha256:b", "x@sha256:2"), 1},
		{image("sha256:a", ""), nil, 0},
	} {
		before.Images, after.Images = c.then, c.now
		if got := Images(before, after); len(got) != c.differ {
			t.Errorf("%v, %v: %q", c.then, c.now, got)
		}
	}
}
