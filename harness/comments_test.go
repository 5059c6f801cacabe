package harness

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// notFound answers as a proxy without a router does, for every name.
func notFound(*http.Request) (int, string) { return http.StatusNotFound, "" }

// N7, N12: the comment and the status of runs that do not pass, or pass with less, as the real report
// words the real result.
func TestN12_CommentsOfRealResults(t *testing.T) {
	rejected := &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "deploying app: service app: its task failed 3 times in the same way: exit code 1").WithHint("the container ends by itself; read its log lines"),
		Reason: "restart-loop", Tasks: []TaskFailure{{Service: "app", State: "failed", Message: "exit code 1", Log: []string{"[FATAL] config: no such key \"listen\""}}}}
	noEntrypoint := ccci.Errorf(ccci.CodeRecipe, "deploying app: service app: exec /new-entrypoint.sh: no such file or directory").WithHint("the entrypoint that this commit sets is not in the image")
	missing := ccci.Errorf(ccci.CodeRecipe, "pulling image registry.example/app:9.9 of service app: manifest unknown").WithHint("check the name and the tag of registry.example/app:9.9")
	down := ccci.Errorf(ccci.CodeInfra, "pulling image registry.example/app:1 of service app: received unexpected HTTP status: 503 Service Unavailable").WithHint("the registry failed; try again later")
	two := replacing(t, "    image:", "    privileged: true\n    pid: host\n    image:")
	for name, c := range map[string]struct {
		older  []string
		head   func(string) string
		change func(*world, *Config)
		build  ccci.Build
	}{
		"broken-base": {change: func(w *world, c *Config) { w.fail("deploy base", rejected) }},
		"older-base":  {older: []string{"0.0.9+1.0.0"}, change: func(w *world, c *Config) { w.fail("deploy base", rejected) }},
		"both-broken": {change: func(w *world, c *Config) { w.fail("deploy base", rejected); w.fail("deploy head", rejected) }},
		"both-differ": {change: func(w *world, c *Config) { w.fail("deploy base", rejected); w.fail("deploy head", noEntrypoint) }},
		"from-broken": {change: func(w *world, c *Config) { c.Job.Options.From = "0.1.0+1.0.0"; w.fail("deploy base", rejected) }},
		"quick-broken": {change: func(w *world, c *Config) {
			c.Job.Options.Quick, c.Keeper, c.Canonical = true, worldKeeper{w}, giving(released(t, c.Job.CloneURL), nil)
			w.fail("deploy base", rejected)
		}},
		"refused":              {head: two},
		"refused-but-waivable": {head: replacing(t, "    image:", "    cap_add: [NET_ADMIN]\n    privileged: true\n    image:")},
		"missing-image":        {change: func(w *world, c *Config) { w.fail("pull head", missing) }},
		"registry-down":        {change: func(w *world, c *Config) { w.fail("pull head", down) }},
		"proxy-404": {change: func(w *world, c *Config) {
			c.Job.Options.Stages = []ccci.StageName{ccci.StageInstall, ccci.StageChecks}
			w.answer = notFound
			w.unrouted = [2]string{"no router of the proxy matches https://cana-abcdef.ci.example.org/: router ${STACK_NAME}: it has no tls label, so it does not serve HTTPS",
				"set the label traefik.http.routers.${STACK_NAME}.tls.certresolver or traefik.http.routers.${STACK_NAME}.tls=true"}
		}},
		"unhealthy": {change: func(w *world, c *Config) {
			c.Job.Options.Stages = []ccci.StageName{ccci.StageInstall, ccci.StageChecks}
			w.answer = func(r *http.Request) (int, string) {
				if strings.HasPrefix(r.URL.Host, "nobody-") {
					return http.StatusNotFound, ""
				}
				return http.StatusBadGateway, ""
			}
		}},
		"flaky":        {change: func(w *world, c *Config) { answers(w, c, 500) }},
		"failed-twice": {change: func(w *world, c *Config) { answers(w, c, 500, 503) }},
		"deadline": {change: func(w *world, c *Config) {
			c.Job.Deadline = time.Minute
			c.Deployer = hanging{worldDeployer{world: w}}
		}},
		"no-browser": {change: func(w *world, c *Config) { c.Browser = nil }},
		"no-backup":  {head: replacing(t, "        - \"backupbot.backup=true\"\n", ""), change: func(w *world, c *Config) { w.plan = labelled }},
		"no-backup-and-broken-base": {head: replacing(t, "        - \"backupbot.backup=true\"\n", ""), change: func(w *world, c *Config) {
			w.plan = labelled
			w.fail("deploy base", rejected)
		}},
		"no-volume": {head: replacing(t, "    volumes:\n      - data:/data\n", "", "volumes:\n  data:\n", "", "        - \"backupbot.backup=true\"\n", ""),
			change: func(w *world, c *Config) {
				w.plan, c.Settings.Skip = labelled, []ccci.SkipStage{{Stage: ccci.StageUpgrade, Reason: "the vendor offers none"}}
			}},
		"abra-refuses": {head: replacing(t, "    healthcheck:\n", "    stop_grace_period: ${GRACE:-1m}\n    healthcheck:\n")},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := withReleases(t, c.older...)
			if c.head != nil {
				repo, head = reworked(t, same, c.head)
			}
			w := newWorld()
			config := w.config(t, repo, head)
			if c.change != nil {
				c.change(w, &config)
			}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				run := ccci.Run{ID: r.RunID, Recipe: r.Recipe, Commit: r.Commit, Options: r.Options, Attempt: 1, RequestedBy: ccci.User{Name: "ada"}, Started: r.Started, Finished: r.Finished}
				code := 0
				if r.Status != ccci.StatusPassed {
					code = 1
				}
				run.Status, run.Cause = report.Settle(run, ccci.Build{Ending: ccci.EndExited, ExitCode: code}, r, "", time.Hour)
				links := report.LinksFor("https://ci.example.org", run.ID)
				status := report.Status(run, r, links)
				got := report.Comment(run, r, links, nil) + "\n<!-- status: " + string(status.State) + " | " + status.Context + " | " + status.Description + " -->\n"
				constant := strings.NewReplacer(string(head), strings.Repeat("c", 40), head.Short(), "cccccccc")
				got = constant.Replace(got)
				golden(t, filepath.Join("comments", name+".md"), got)
				golden(t, filepath.Join("results", name+".json"), constant.Replace(record(t, run, *r)))
				if r.Cause != nil && r.Cause.Message != "" && strings.Count(got[:strings.Index(got, "<!-- status")], report.Text(r.Cause.Message)) > 1 {
					t.Errorf("the cause is said more than once")
				}
				if took := r.Duration; name == "proxy-404" && took > 10*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// record is a run with its result, of which the tests of the dashboard draw the page.
func record(t *testing.T, run ccci.Run, r ccci.Result) string {
	t.Helper()
	r.Artifacts = slices.Clone(r.Artifacts)
	for i := range r.Artifacts {
		r.Artifacts[i].Size = 0 // that of an archive varies
	}
	made := ccci.Commit(strings.Repeat("b", 40)) // by some of the tests
	if r.Base != nil {
		base := *r.Base
		base.Commit = made
		r.Base = &base
	}
	r.BrokenBases = slices.Clone(r.BrokenBases)
	for i := range r.BrokenBases {
		r.BrokenBases[i].Commit = made
	}
	text, err := json.MarshalIndent(struct {
		Run    ccci.Run
		Result ccci.Result
	}{run, r}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", name, got)
	}
}
