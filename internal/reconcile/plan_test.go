package reconcile

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func ccciSecret(text string) ccci.Secret { return ccci.NewSecret(text) }

// unitOf is a unit that wants d.
func unitOf(d Desired) Unit {
	return Unit{Name: d.Unit, Desired: func(context.Context) (Desired, error) { return d, nil }}
}

// texts are the sentences of a plan.
func texts(plan []Action) []string {
	var out []string
	for _, a := range plan {
		out = append(out, a.String())
	}
	return out
}

// settled returns a world in which d holds.
func settled(t *testing.T, d Desired) *world {
	t.Helper()
	w := newWorld()
	if _, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d)); err != nil {
		t.Fatal(err)
	}
	w.applied = nil
	return w
}

func TestA32_FromNothing(t *testing.T) {
	d := example("app:1", "one")
	w := newWorld()
	reports, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d))
	if err != nil {
		t.Fatal(err)
	}
	key, conf := d.Files[0].Name(), d.Files[1].Name()
	want := []string{
		"making a swarm of this one node",
		"labelling node of this machine: cc-ci.host is not true",
		"creating network proxy: it is not there",
		"creating network inside: it is not there",
		"creating secret " + key + ": it is not there",
		"creating config " + conf + ": it is not there",
		"creating service cc-ci_back: it is not there",
		"creating service cc-ci_front: it is not there",
	}
	if !slices.Equal(texts(reports[0].Actions), want) {
		t.Errorf("did\n%s", strings.Join(texts(reports[0].Actions), "\n"))
	}
	if strings.Contains(strings.Join(want, ""), "one\n") || strings.Contains(strings.Join(texts(reports[0].Actions), ""), "a: 1") {
		t.Error("a content is shown")
	}
	reports, err = (&Runner{Daemon: w}).Run(t.Context(), unitOf(d))
	if err != nil || len(reports[0].Actions) != 0 {
		t.Errorf("again: %v, %v", texts(reports[0].Actions), err)
	}
}

