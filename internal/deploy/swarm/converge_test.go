package swarm

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const wanted = "new"

func app() []service { return []service{{key: "app", name: "s_app", hash: wanted, probed: true}} }

func serviceOf(name, hash string, state swarm.UpdateState) swarm.Service {
	svc := swarm.Service{ID: name, Meta: swarm.Meta{Version: swarm.Version{Index: 10}}}
	svc.Spec.Name = name
	svc.Spec.Mode.Replicated = &swarm.ReplicatedService{}
	svc.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Labels: map[string]string{LabelSpec: hash}}
	if state != "" {
		svc.UpdateStatus = &swarm.UpdateStatus{State: state, Message: "update " + string(state)}
	}
	return svc
}

func task(id, svc, hash string, state swarm.TaskState, desired swarm.TaskState, err string) swarm.Task {
	t := swarm.Task{ID: id, ServiceID: svc, DesiredState: desired, NodeID: "n1"}
	t.Spec.ContainerSpec = &swarm.ContainerSpec{Labels: map[string]string{LabelSpec: hash}}
	t.Status = swarm.TaskStatus{State: state, Err: err}
	t.CreatedAt = start
	return t
}

const (
	running  = swarm.TaskStateRunning
	shutdown = swarm.TaskStateShutdown
	failed   = swarm.TaskStateFailed
)

// One look decides most things. The looks here are those that fooled earlier
// harnesses, each with what must be seen in it.
func TestU3_OneLook(t *testing.T) {
	none := swarm.UpdateState("")
	stopped := serviceOf("s_app", wanted, none)
	stopped.Spec.Mode.Replicated.Replicas = new(uint64)
	cases := map[string]struct {
		svc       swarm.Service
		tasks     []swarm.Task
		floor     uint64
		strays    int
		converged bool
		reason    string
	}{
		"one new task runs":                {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, running, running, "")}, converged: true},
		"new runs, monitor not over":       {svc: serviceOf("s_app", wanted, swarm.UpdateStateUpdating), tasks: []swarm.Task{task("1", "s_app", wanted, running, running, "")}, converged: true},
		"stopped, and its task is gone":    {svc: stopped, converged: true},
		"stopped, its task has ended":      {svc: stopped, tasks: []swarm.Task{task("1", "s_app", wanted, shutdown, swarm.TaskStateRemove, "")}, converged: true},
		"stopped, its task is stopping":    {svc: stopped, tasks: []swarm.Task{task("1", "s_app", wanted, running, swarm.TaskStateRemove, "")}},
		"stopped, its task knows not yet":  {svc: stopped, tasks: []swarm.Task{task("1", "s_app", wanted, running, running, "")}},
		"no task yet":                      {svc: serviceOf("s_app", wanted, none)},
		"starting, so not healthy yet":     {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, swarm.TaskStateStarting, running, "")}},
		"only the old task runs":           {svc: serviceOf("s_app", wanted, swarm.UpdateStateUpdating), tasks: []swarm.Task{task("1", "s_app", "old", running, running, "")}},
		"new and old run (start-first)":    {svc: serviceOf("s_app", wanted, swarm.UpdateStateUpdating), tasks: []swarm.Task{task("1", "s_app", "old", running, running, ""), task("2", "s_app", wanted, running, running, "")}},
		"old one is being stopped":         {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", "old", running, shutdown, ""), task("2", "s_app", wanted, running, running, "")}},
		"old one has stopped":              {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", "old", shutdown, shutdown, ""), task("2", "s_app", wanted, running, running, "")}, converged: true},
		"the running one is to stop":       {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, running, shutdown, "")}},
		"update not taken yet":             {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, running, running, "")}, floor: 10},
		"a dropped service still runs":     {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, running, running, "")}, strays: 1},
		"paused":                           {svc: serviceOf("s_app", wanted, swarm.UpdateStatePaused), tasks: []swarm.Task{task("1", "s_app", wanted, running, running, "")}, reason: "paused"},
		"rolling back":                     {svc: serviceOf("s_app", "old", swarm.UpdateStateRollbackStarted), tasks: []swarm.Task{task("1", "s_app", "old", running, running, "")}, reason: "rollback"},
		"rolled back, old one answers":     {svc: serviceOf("s_app", "old", swarm.UpdateStateRollbackCompleted), tasks: []swarm.Task{task("1", "s_app", "old", running, running, "")}, reason: "rollback"},
		"roll back paused":                 {svc: serviceOf("s_app", "old", swarm.UpdateStateRollbackPaused), reason: "rollback"},
		"rolled back, status already gone": {svc: serviceOf("s_app", "old", none), tasks: []swarm.Task{task("1", "s_app", "old", running, running, "")}, reason: "rollback"},
		"no such image":                    {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, swarm.TaskStateRejected, shutdown, "No such image: sha256:0a")}, reason: "rejected"},
		"an image of another processor":    {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, swarm.TaskStateRejected, shutdown, "exec /app: exec format error")}, reason: "rejected"},
		"another task failed once":         {svc: serviceOf("s_app", wanted, none), tasks: []swarm.Task{task("1", "s_app", wanted, failed, shutdown, "task: non-zero exit (1)"), task("2", "s_app", wanted, running, running, "")}, converged: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHistory(app())
			h.floor["s_app"] = c.floor
			dec := h.judge(observation{services: []swarm.Service{c.svc}, tasks: c.tasks, strays: c.strays, at: start})
			reason := ""
			if dec.failed != nil {
				reason = dec.failed.reason
			}
			if reason != c.reason || c.reason == "" && dec.converged != c.converged {
				t.Errorf("converged %v, reason %q (%+v)", dec.converged, reason, dec.states)
			}
		})
	}
}

