package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// said runs one check and returns its entries as text.
func said(t *testing.T, check Check) string {
	t.Helper()
	all := Run(t.Context(), []Check{check})
	var b bytes.Buffer
	if err := WriteText(&b, all); err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Code != "" && d.Hint == "" {
			t.Errorf("a problem without a way out: %+v", d)
		}
	}
	return b.String()
}

func expect(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: no %q in\n%s", what, w, got)
		}
	}
}

func TestC32_Reach(t *testing.T) {
	skew := time.Duration(0)
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		if status == http.StatusFound {
			w.Header().Set("Location", "http://192.0.2.1/")
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	check := Reach("git", server.URL, nil)
	expect(t, "well", said(t, check), "ok       git: reachable: http://127.0.0.1", "ok       git: clock: it differs from ours by less than 5s")
	status = http.StatusFound
	expect(t, "a redirect is not followed", said(t, check), "ok       git: reachable")
	status = http.StatusBadGateway
	expect(t, "trouble there", said(t, check), "problem  git: reachable: ", "502 Bad Gateway")
	status, skew = http.StatusOK, 20*time.Second
	expect(t, "a little skew", said(t, check), "warning  git: clock: its clock is", "ahead of ours", "timedatectl")
	skew = -time.Hour
	expect(t, "much skew", said(t, check), "problem  git: clock: its clock is", "behind ours")
	server.Close()
	expect(t, "nobody there", said(t, check), "problem  git: reachable: ", "connection refused", "hint: check url")
	expect(t, "no such name", said(t, Reach("git", "https://nowhere.invalid", nil)), "problem  git: reachable", "nowhere.invalid")
	broken := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("x509: certificate has expired") })
	expect(t, "in the clear", said(t, Reach("git", "http://git.example.org", broken)), "warning  git: encryption: ", "problem  git: reachable", "certificate has expired")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type account struct {
	ccci.Forge
	selfErr, memberErr error
	member             bool
	repos              map[string]ccci.Repository
	hooks              map[string][]ccci.Webhook
	trouble            map[string]error // by the repository's name
}

func (a account) Name() string { return "git" }
func (a account) Self(context.Context) (ccci.User, error) {
	return ccci.User{ID: "7", Name: "bot"}, a.selfErr
}
func (a account) Member(_ context.Context, org string, u ccci.User) (bool, error) {
	return a.member && org == "coop" && u.ID == "7", a.memberErr
}
func (a account) Repository(_ context.Context, ref ccci.RepoRef) (ccci.Repository, error) {
	return a.repos[ref.Name], a.trouble[ref.Name]
}
func (a account) Webhooks(_ context.Context, ref ccci.RepoRef) ([]ccci.Webhook, error) {
	return a.hooks[ref.Name], a.trouble[ref.Name]
}
func (a account) Diagnose(context.Context) []ccci.Diagnosis {
	return []ccci.Diagnosis{{Check: "git: limits", Message: "4,900 of 5,000 are left"}}
}

func TestA7_Account(t *testing.T) {
	places := Places{Token: "https://git/token", Members: "https://git/members"}
	look := func(a account, app bool) string { return said(t, Account(a, "coop", app, places)) }
	expect(t, "well", look(account{member: true}, false), "ok       git: account: cc-ci acts as bot (id 7)", "ok       git: membership: bot is a member of coop")
	expect(t, "no member", look(account{}, false), "problem  git: membership: bot is no member of coop", "hint: add bot to the organisation", "https://git/members")
	expect(t, "no token", look(account{selfErr: errors.New("401")}, false), "problem  git: account: 401", "https://git/token")
	expect(t, "no right", look(account{memberErr: ccci.Errorf(ccci.CodeRefused, "403")}, false), "problem  git: membership: 403", "right to read the organisation")
	if got := look(account{}, true); strings.Contains(got, "membership") {
		t.Errorf("an App is asked whether it is a member:\n%s", got)
	}
	expect(t, "of its own", said(t, Own(account{})), "ok       git: limits: 4,900")
	if got := said(t, Own("nothing")); got != "" {
		t.Errorf("said %q", got)
	}
}