// Each object that was removed or edited is repaired, and nothing else is touched.
func TestA32_RepairsExactlyThat(t *testing.T) {
	d := example("app:1", "one")
	key := d.Files[0].Name()
	front := func(w *world) *ServiceSeen {
		return &w.Services[slices.IndexFunc(w.Services, func(s ServiceSeen) bool { return s.Spec.Name == "cc-ci_front" })]
	}
	for _, tc := range []struct {
		name   string
		tamper func(w *world)
		want   []string
	}{
		{"service removed", func(w *world) { w.Services = w.Services[:1] }, []string{"creating service cc-ci_front: it is not there"}},
		{"image", func(w *world) {
			c := *front(w).Spec.TaskTemplate.ContainerSpec
			c.Image = "app:0"
			front(w).Spec.TaskTemplate.ContainerSpec = &c
		}, []string{
			"creating service cc-ci_front-trial: it is not there",
			"updating service cc-ci_front: Image is app:0 and should be app:1",
			"removing service cc-ci_front-trial: it is wanted no longer",
		}},
		{"image, and nothing runs", func(w *world) {
			c := *front(w).Spec.TaskTemplate.ContainerSpec
			c.Image = "app:0"
			front(w).Spec.TaskTemplate.ContainerSpec = &c
			front(w).Tasks = end(front(w).Tasks, time.Now())
		}, []string{"updating service cc-ci_front: Image is app:0 and should be app:1"}},
		{"trial of an older version", func(w *world) {
			c := *front(w).Spec.TaskTemplate.ContainerSpec
			c.Image = "app:0"
			front(w).Spec.TaskTemplate.ContainerSpec = &c
			spec := NewService("front-trial", "app:2").Spec
			spec.Labels[LabelUnit] = "test"
			w.Services = append(w.Services, ServiceSeen{ID: "trial", Spec: spec})
		}, []string{
			"removing service cc-ci_front-trial: Configs is missing, Image is app:2 and should be app:1, Labels.cc-ci.unit is missing, 2 more",
			"creating service cc-ci_front-trial: it is not there",
			"updating service cc-ci_front: Image is app:0 and should be app:1",
			"removing service cc-ci_front-trial: it is wanted no longer",
		}},
		{"label", func(w *world) { front(w).Spec.Labels = with(front(w).Spec.Labels, "x", "y") }, []string{"updating service cc-ci_front: Labels.x is too much"}},
		{"replicas", func(w *world) {
			n := uint64(2)
			front(w).Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
		}, []string{"updating service cc-ci_front: Mode.Replicated.Replicas differs"}},
		{"mode", func(w *world) { front(w).Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}} }, []string{
			"removing service cc-ci_front: Mode.Global is too much, Mode.Replicated is missing", "creating service cc-ci_front: it is not there"}},
		{"secret's label", func(w *world) { w.Files[0].Labels = with(w.Files[0].Labels, "x", "y") }, []string{"labelling secret " + key + ": its labels differ"}},
		{"secret of unknown content", func(w *world) { w.Files[0].Labels = nil }, []string{
			"creating secret " + key + "--2: it is not there",
			"updating service cc-ci_back: ContainerSpec.Secrets[0].SecretName is " + key + " and should be " + key + "--2",
			"removing secret " + key + ": nothing uses it any more",
		}},
		{"network of other addresses", func(w *world) { w.Networks[1].Subnets = []string{"10.0.9.0/24"} }, []string{
			"removing service cc-ci_back: it is in network inside, which has to be made anew",
			"removing service cc-ci_front: it is in network inside, which has to be made anew",
			"removing network inside: its addresses are 10.0.9.0/24, not 10.9.0.0/24",
			"creating network inside: it is not there",
			"creating service cc-ci_back: it is not there",
			"creating service cc-ci_front: it is not there",
		}},
		{"node's label", func(w *world) { w.NodeLabels = map[string]string{"rack": "4"} }, []string{"labelling node of this machine: cc-ci.host is not true"}},
		{"leftovers", func(w *world) {
			w.Files = append(w.Files, FileSeen{ID: "old", Kind: KindConfig, Name: "conf_0", Labels: map[string]string{LabelUnit: "test"}})
			w.Services = append(w.Services, ServiceSeen{ID: "olds", Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "cc-ci_old", Labels: map[string]string{LabelUnit: "test"}}}})
		}, []string{"removing service cc-ci_old: it is wanted no longer", "removing config conf_0: nothing uses it any more"}},
		{"of another unit", func(w *world) {
			w.Files = append(w.Files, FileSeen{ID: "a", Kind: KindSecret, Name: "a", Labels: map[string]string{LabelUnit: "other"}})
			w.Services = append(w.Services, ServiceSeen{ID: "b", Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "app", Labels: map[string]string{"cc-ci.run": "r"}}}})
			w.Networks = append(w.Networks, NetworkSeen{Name: "app_internal", Driver: "overlay"})
		}, nil},
	} {
		w := settled(t, d)
		tc.tamper(w)
		if _, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d)); err != nil || !slices.Equal(strip(w.applied), strip(tc.want)) {
			t.Errorf("%s: %v\n%s", tc.name, err, strings.Join(w.applied, "\n"))
		}
		o, _ := w.Observe(t.Context())
		o.At = time.Now()
		if plan := Plan(d, o, time.Time{}); len(plan) > 0 {
			t.Errorf("%s: there is left %v", tc.name, texts(plan))
		}
	}
}

// strip takes the path of nested settings off, which is not what this is about.
func strip(all []string) []string {
	out := slices.Clone(all)
	for i := range out {
		out[i] = strings.Replace(out[i], "ContainerSpec.", "", 1)
	}
	return out
}