// Settle waits for swarm's monitor; Deploy does not.
func TestU3_SettleWaitsForTheMonitor(t *testing.T) {
	h := newHistory(app())
	h.settle = true
	look := func(state swarm.UpdateState, after time.Duration) bool {
		return h.judge(observation{
			services: []swarm.Service{serviceOf("s_app", wanted, state)},
			tasks:    []swarm.Task{task("1", "s_app", wanted, running, running, "")},
			at:       start.Add(after),
		}).converged
	}
	if look(swarm.UpdateStateUpdating, 0) || look(swarm.UpdateStateUpdating, 11*time.Second) {
		t.Error("it does not wait for the monitor")
	}
	if !look(swarm.UpdateStateCompleted, 12*time.Second) {
		t.Error("a completed update is not enough")
	}
}

// crash looks at an app that fails again and again, beside a database in some state.
func crash(h *history, n int, every time.Duration, db swarm.TaskState) *failure {
	tasks := []swarm.Task{task("db", "s_db", "db", db, running, "")}
	for i := range n {
		at := start.Add(time.Duration(i) * every)
		t := task(string(rune('a'+i)), "s_app", wanted, failed, shutdown, "task: non-zero exit (1)")
		t.CreatedAt = at
		next := task("next", "s_app", wanted, swarm.TaskStateReady, swarm.TaskStateReady, "")
		next.CreatedAt = at.Add(time.Millisecond)
		tasks = append(tasks, t)
		dec := h.judge(observation{
			services: []swarm.Service{serviceOf("s_app", wanted, ""), serviceOf("s_db", "db", "")},
			tasks:    append(tasks, next), at: at,
		})
		if dec.failed != nil {
			return dec.failed
		}
	}
	return nil
}

func TestA24_RestartLoop(t *testing.T) {
	fresh := func() *history {
		h := newHistory([]service{{key: "app", name: "s_app", hash: wanted, probed: true}, {key: "db", name: "s_db", hash: "db", probed: true}})
		h.loopWindow = 10 * time.Second
		return h
	}
	if fail := crash(fresh(), 2, 6*time.Second, running); fail != nil {
		t.Errorf("two failures are called a loop: %+v", fail)
	}
	if fail := crash(fresh(), 4, time.Second, running); fail != nil {
		t.Errorf("four failures in 3 s are called a loop: %+v", fail)
	}
	if fail := crash(fresh(), 4, 6*time.Second, running); fail == nil || fail.reason != "restart-loop" || fail.service != "app" || fail.code != ccci.CodeRecipe {
		t.Errorf("four failures in 18 s: %+v", fail)
	}
	if fail := crash(fresh(), 8, 6*time.Second, swarm.TaskStateStarting); fail != nil {
		t.Errorf("an app that waits for its database is called a loop: %+v", fail)
	}
	if fail := crash(fresh(), 4, 6*time.Second, running); fail != nil && len(fail.tasks) < 3 {
		t.Errorf("the failed tasks are forgotten: %d", len(fail.tasks))
	}
}

