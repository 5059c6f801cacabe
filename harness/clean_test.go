package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
)

// TestN3_LargestResultIsRead fills every list and every text of a result with what takes the most
// room. A result that its readers refuse for its size would be "infrastructure errored", which a
// recipe could bring about.
func TestN3_LargestResultIsRead(t *testing.T) {
	text := strings.Repeat("<&>x", 1<<10)
	r := &ccci.Result{RunID: "261130-000000-aaaaaa", Schema: ccci.ResultSchema, Cause: &ccci.Cause{Message: text, Detail: []string{text}}, Settings: ccci.Settings{}}
	for i := range 1100 {
		text := fmt.Sprint(i, text)
		r.Lint = append(r.Lint, ccci.Finding{Rule: "C003", Severity: "error", File: text, Message: text, Hint: text})
		r.Changes = append(r.Changes, ccci.Change{Subject: text, What: text, Before: text, After: text})
		r.Warnings = append(r.Warnings, text)
		r.Settings[text] = text
	}
	for range 8 {
		s := ccci.Stage{Name: ccci.StageChecks, Status: ccci.Fail, Reason: text}
		for range 100 {
			s.Checks = append(s.Checks, ccci.Check{Name: "checks/x", Status: ccci.Fail, Message: text, Detail: []string{text, text, text}})
		}
		r.Stages = append(r.Stages, s)
	}
	c := Config{OutDir: t.TempDir(), Censor: &censor.Censor{}, Now: time.Now}
	var log bytes.Buffer
	l := &life{instance: &instance{Config: &c}, result: r, log: c.Censor.NewWriter(&log)}
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.OutDir, "result.json")
	if info, err := os.Stat(path); err != nil || info.Size() > longestResult {
		t.Fatalf("%v, %v; the limit is %d", info, err, longestResult)
	}
	back, problem, err := ccci.ReadResult(context.Background(), oneFile{path: path}, ccci.Run{ID: r.RunID}, ccci.Build{})
	if err != nil || problem != "" {
		t.Fatalf("the reader says %q, %v", problem, err)
	}
	if len(back.Stages) != 8 || back.Stages[7].Status != ccci.Fail || len(back.Lint) == 0 || back.Cause == nil {
		t.Error("more was cut than texts and lists")
	}
	if err := l.log.Flush(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "the result is cut") {
		t.Errorf("the log does not say that it was cut: %.300s", log.String())
	}
}

// oneFile is a store of blobs with one blob.
type oneFile struct {
	ccci.BlobReader
	path string
}

func (f oneFile) Get(context.Context, string) (io.ReadCloser, ccci.BlobInfo, error) {
	file, err := os.Open(f.path)
	return file, ccci.BlobInfo{}, err
}

// A secret may equal what JSON or cc-ci itself writes: a number, quotes and names of fields, a date,
// a word of the schema, the end of an escape. The result is one that its readers take, without the secret.
func TestU17_SecretsLikeJSONLeaveAResult(t *testing.T) {
	const number = 73_219_408_551
	c := Config{OutDir: t.TempDir(), Censor: &censor.Censor{}, Now: time.Now}
	secrets := []string{fmt.Sprint(number), `"status": "`, `",` + "\n" + `  "recipe": "`, "2026-11-30", "unverified", "nabcdefgh", `a"b\c"d\e`}
	for _, s := range secrets {
		c.Censor.Add("secret", ccci.NewSecret(s))
	}
	at := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
	r := &ccci.Result{RunID: "261130-000000-aaaaaa", Schema: ccci.ResultSchema, Started: at, Finished: at, Duration: number, PeakMemory: number,
		Stages:   []ccci.Stage{{Name: ccci.StageInstall, Status: ccci.Unverified, Reason: strings.Join(secrets, "|"), Duration: number}},
		Teardown: &ccci.Teardown{Removed: map[string]int{"volume": number}},
		Settings: ccci.Settings{"a" + secrets[5]: secrets[5]}, Cause: &ccci.Cause{Message: "x\nabcdefgh", Hint: "ab\u202e" + secrets[1]},
	}
	l := &life{instance: &instance{Config: &c}, result: r, log: c.Censor.NewWriter(io.Discard)}
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.OutDir, "result.json")
	back, problem, err := ccci.ReadResult(context.Background(), oneFile{path: path}, ccci.Run{ID: r.RunID}, ccci.Build{})
	if err != nil || problem != "" {
		t.Fatalf("the reader says %q, %v", problem, err)
	}
	if s := back.Stages[0]; s.Name != ccci.StageInstall || s.Status != ccci.Unverified || strings.Trim(s.Reason, "*|\n") != "" {
		t.Errorf("the stage is %+v", s)
	}
	if back.Duration != 0 || back.PeakMemory != 0 || back.Stages[0].Duration != 0 || back.Teardown.Removed["volume"] != 0 {
		t.Errorf("a number that is a secret: %+v", back)
	}
	if !back.Started.Equal(at) || back.Cause.Message != "x\nabcdefgh" || back.Settings["a***"] != "***" || strings.Contains(back.Cause.Hint, "status") {
		t.Errorf("the rest: %+v", back)
	}
}

// Each line of the log has its time, but markers, which begin their line, and what goes on from the line before.
func TestLogHasTimes(t *testing.T) {
	var log bytes.Buffer
	at := time.Date(2026, 3, 14, 12, 4, 5, 0, time.UTC)
	c := Config{OutDir: t.TempDir(), Censor: &censor.Censor{}, Now: func() time.Time { return at }}
	l := &life{instance: &instance{Config: &c}, log: c.Censor.NewWriter(&log)}
	l.mark(ccci.Marker{Stage: ccci.StageInstall, Begin: true})
	l.sayf("one\ntwo")
	l.sayCheck(ccci.Check{Name: "install/health", Status: ccci.Pass}, nil)
	if err := l.log.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "##[stage install begin]\n12:04:05 one\n           | two\n12:04:05 passed     install/health (0.0s)\n"
	if log.String() != want {
		t.Errorf("got\n%s\nwant\n%s", log.String(), want)
	}
}