// A31: a new content is a new object; the old one goes when the service runs with the new one.
func TestA31_RotationByVersion(t *testing.T) {
	w := settled(t, example("app:1", "one"))
	d := example("app:1", "two")
	if _, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d)); err != nil {
		t.Fatal(err)
	}
	older, newer := example("app:1", "one").Files[0].Name(), d.Files[0].Name()
	want := []string{
		"creating secret " + newer + ": it is not there",
		"updating service cc-ci_back: Secrets[0].SecretName is " + older + " and should be " + newer,
		"removing secret " + older + ": nothing uses it any more",
	}
	if !slices.Equal(strip(w.applied), want) {
		t.Errorf("did\n%s", strings.Join(w.applied, "\n"))
	}
}

// A network that a run's services are in is not taken from them.
func TestPlanRefusesWhatIsNotItsOwn(t *testing.T) {
	d := example("app:1", "one")
	w := settled(t, d)
	w.Networks[0].Attachable = false
	w.Services = append(w.Services, ServiceSeen{Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "wiki_app"},
		TaskTemplate: swarm.TaskSpec{Networks: []swarm.NetworkAttachmentConfig{{Target: "proxy"}}}}})
	_, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d))
	if err == nil || !strings.Contains(err.Error(), "attachable is false, and wiki_app uses it") || len(w.applied) > 0 || ccci.HintOf(err) == "" {
		t.Errorf("%v, did %v", err, w.applied)
	}
	for state, want := range map[swarm.LocalNodeState]string{swarm.LocalNodeStateLocked: "locked", swarm.LocalNodeStateError: `state "error"`} {
		plan := Plan(d, Observed{Swarm: state}, time.Time{})
		if len(plan) != 1 || plan[0].Verb != Refuse || !strings.Contains(plan[0].Why, want) {
			t.Errorf("%s: %v", state, texts(plan))
		}
	}
	if plan := Plan(d, Observed{Swarm: swarm.LocalNodeStateActive}, time.Time{}); len(plan) != 1 || !strings.Contains(plan[0].Why, "worker") {
		t.Errorf("a worker: %v", texts(plan))
	}
}

// N3: the unit of the swarm bounds the log of a swarm that others made. The other units leave it.
func TestN3_TheLogOfTheSwarmIsBounded(t *testing.T) {
	unit := Swarm(SwarmOptions{Network: "proxy"})
	w := newWorld()
	run := func() []string {
		t.Helper()
		reports, err := (&Runner{Daemon: w}).Run(t.Context(), unit)
		if err != nil {
			t.Fatal(err)
		}
		return texts(reports[0].Actions)
	}
	run()
	for _, c := range []struct {
		have SwarmLog
		want []string
	}{
		{SwarmLog{500, 5}, nil},
		{SwarmLog{10000, 5}, []string{"updating swarm of this node: its snapshot interval is 10000, not 500"}},
		{SwarmLog{10000, -1}, []string{"updating swarm of this node: its snapshot interval is 10000, not 500, its task history limit is -1, not 5"}},
		{SwarmLog{500, 0}, []string{"updating swarm of this node: its task history limit is 0, not 5"}},
	} {
		w.SwarmLog = c.have
		if did := run(); !slices.Equal(did, c.want) {
			t.Errorf("%+v: did %q, want %q", c.have, did, c.want)
		}
		if w.SwarmLog != (SwarmLog{500, 5}) {
			t.Errorf("%+v became %+v", c.have, w.SwarmLog)
		}
	}
	d := example("app:1", "one")
	w = settled(t, d)
	w.SwarmLog = SwarmLog{10000, -1}
	if plan := Plan(d, w.Observed, time.Time{}); slices.ContainsFunc(plan, func(a Action) bool { return a.Kind == KindSwarm }) {
		t.Errorf("another unit: %q", texts(plan))
	}
}