// An app that ends until its database is ready is no loop, however often it ends: the database has
// only started, and without a healthcheck swarm calls it running from then on.
func TestA24_EndsBesideAServiceThatJustStarted(t *testing.T) {
	for name, c := range map[string]struct {
		probed bool
		ready  time.Duration // of the database: when swarm calls it running
		wait   time.Duration // that Deploy may take
		first  time.Duration // the failure is called a loop between here
		last   time.Duration // and here
	}{
		"without a healthcheck, half of the time":  {ready: 0, wait: 10 * time.Minute, first: 5 * time.Minute, last: 5*time.Minute + 6*time.Second},
		"without a healthcheck, little time":       {ready: 0, wait: 90 * time.Second, first: 2 * time.Minute, last: 2*time.Minute + 6*time.Second},
		"with one, a while after its first answer": {probed: true, ready: 40 * time.Second, wait: 10 * time.Minute, first: 100 * time.Second, last: 110 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Deployer{o: Options{LoopWindow: 10 * time.Second, Now: func() time.Time { return start }}}
			ctx, cancel := context.WithDeadline(t.Context(), start.Add(c.wait))
			defer cancel()
			h := newHistory([]service{{key: "app", name: "s_app", hash: wanted, probed: true}, {key: "db", name: "s_db", hash: "db", probed: c.probed}})
			h.loopWindow, h.grace = d.o.LoopWindow, d.grace(ctx, false)
			var ends []swarm.Task
			for after := time.Duration(0); after < 12*time.Minute; after += 5 * time.Second {
				end := task(after.String(), "s_app", wanted, failed, shutdown, "task: non-zero exit (3)")
				end.CreatedAt = start.Add(after)
				ends = append(ends, end)
				next := task("next", "s_app", wanted, swarm.TaskStateReady, swarm.TaskStateReady, "")
				next.CreatedAt = end.CreatedAt.Add(time.Millisecond)
				db := task("db", "s_db", "db", swarm.TaskStateStarting, running, "")
				if after >= c.ready {
					db.Status = swarm.TaskStatus{State: running, Timestamp: start.Add(c.ready)}
				}
				dec := h.judge(observation{
					services: []swarm.Service{serviceOf("s_app", wanted, ""), serviceOf("s_db", "db", "")},
					tasks:    append([]swarm.Task{db, next}, ends...), at: start.Add(after),
				})
				if dec.failed == nil {
					continue
				}
				if dec.failed.reason != "restart-loop" || dec.failed.service != "app" || after < c.first || after > c.last {
					t.Errorf("after %s: %+v, want a restart loop between %s and %s", after, dec.failed, c.first, c.last)
				}
				return
			}
			t.Error("an app that ends for ever is never called a loop")
		})
	}
}

// In Settle too, what ended beside a service that has just started may have waited for it.
func TestA24_SettleForgivesEndsBesideAStart(t *testing.T) {
	for name, c := range map[string]struct {
		started time.Duration // the database, against the second look
		reason  string
	}{
		"the database was restarted": {-10 * time.Second, ""},
		"it has run for long":        {-time.Minute, "restart-loop"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory([]service{{key: "app", name: "s_app", hash: wanted, probed: true}, {key: "db", name: "s_db", hash: "db"}})
			d := &Deployer{o: Options{LoopWindow: 10 * time.Second}}
			h.settle, h.loopWindow, h.grace = true, d.o.LoopWindow, d.grace(t.Context(), true)
			look := func(at time.Time, ends ...swarm.Task) decision {
				db := task("db", "s_db", "db", running, running, "")
				db.Status.Timestamp = start.Add(c.started)
				return h.judge(observation{
					services: []swarm.Service{serviceOf("s_app", wanted, ""), serviceOf("s_db", "db", "")},
					tasks:    append([]swarm.Task{db}, ends...), at: at,
				})
			}
			end := func(id string, at time.Time) swarm.Task {
				t := task(id, "s_app", wanted, failed, shutdown, "task: non-zero exit (3)")
				t.CreatedAt, t.Status.Timestamp = at.Add(-time.Second), at
				return t
			}
			one := end("1", start.Add(-5*time.Second))
			if dec := look(start.Add(-time.Second), one); dec.failed != nil || dec.converged {
				t.Fatalf("at first: converged %v, %+v", dec.converged, dec.failed)
			}
			dec := look(start, one, end("2", start))
			if reasonOf(dec) != c.reason || dec.converged {
				t.Errorf("converged %v, reason %q, want %q", dec.converged, reasonOf(dec), c.reason)
			}
		})
	}
}

