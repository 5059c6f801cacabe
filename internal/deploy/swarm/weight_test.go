package swarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// The containers of a run weigh the same together, however many there are and also where the kernel has no
// limit of processors.
func TestN3_WeightFollowsTheLimit(t *testing.T) {
	noQuota := machineOf(8<<30, 2)
	noQuota.CPUCfsQuota = false
	for name, c := range map[string]struct {
		machine  system.Info
		apps     int
		services string
		want     map[string]int64
	}{
		"one":            {machineOf(8<<30, 2), 1, "  a: {image: x:1}\n", map[string]int64{"a": 1024}},
		"one of two":     {machineOf(8<<30, 2), 2, "  a: {image: x:1}\n", map[string]int64{"a": 512}},
		"stated":         {machineOf(8<<30, 2), 1, "  a: {image: x:1, deploy: {resources: {limits: {cpus: '0.25'}}}}\n  b: {image: x:1, deploy: {resources: {limits: {cpus: '0.75'}}}}\n", map[string]int64{"a": 256, "b": 768}},
		"replicas":       {machineOf(8<<30, 2), 1, "  a: {image: x:1, deploy: {replicas: 7}}\n  b: {image: x:1}\n", map[string]int64{"a": 128, "b": 128}},
		"none runs":      {machineOf(8<<30, 2), 1, "  a: {image: x:1, deploy: {replicas: 0}}\n", map[string]int64{"a": 1024}},
		"without quotas": {noQuota, 1, "  a: {image: x:1, deploy: {replicas: 3}}\n  b: {image: x:1}\n", map[string]int64{"a": 256, "b": 256}},
	} {
		var ceilings Ceilings
		ceilings.fill()
		ceilings.measure(c.machine, 2, c.apps)
		m, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n"+c.services), nil, "r", false, "proxy", ceilings)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, s := range m.services {
			if s.shares != c.want[s.key] {
				t.Errorf("%s: %s weighs %d, not %d", name, s.key, s.shares, c.want[s.key])
			}
		}
	}
}

// The parts of a machine are disjoint and use all of its processors. Where there are fewer than runs, there are none.
func TestN3_PartsOfTheProcessors(t *testing.T) {
	for _, c := range []struct {
		k, n, processors int
		want             string
	}{
		{0, 2, 2, "0-0"}, {1, 2, 2, "1-1"}, {0, 2, 5, "0-1"}, {1, 2, 5, "2-4"}, {2, 3, 16, "10-15"},
		{0, 1, 8, ""}, {0, 4, 2, ""}, {-1, 2, 2, ""}, {2, 2, 8, ""},
	} {
		if got := part(c.k, c.n, c.processors); got != c.want {
			t.Errorf("part %d of %d of %d processors: %q, not %q", c.k, c.n, c.processors, got, c.want)
		}
	}
}

// Each container of a run has its weight and its processors moments after swarm has made it, also one in the place of
// another that was killed.
func TestN3_EachContainerIsWeighed(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS", "{}", "services:\n", "services:\n  side: {image: "+img+", networks: [inside], deploy: {replicas: 3}}\n").Replace(tinyCompose)
	info, err := cli.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	processors := part(1, 2, info.NCPU)
	_, app, _ := tiny(t, cli, Options{Runs: 2, Part: 1, Ceilings: Ceilings{HealthInterval: 100 * time.Millisecond, RestartDelay: 100 * time.Millisecond}}, compose)
	weighed := func(without string) string {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			list, err := cli.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+app.StackName))})
			if err != nil {
				t.Fatal(err)
			}
			n, last := 0, ""
			for _, c := range list {
				if info, err := cli.ContainerInspect(t.Context(), c.ID); err == nil && c.ID != without && info.HostConfig.CPUShares == 256 && info.HostConfig.CpusetCpus == processors {
					n++
					last = c.ID
				}
			}
			if n == 4 {
				return last
			}
			if time.Now().After(end) {
				t.Fatalf("%d of 4 containers have their weight", n)
			}
		}
	}
	killed := weighed("")
	if err := cli.ContainerKill(t.Context(), killed, "KILL"); err != nil {
		t.Fatal(err)
	}
	weighed(killed)
}

// Each stream of events, also one after the daemon has broken off another, has what happened since the first
// deployment: a container that is made in between is weighed as well.
func TestN3_NoContainerIsMadeBetweenTwoStreams(t *testing.T) {
	asked, weighed := make(chan string), make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			if asked <- r.URL.Query().Get("since"); r.URL.Query().Get("since") != "" {
				fmt.Fprintln(w, `{"Type":"container","Action":"create","Actor":{"ID":"c1","Attributes":{"com.docker.stack.namespace":"s","com.docker.swarm.service.name":"s_app"}}}`)
			}
		case strings.HasSuffix(r.URL.Path, "/containers/c1/update"):
			weighed <- "c1"
			fmt.Fprintln(w, "{}")
		}
	}))
	defer server.Close()
	cli, err := client.NewClientWithOpts(client.WithHost(strings.Replace(server.URL, "http", "tcp", 1)), client.WithVersion("1.47"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{RunID: "r", Docker: cli})
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().Unix()
	d.weights.follow(t.Context(), "s", []service{{name: "s_app", shares: 1024}})
	for range 2 {
		if since, err := strconv.ParseInt(<-asked, 10, 64); err != nil || since < before-2 || since > time.Now().Unix() {
			t.Fatalf("events are asked for since %d, %v; the deployment was at %d", since, err, before)
		}
		<-weighed
	}
	go func() {
		for range asked { // what the last look asks for
		}
	}()
	d.weights.stop()
	server.Close()
	close(asked)
}

// A container that has ended meanwhile is no error. What the daemon refuses is logged once.
func TestN3_ARefusedWeightIsLoggedOnce(t *testing.T) {
	for _, c := range []struct {
		update, inspect int
		state           container.ContainerState
		lines           int
	}{
		{http.StatusOK, http.StatusOK, container.StateRunning, 0},
		{http.StatusNotFound, http.StatusNotFound, "", 0},
		{http.StatusInternalServerError, http.StatusOK, container.StateExited, 0},
		{http.StatusInternalServerError, http.StatusOK, container.StateRunning, 1},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/update") {
				w.WriteHeader(c.update)
				_ = json.NewEncoder(w).Encode(map[string]string{"message": "no"})
				return
			}
			w.WriteHeader(c.inspect)
			_ = json.NewEncoder(w).Encode(container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{State: &container.State{Status: c.state}}})
		}))
		cli, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		d, err := New(Options{RunID: "r", Docker: cli, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			d.weights.weigh(t.Context(), "c", 256)
		}
		if n := strings.Count(log.String(), "refuses a container's CPU weight"); n != c.lines {
			t.Errorf("%+v: %d lines: %s", c, n, log.String())
		}
		server.Close()
	}
}
