package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A32: two runs never work at once; the lock dies with its holder.
func TestA32_OneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "lock")
	release, err := Lock(t.Context(), path, func() { t.Error("it waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	waited := 0
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Lock(ctx, path, func() { waited++; cancel() })
	if err == nil || waited != 1 || ccci.HintOf(err) == "" {
		t.Errorf("waited %d times, %v", waited, err)
	}
	second := make(chan error)
	go func() {
		again, err := Lock(t.Context(), path, release)
		if err == nil {
			again()
		}
		second <- err
	}()
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// away is a Docker that answers after some questions in vain.
type away struct {
	*world
	times int
	err   error
}

func (a *away) Observe(ctx context.Context) (Observed, error) {
	if a.times--; a.times >= 0 {
		return Observed{}, a.err
	}
	return a.world.Observe(ctx)
}

// At boot Docker may come later; another error is none to wait for.
func TestDockerComesLater(t *testing.T) {
	gone := fmt.Errorf("asking: %w", client.ErrorConnectionFailed("unix:///nowhere"))
	for _, tc := range []struct {
		times int
		err   error
		want  string
		took  time.Duration
	}{
		{10, gone, "", 2 * time.Second},
		{1000, gone, "Cannot connect", 30 * time.Second},
		{1, errors.New("it is raining"), "it is raining", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			d := example("app:1", "one")
			w := newWorld()
			_, err := (&Runner{Daemon: &away{w, tc.times, tc.err}}).Run(t.Context(), unitOf(d))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || time.Since(begin) != tc.took {
				t.Errorf("%d times: %v after %v", tc.times, err, time.Since(begin))
			}
		})
	}
}

// busy is a Docker that is not done with something yet.
type busy struct {
	*world
	times int
}

func (b *busy) Apply(ctx context.Context, d Desired, o Observed, a Action) error {
	if b.times--; b.times >= 0 {
		return &NotYet{errors.New("network x not found")}
	}
	return b.world.Apply(ctx, d, o, a)
}

func TestNotYet(t *testing.T) {
	for times, want := range map[int]string{100: "", 1000: "network x not found"} {
		synctest.Test(t, func(t *testing.T) {
			begun := 0
			r := &Runner{Daemon: &busy{newWorld(), times}, Began: func(_ string, a Action) {
				if a.Verb == Init {
					begun++
				}
			}}
			_, err := r.Run(t.Context(), unitOf(example("app:1", "one")))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || begun != 1 {
				t.Errorf("%d times: %v, told %d times", times, err, begun)
			}
			if hint := ccci.HintOf(err); want != "" && !strings.Contains(hint, "docker network rm") {
				t.Errorf("the hint is %q", hint)
			}
		})
	}
}

// haunted is a Docker that lists a network which it has removed, a few times.
type haunted struct {
	*world
	ghost NetworkSeen
	looks int
}

func (h *haunted) Observe(ctx context.Context) (Observed, error) {
	o, err := h.world.Observe(ctx)
	if h.looks > 0 {
		h.looks--
		o.Networks = append(o.Networks, h.ghost)
	}
	return o, err
}

// A32: what one unit makes may vanish while the next is at work. One run is enough all the same.
func TestA32_GoneMeanwhile(t *testing.T) {
	shared := Unit{Name: "swarm", Desired: Swarm(SwarmOptions{Network: "proxy"}).Desired}
	d := example("app:1", "one")
	d.Networks = slices.DeleteFunc(d.Networks, func(n Network) bool { return n.Name == "proxy" })
	for _, vanishes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := &haunted{world: newWorld()}
			r := &Runner{Daemon: h}
			if _, err := r.Run(t.Context(), shared, unitOf(d)); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(h.Networks, func(n NetworkSeen) bool { return n.Name == "proxy" })
			if vanishes {
				h.ghost, h.looks = h.Networks[i], 2 // the first unit looks twice
			}
			h.Networks = slices.Delete(h.Networks, i, i+1)
			before := len(h.Services)
			h.Services = slices.DeleteFunc(h.Services, func(s ServiceSeen) bool { return joins(s.Spec, "proxy") })
			lost := before - len(h.Services)
			reports, err := r.Run(t.Context(), shared, unitOf(d))
			if err != nil || len(reports) != 2 || len(reports[0].Actions) != 1 || len(reports[1].Actions) != lost || lost == 0 {
				t.Errorf("%t: %v, %+v", vanishes, err, reports)
			}
		})
	}
}

// stubborn is a Docker that takes changes and does not make them.
type stubborn struct{ *world }

func (stubborn) Apply(context.Context, Desired, Observed, Action) error { return nil }

func TestChangeThatDoesNotHelp(t *testing.T) {
	_, err := (&Runner{Daemon: stubborn{newWorld()}}).Run(t.Context(), unitOf(example("app:1", "one")))
	if err == nil || !strings.Contains(err.Error(), "making a swarm of this one node did not help") {
		t.Error(err)
	}
}