func TestA24_SwarmGivesUp(t *testing.T) {
	h := newHistory(app())
	svc := serviceOf("s_app", wanted, "")
	svc.Spec.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone}
	o := observation{
		services: []swarm.Service{svc},
		tasks:    []swarm.Task{task("1", "s_app", wanted, failed, shutdown, "task: non-zero exit (5)")}, at: start,
	}
	for range givenUpLooks - 1 {
		if dec := h.judge(o); dec.failed != nil || dec.converged {
			t.Fatalf("too early: %+v", dec)
		}
	}
	if dec := h.judge(o); dec.failed == nil || dec.failed.reason != "restart-loop" {
		t.Errorf("a task that is not tried again is no failure: %+v", dec.states)
	}
	o.tasks[0].Status = swarm.TaskStatus{State: swarm.TaskStateComplete}
	if dec := newHistory(app()).judge(o); !dec.converged {
		t.Errorf("a one-shot service that ended well has not converged: %+v", dec.states)
	}
}

func TestA24_NoNodeIsWhoseFault(t *testing.T) {
	for text, code := range map[string]ccci.Code{
		"no suitable node (scheduling constraints not satisfied on 1 node)": ccci.CodeRecipe,
		"no suitable node (insufficient resources on 1 node)":               ccci.CodeInfra,
	} {
		h := newHistory(app())
		o := observation{
			services: []swarm.Service{serviceOf("s_app", wanted, "")},
			tasks:    []swarm.Task{task("1", "s_app", wanted, swarm.TaskStatePending, running, text)}, at: start,
		}
		if dec := h.judge(o); dec.failed != nil {
			t.Errorf("%s: failed at once", text)
		}
		o.at = start.Add(unplacedLimit)
		if dec := h.judge(o); dec.failed == nil || dec.failed.code != code {
			t.Errorf("%s: %+v, want %s", text, dec.failed, code)
		}
	}
}

func TestSameFailureDespiteIdentifiers(t *testing.T) {
	a := alike("starting container failed: network x9okzde8wix3s2o9j0tcqenm0 of 8aa8ef8e62e063fb not found")
	b := alike("starting container failed: network lca18h2hal0k7yhhmi6yaq2jl of 099c06539349aaaa not found")
	if a != b {
		t.Errorf("%q != %q", a, b)
	}
}