func TestMachine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("geheim"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "there", said(t, Folder("data", dir, "data:")), "ok       data: ", "can be written to")
	expect(t, "to be made", said(t, Folder("data", filepath.Join(dir, "a", "b"), "data:")), "will be made")
	if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
		t.Error("the folder was made")
	}
	expect(t, "a file", said(t, Folder("data", filepath.Join(file, "b"), "data:")), "problem  data: ", "is not a folder")
	expect(t, "disk", said(t, Disk("disk", filepath.Join(dir, "a"))), "disk: ", "GB are free")
	for free, want := range map[int64]string{1 << 30: "problem  disk: 1.0 GB", 5 << 30: "warning  disk: 5.0 GB", 50 << 30: "ok       disk: 50.0 GB"} {
		expect(t, "space", said(t, func(context.Context) []ccci.Diagnosis { return []ccci.Diagnosis{space("disk", dir, free)} }), want)
	}
	expect(t, "no program", said(t, Program("no-such-program", "install it")), "problem  no-such-program: there is no", "hint: install it")
	expect(t, "secret", said(t, Secret(new(config.Config).ReadSecret, file, "token")), "ok       secret: token: ")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, "everybody's secret", said(t, Secret(new(config.Config).ReadSecret, file, "token")), "warning  secret: token: ", "chmod o-rwx")
	if got := said(t, Secret(new(config.Config).ReadSecret, file, "token")); strings.Contains(got, "geheim") {
		t.Error("the secret is shown")
	}
	expect(t, "no secret", said(t, Secret(new(config.Config).ReadSecret, filepath.Join(dir, "none"), "token")), "problem  secret: token: ", "there is no file")
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(dir, "none.sock"))
	expect(t, "no daemon", said(t, Docker(nil, swarm.Spec{})), "problem  docker: no Docker daemon answers at unix://")
	for _, tc := range []struct {
		info swarm.Info
		want string
	}{
		{swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, "ok"}, {swarm.Info{LocalNodeState: swarm.LocalNodeStateLocked}, "problem"},
		{swarm.Info{LocalNodeState: swarm.LocalNodeStateActive}, "problem"},
		{swarm.Info{LocalNodeState: swarm.LocalNodeStateActive, ControlAvailable: true, Nodes: 3}, "ok"},
	} {
		expect(t, "swarm", said(t, func(context.Context) []ccci.Diagnosis { return []ccci.Diagnosis{swarmState(tc.info)} }), tc.want)
	}
}

// N3: where the kernel lacks a limit, a run is made without it. The operator is warned.
func TestN3_KernelsWithoutLimits(t *testing.T) {
	look := func(unlimited ...string) string {
		return said(t, func(context.Context) []ccci.Diagnosis { return []ccci.Diagnosis{limits(unlimited)} })
	}
	expect(t, "all", look(), "ok       limits of containers: memory, processors and processes")
	expect(t, "none of two", look("memory", "processes"), "warning  limits of containers: the kernel cannot limit the memory and the processes of a container", "docker info")
}

func swarmSpec(interval uint64, history int64) swarm.Spec {
	return swarm.Spec{Raft: swarm.RaftConfig{SnapshotInterval: interval}, Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: &history}}
}

// N3: a swarm keeps each state of each task until its next snapshot. The operator is warned of long intervals.
func TestN3_LogOfTheSwarm(t *testing.T) {
	const command = "hint: docker swarm update --snapshot-interval 500 --task-history-limit 5"
	for name, tc := range map[string]struct {
		have swarm.Spec
		want []string
	}{
		"bounded":             {swarmSpec(500, 5), []string{"ok       log of the swarm: its snapshot interval is 500 and its task history limit 5"}},
		"less":                {swarmSpec(100, 1), []string{"ok       log of the swarm: "}},
		"Docker's default":    {swarmSpec(10000, 5), []string{"warning  log of the swarm: its snapshot interval is 10000", command}},
		"many tasks":          {swarmSpec(500, 6), []string{"warning  log of the swarm: ", "task history limit 6", command}},
		"tasks are kept":      {swarmSpec(500, -1), []string{"warning  log of the swarm: ", "task history limit -1", command}},
		"nothing is reported": {swarm.Spec{Raft: swarm.RaftConfig{SnapshotInterval: 500}}, []string{"ok       log of the swarm: "}},
	} {
		expect(t, name, said(t, func(context.Context) []ccci.Diagnosis { return []ccci.Diagnosis{swarmLog(tc.have, swarmSpec(500, 5))} }), tc.want...)
	}
}