// U22: an update that swarm takes back is an error in the task's own words, and is
// held back for a while.
func TestU22_RolledBackUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := settled(t, example("app:1", "one"))
		w.broken["app:2"] = true
		d := example("app:2", "one")
		_, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d))
		if err == nil || !strings.Contains(err.Error(), "the update to app:2 was rolled back") || !strings.Contains(err.Error(), "No such image: app:2") || ccci.CodeOf(err) != ccci.CodeInfra {
			t.Errorf("got %v", err)
		}
		if len(w.applied) != 1 {
			t.Errorf("did %v", w.applied)
		}
		for _, tc := range []struct {
			after time.Duration
			retry bool
			want  int // updates that were tried
		}{{time.Minute, false, 0}, {time.Minute, true, 1}, {30 * time.Minute, false, 0}, {31 * time.Minute, false, 1}} {
			time.Sleep(tc.after)
			w.applied = nil
			if _, err := (&Runner{Daemon: w, Retry: tc.retry}).Run(t.Context(), unitOf(d)); err == nil || len(w.applied) != tc.want {
				t.Errorf("after %v: %v, did %v", tc.after, err, w.applied)
			}
		}
		// The version before is what runs, whatever is left of the other's tasks.
		w.applied = nil
		if reports, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(example("app:1", "one"))); err != nil || len(reports[0].Actions) > 0 {
			t.Errorf("the version before: %v, did %v", err, w.applied)
		}
		delete(w.broken, "app:2") // mended
		w.applied = nil
		if _, err := (&Runner{Daemon: w, Retry: true}).Run(t.Context(), unitOf(d)); err != nil || len(w.applied) != 4 { // the trial of one of them, too
			t.Errorf("mended: %v, did %v", err, w.applied)
		}
	})
}

// U22: what runs and does not serve is taken back by us.
func TestU22_CheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := settled(t, example("app:1", "one"))
		d := example("app:2", "two")
		u := unitOf(d)
		u.Check = func(context.Context) error {
			for _, s := range w.Services {
				if s.Spec.TaskTemplate.ContainerSpec.Image == "app:2" {
					return errors.New("404 page not found")
				}
			}
			return nil
		}
		_, err := (&Runner{Daemon: w}).Run(t.Context(), u)
		if err == nil || !strings.Contains(err.Error(), "404 page not found") || !strings.Contains(err.Error(), "what was before serves again") {
			t.Errorf("got %v", err)
		}
		for _, s := range w.Services {
			if image := s.Spec.TaskTemplate.ContainerSpec.Image; image != "app:1" {
				t.Errorf("%s runs %s", s.Spec.Name, image)
			}
		}
		if !slices.ContainsFunc(w.Files, func(f FileSeen) bool { return f.Name == example("", "one").Files[0].Name() }) {
			t.Error("the secret of the version before is gone")
		}
		w.applied = nil
		if _, err := (&Runner{Daemon: w}).Run(t.Context(), u); err == nil || len(w.applied) != 0 || !strings.Contains(err.Error(), "it ran and did not serve") {
			t.Errorf("again: %v, did %v", err, w.applied)
		}
	})
}