// Settle believes a service whose tasks have ended only when it outlives them.
func TestA24_AServiceMustOutliveItsEndedTasks(t *testing.T) {
	const none = swarm.UpdateState("")
	plain, once := serviceOf("s_app", wanted, none), serviceOf("s_app", wanted, none)
	once.Spec.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionOnFailure}
	one := func(id string, state swarm.TaskState, created, since time.Duration) swarm.Task {
		desired := shutdown
		if state == running {
			desired = running
		}
		t := task(id, "s_app", wanted, state, desired, "")
		t.CreatedAt, t.Status.Timestamp = start.Add(created), start.Add(since)
		return t
	}
	dead := []swarm.Task{one("1", failed, -60*time.Second, -50*time.Second), one("2", failed, -50*time.Second, -46*time.Second)}
	stopped := []swarm.Task{one("1", shutdown, -60*time.Second, -50*time.Second)}
	lives := map[string]time.Duration{"1": 10 * time.Second, "2": 4 * time.Second, "3": 4 * time.Second}
	const proven = 13500*time.Millisecond + time.Millisecond
	for name, c := range map[string]struct {
		svc    swarm.Service
		bare   bool // it has no healthcheck
		before []swarm.Task
		newest swarm.Task
		then   []swarm.Task // at the second look, in place of newest
		first  bool         // converged at the first look
		second string       // "", "waits" or a reason
	}{
		"outlived them":              {svc: plain, before: dead, newest: one("3", running, -46*time.Second, -proven), first: true},
		"not yet":                    {svc: plain, before: dead, newest: one("3", running, -46*time.Second, -12*time.Second), second: "waits"},
		"ends again":                 {svc: plain, before: dead, newest: one("3", running, -46*time.Second, -3*time.Second), then: []swarm.Task{one("3", failed, -46*time.Second, 0)}, second: "restart-loop"},
		"ends again, with success":   {svc: plain, before: dead, newest: one("3", running, -46*time.Second, -3*time.Second), then: []swarm.Task{one("3", swarm.TaskStateComplete, -46*time.Second, 0)}, second: "restart-loop"},
		"the first end":              {svc: plain, newest: one("3", running, -46*time.Second, -46*time.Second), first: true, then: []swarm.Task{one("3", failed, -46*time.Second, 0), one("4", running, 0, 0)}, second: "waits"},
		"an operator's restart":      {svc: plain, before: stopped, newest: one("3", running, -50*time.Second, -2*time.Second), first: true},
		"a job that did it at last":  {svc: once, before: dead, newest: one("3", swarm.TaskStateComplete, -46*time.Second, -time.Second), first: true},
		"a job that does it now":     {svc: once, before: dead, newest: one("3", running, -46*time.Second, -time.Second), then: []swarm.Task{one("3", failed, -46*time.Second, 0), one("4", swarm.TaskStateComplete, 0, 0)}, second: ""},
		"new, without a healthcheck": {svc: plain, bare: true, newest: one("3", running, -9*time.Second, -6*time.Second), second: ""},
		"old, without a healthcheck": {svc: plain, bare: true, newest: one("3", running, -9*time.Second, -7*time.Second), first: true},
		"a job, as a whole":          {svc: once, bare: true, newest: one("3", swarm.TaskStateComplete, -9*time.Second, 0), first: true},
		"a job that goes on to fail": {svc: once, before: dead, newest: one("3", running, -46*time.Second, -time.Second), then: []swarm.Task{one("3", failed, -46*time.Second, 0)}, second: "restart-loop"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory([]service{{key: "app", name: "s_app", hash: wanted, probed: !c.bare}})
			h.settle, h.lives, h.loopWindow = true, lives, time.Hour
			look := func(at time.Time, last ...swarm.Task) decision {
				return h.judge(observation{services: []swarm.Service{c.svc}, tasks: append(slices.Clone(c.before), last...), at: at})
			}
			if dec := look(start, c.newest); dec.aged != (c.newest.Status.State != running || start.Sub(c.newest.Status.Timestamp) > unmonitored) {
				t.Errorf("at first: aged %v", dec.aged)
			} else if dec.converged != c.first || dec.failed != nil {
				t.Errorf("at first: converged %v, %+v", dec.converged, dec.failed)
			}
			if c.then == nil {
				c.then = []swarm.Task{c.newest}
			}
			dec := look(start.Add(time.Millisecond), c.then...)
			if got := cmp.Or(reasonOf(dec), map[bool]string{false: "waits"}[dec.converged]); got != c.second {
				t.Errorf("then: %q, want %q (%+v)", got, c.second, dec.states)
			}
		})
	}
}

func reasonOf(dec decision) string {
	if dec.failed == nil {
		return ""
	}
	return dec.failed.reason
}

// A task without a healthcheck is believed after a second, and after three when one
// before it failed.
func TestA24_YoungTaskIsNotBelieved(t *testing.T) {
	bare := []service{{key: "app", name: "s_app", hash: wanted}}
	look := func(h *history, after time.Duration, since time.Time, others ...swarm.Task) bool {
		fresh := task("1", "s_app", wanted, running, running, "")
		fresh.Status.Timestamp = since
		return h.judge(observation{
			services: []swarm.Service{serviceOf("s_app", wanted, "")},
			tasks:    append(others, fresh), at: start.Add(after),
		}).converged
	}
	h := newHistory(bare)
	if look(h, 0, start) || look(h, 900*time.Millisecond, start) || !look(h, time.Second, start) {
		t.Error("it is not believed after a second exactly")
	}
	if !look(newHistory(bare), 0, start.Add(-time.Hour)) {
		t.Error("a task that has run for an hour is not believed at once")
	}
	ahead := newHistory(bare)
	if look(ahead, 0, start.Add(time.Hour)) || !look(ahead, time.Second, start.Add(time.Hour)) {
		t.Error("a clock that is ahead confuses it")
	}
	before := task("0", "s_app", wanted, failed, shutdown, "task: non-zero exit (1)")
	again := newHistory(bare)
	if look(again, time.Second, start, before) || look(again, 2*time.Second, start, before) || !look(again, 3*time.Second, start, before) {
		t.Error("after a failure it is not believed after three seconds exactly")
	}
}