// What cannot work is refused before anything is looked at.
func TestDesiredStateThatIsRefused(t *testing.T) {
	for want, change := range map[string]func(*Desired){
		"service cc-ci_back uses a secret key that is not there": func(d *Desired) { d.Files = d.Files[1:] },
		"secret key is no name, or there twice":                  func(d *Desired) { d.Files = append(d.Files, d.Files[0]) },
		"config conf has 0 bytes":                                func(d *Desired) { d.Files[1].Content = ccci.Secret{} },
		"config conf has 600000 bytes":                           func(d *Desired) { d.Files[1].Content = ccci.NewSecret(strings.Repeat("x", 600000)) },
		"service cc-ci_back has no image":                        func(d *Desired) { d.Services[0] = NewService("back", "") },
		"service cc-ci_front has no name, or is there twice":     func(d *Desired) { d.Services[0] = d.Services[1] },
		"config a b is no name":                                  func(d *Desired) { d.Files[1].Key = "a b" },
	} {
		d := example("app:1", "one")
		change(&d)
		w := newWorld()
		_, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d))
		if err == nil || !strings.Contains(err.Error(), want) || ccci.CodeOf(err) != ccci.CodeInvalid || len(w.applied) > 0 {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}

func TestReport(t *testing.T) {
	change := []Action{{Verb: Create, Kind: KindConfig, Name: "conf_1", Why: "it is not there", File: File{Content: ccci.NewSecret("geheim")}}}
	bad := ccci.Errorf(ccci.CodeInfra, "it rains").WithHint("wait")
	for _, tc := range []struct {
		report Report
		text   string
		json   string
	}{
		{Report{Unit: "u"}, "u: nothing to do\n", `{"unit":"u","state":"nothing","actions":[]}`},
		{Report{Unit: "u", Planned: true, Actions: change}, "u: creating config conf_1: it is not there\nu: 1 change to make\n",
			`{"unit":"u","state":"planned","actions":[{"verb":"create","kind":"config","name":"conf_1","why":"it is not there","text":"creating config conf_1: it is not there"}]}`},
		{Report{Unit: "u", Actions: append(change, change...)}, "u: done, 2 changes\n", `"state":"changed"`},
		{Report{Unit: "u", Planned: true, Err: bad}, "u: not all of it could be planned\n", `"state":"failed"`},
		{Report{Unit: "u", Err: bad}, "u: failed after no change\n", `"state":"failed","actions":[],"error":"it rains","code":"infra","hint":"wait"}`},
	} {
		var text bytes.Buffer
		if err := tc.report.WriteText(&text); err != nil || text.String() != tc.text {
			t.Errorf("text is %q, %v", text.String(), err)
		}
		out, err := json.Marshal(tc.report)
		if err != nil || !strings.Contains(string(out), tc.json) || strings.Contains(string(out), "geheim") {
			t.Errorf("JSON is %s, %v", out, err)
		}
	}
}

// What Docker adds by itself is no difference; what a person changes is.
func TestDifferences(t *testing.T) {
	want := example("app:1", "one").Services[1].Spec
	want.TaskTemplate.ContainerSpec.Env, want.TaskTemplate.Resources = nil, nil
	same := want
	c := *want.TaskTemplate.ContainerSpec
	c.Isolation, c.DNSConfig, c.Env = "default", &swarm.DNSConfig{}, []string{}
	same.TaskTemplate.ContainerSpec = &c
	same.TaskTemplate.Runtime, same.TaskTemplate.ForceUpdate, same.TaskTemplate.Resources = swarm.RuntimeContainer, 3, &swarm.ResourceRequirements{Limits: &swarm.Limit{}}
	if got := differences(same, want); got != "" {
		t.Errorf("Docker's own: %s", got)
	}
	for name, change := range map[string]func(*swarm.ServiceSpec, *swarm.ContainerSpec){
		"Image is b and should be app:1": func(_ *swarm.ServiceSpec, c *swarm.ContainerSpec) { c.Image = "b" },
		"Env is too much":                func(_ *swarm.ServiceSpec, c *swarm.ContainerSpec) { c.Env = []string{"PASSWORD=geheim"} },
		"Mounts is too much":             func(_ *swarm.ServiceSpec, c *swarm.ContainerSpec) { c.Mounts = []mount.Mount{{Target: "/x"}} },
		"ReadOnly is missing":            func(_ *swarm.ServiceSpec, c *swarm.ContainerSpec) { c.ReadOnly = false },
		"Resources is too much": func(s *swarm.ServiceSpec, _ *swarm.ContainerSpec) {
			s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 5}}
		},
		"EndpointSpec.Ports is missing": func(s *swarm.ServiceSpec, _ *swarm.ContainerSpec) {
			s.EndpointSpec = &swarm.EndpointSpec{Mode: "dnsrr"}
		},
	} {
		other, c := want, *want.TaskTemplate.ContainerSpec
		other.TaskTemplate.ContainerSpec = &c
		change(&other, &c)
		if got := differences(other, want); !strings.HasSuffix(got, name) || strings.Contains(got, "geheim") {
			t.Errorf("want %s, got %s", name, got)
		}
		if hashOf(other) == hashOf(want) {
			t.Errorf("%s: the same digest", name)
		}
	}
}