// U22: what is on ports of the host is not ended for a version that does not run.
func TestU22_Trial(t *testing.T) {
	for image, want := range map[string]string{
		"broken":  "cc-ci_front stays as it is: its next version, broken, was tried beside it and does not run: No such image: broken",
		"pending": "was tried beside it and does not run: 0 of 1 tasks run, the newest is pending",
	} {
		synctest.Test(t, func(t *testing.T) {
			older, newer := example("app:1", "one"), example("app:1", "one")
			newer.Services[1].Spec.TaskTemplate.ContainerSpec.Image = image
			w := settled(t, older)
			w.broken["broken"], w.pending["pending"] = true, true
			for range 2 { // a failed trial is not held against the next
				w.applied = nil
				_, err := (&Runner{Daemon: &restarting{w}}).Run(t.Context(), unitOf(newer))
				if err == nil || !strings.Contains(err.Error(), want) || ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" {
					t.Errorf("%s: %v", image, err)
				}
				if did := []string{"creating service cc-ci_front-trial: it is not there", "removing service cc-ci_front-trial: it does not run"}; !slices.Equal(w.applied, did) {
					t.Errorf("%s: did %s", image, strings.Join(w.applied, "\n"))
				}
			}
			dry, err := (&Runner{Daemon: w, DryRun: true}).Run(t.Context(), unitOf(newer))
			if err != nil || len(dry[0].Actions) != 2 || dry[0].Actions[1].Verb != Update {
				t.Errorf("%s: dry it says %v, %v", image, texts(dry[0].Actions), err)
			}
			w.applied = nil
			if _, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(older)); err != nil || len(w.applied) > 0 {
				t.Errorf("the version before: %v, did %v", err, w.applied)
			}
		})
	}
	trial := example("app:1", "one").Services[1].trial()
	if len(trial.Spec.EndpointSpec.Ports) > 0 || len(trial.Spec.TaskTemplate.Networks) != 2 || len(trial.Spec.TaskTemplate.ContainerSpec.Configs) != 1 {
		t.Errorf("a trial is %+v", trial.Spec)
	}
}

func TestServiceThatDoesNotComeUp(t *testing.T) {
	for image, want := range map[string]string{"broken": "does not run: No such image: broken", "pending": "does not come up within 3m0s: 0 of 1 tasks run, the newest is pending"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.pending["pending"] = true
			w.broken["broken"] = true
			d := example(image, "one")
			runner := &Runner{Daemon: &restarting{w}}
			_, err := runner.Run(t.Context(), unitOf(d))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", image, err)
			}
			if len(w.Services) != 1 {
				t.Errorf("%s: it went on to the next service", image)
			}
		})
	}
}

// restarting makes a new task for each look at a service whose tasks fail, as swarm does.
type restarting struct{ *world }

func (w *restarting) Observe(ctx context.Context) (Observed, error) {
	for i := range w.Services {
		s := &w.Services[i]
		if len(s.Tasks) > 0 && failed(s.Tasks[0]) {
			s.Tasks = append([]TaskSeen{w.task(s.Spec)}, s.Tasks...)
		}
	}
	return w.world.Observe(ctx)
}

func TestSteps(t *testing.T) {
	d := example("app:1", "one")
	w, limit := settled(t, d), 30
	u := unitOf(d)
	u.Steps = func(context.Context) ([]Step, error) {
		if limit == 60 {
			return nil, nil
		}
		return []Step{{Text: "setting the limit", Do: func(context.Context) error { limit = 60; return nil }}}, nil
	}
	for _, want := range []string{"setting the limit", ""} {
		dry, err := (&Runner{Daemon: w, DryRun: true}).Run(t.Context(), u)
		if err != nil || strings.Join(texts(dry[0].Actions), "") != want {
			t.Errorf("dry: %v, %v", texts(dry[0].Actions), err)
		}
		real, err := (&Runner{Daemon: w}).Run(t.Context(), u)
		if err != nil || strings.Join(texts(real[0].Actions), "") != want || limit != 60 {
			t.Errorf("%v, %v", texts(real[0].Actions), err)
		}
	}
}

// From any state, planning and applying ends, and what it ends in needs nothing.
func FuzzConverge(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, edits uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := settled(t, example("app:1", "one"))
		for range edits % 16 {
			w.tamper(r)
		}
		d := example([]string{"app:1", "app:2"}[r.IntN(2)], []string{"one", "two"}[r.IntN(2)])
		if _, err := (&Runner{Daemon: w}).Run(t.Context(), unitOf(d)); err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(w.applied, "\n"))
		}
		o, _ := w.Observe(t.Context())
		o.At = time.Now()
		if plan := Plan(d, o, time.Time{}); len(plan) > 0 {
			t.Fatalf("there is left %v after\n%s", texts(plan), strings.Join(w.applied, "\n"))
		}
	})
}