// Of a real daemon, its answer decides.
func TestDocker(t *testing.T) {
	docker := dockerd.Start(t)
	t.Setenv("DOCKER_HOST", docker.Docker.DaemonHost())
	lacks := func(names ...string) string {
		return said(t, Docker(func(info system.Info) []string {
			if info.NCPU == 0 {
				t.Errorf("the daemon's answer is %+v", info)
			}
			return names
		}, swarmSpec(500, 5)))
	}
	expect(t, "all", lacks(), "ok       docker: ", "ok       swarm: there is none", "ok       limits of containers: ", " version of Docker Engine: ", "Docker Engine ", " version of runc: ", "runc ")
	expect(t, "one", lacks("processors"), "warning  limits of containers: the kernel cannot limit the processors of a container")
	if got := lacks(); strings.Contains(got, "log of the swarm") {
		t.Errorf("without a swarm: %s", got)
	}
	if _, err := docker.Docker.SwarmInit(t.Context(), swarm.InitRequest{ListenAddr: "127.0.0.1:2377", AdvertiseAddr: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	expect(t, "a swarm", lacks(), "warning  log of the swarm: its snapshot interval is 10000 and its task history limit 5")
}

func TestExitIsOfWhatMustBeMendedFirst(t *testing.T) {
	d := func(code ccci.Code, warning bool) ccci.Diagnosis { return ccci.Diagnosis{Code: code, Warning: warning} }
	for i, tc := range []struct {
		all  []ccci.Diagnosis
		want ccci.Code
	}{
		{nil, ""},
		{[]ccci.Diagnosis{d("", false), d(ccci.CodeInfra, true)}, ""},
		{[]ccci.Diagnosis{d(ccci.CodeRefused, false), d(ccci.CodeInfra, true)}, ccci.CodeRefused},
		{[]ccci.Diagnosis{d(ccci.CodeRefused, false), d(ccci.CodeInfra, false)}, ccci.CodeInfra},
		{[]ccci.Diagnosis{d(ccci.CodeRefused, false), d(ccci.CodeInfra, false), d(ccci.CodeInvalid, false)}, ccci.CodeInvalid},
	} {
		if got := Worst(tc.all); got != tc.want {
			t.Errorf("%d: %q", i, got)
		}
	}
	var b bytes.Buffer
	if err := WriteJSON(&b, []ccci.Diagnosis{d(ccci.CodeInfra, true), d(ccci.CodeInvalid, false), Well("x", "y")}); err != nil {
		t.Fatal(err)
	}
	var out struct {
		Problems, Warnings int
		Checks             []ccci.Diagnosis
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out.Problems != 1 || out.Warnings != 1 || len(out.Checks) != 3 {
		t.Errorf("%s: %v", &b, err)
	}
}

func TestWhatIsLookedAtTwiceIsSaidOnce(t *testing.T) {
	says := func(ds ...ccci.Diagnosis) Check { return func(context.Context) []ccci.Diagnosis { return ds } }
	bad := ccci.Diagnosis{Check: "a", Code: ccci.CodeInfra, Message: "bad"}
	odd := ccci.Diagnosis{Check: "b", Code: ccci.CodeInfra, Warning: true, Message: "odd"}
	worse := ccci.Diagnosis{Check: "b", Code: ccci.CodeInfra, Message: "worse"}
	all := Run(t.Context(), []Check{says(Well("a", "well"), odd), says(bad, worse), says(Well("a", "well"), Well("b", "well"))})
	if len(all) != 2 || all[0].Message != "bad" || all[1].Message != "worse" {
		t.Errorf("%+v", all)
	}
}

func TestAHangingCheckIsAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan bool)
		defer close(never)
		all := Run(t.Context(), []Check{func(context.Context) []ccci.Diagnosis { <-never; return nil }, func(context.Context) []ccci.Diagnosis { return []ccci.Diagnosis{Well("a", "b")} }})
		if len(all) != 2 || all[0].Code != ccci.CodeInfra || all[1].Check != "a" {
			t.Errorf("%+v", all)
		}
	})
}
