package redisbus

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/bus/bustest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openBus(t *testing.T, server *redis.Server) *Bus {
	t.Helper()
	b, err := New(ccci.NewSecret(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestC11_Bus(t *testing.T) {
	server := redis.Start(t)
	bustest.RunBus(t, bustest.BusOptions{Open: func(t *testing.T) ccci.Bus { return openBus(t, server) }})
}

func TestC14_Locker(t *testing.T) {
	server := redis.Start(t)
	bustest.RunLocker(t, bustest.LockerOptions{
		Open: func(t *testing.T) ccci.Locker { return openBus(t, server).Locker() },
		Lose: func(t *testing.T, _ ccci.Locker, key string) {
			if answer := server.Do("DEL", prefix+"lock:"+key); answer != ":1" {
				t.Errorf("nobody held it: %q", answer)
			}
		},
	})
}

// What one process says, another hears.
func TestC11_BetweenProcesses(t *testing.T) {
	server := redis.Start(t)
	here, there := openBus(t, server), openBus(t, server)
	heard, err := there.Subscribe(t.Context(), ccci.TopicRuns)
	if err != nil {
		t.Fatal(err)
	}
	if err := here.Publish(t.Context(), ccci.TopicRuns, "a run"); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "a run" {
		t.Errorf("heard %q", got)
	}
	held, err := here.Locker().Acquire(t.Context(), "k", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	short, done := context.WithTimeout(t.Context(), 3*retry)
	defer done()
	if _, err := there.Locker().Acquire(short, "k", time.Minute); err == nil {
		t.Error("both processes hold the lease")
	}
}

// A Redis that is away is said so, and a subscription goes on when it is back,
// though it forgot everything. The fence grows on.
func TestC16_RedisAway(t *testing.T) {
	server := redis.Start(t)
	b := openBus(t, server)
	heard, err := b.Subscribe(t.Context(), ccci.TopicRuns)
	if err != nil {
		t.Fatal(err)
	}
	held, err := b.Locker().Acquire(t.Context(), "k", 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	err = b.Publish(t.Context(), ccci.TopicRuns, "x")
	if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(ccci.HintOf(err), "bus.redis.url_file") {
		t.Errorf("publishing: %v", err)
	}
	<-held.Context().Done()
	if cause := context.Cause(held.Context()); cause != ccci.ErrLeaseLost {
		t.Errorf("the lease ended because of %v", cause)
	}
	server.StartAgain(t)
	for deadline := time.After(30 * time.Second); ; {
		_ = b.Publish(t.Context(), ccci.TopicRuns, "again")
		select {
		case got := <-heard:
			if got != "again" {
				t.Errorf("heard %q", got)
			}
			next, err := b.Locker().Acquire(t.Context(), "k", time.Minute)
			if err != nil || next.Fence() <= held.Fence() {
				t.Fatalf("the next lease: %v, %v", next, err)
			}
			if err := next.Release(); err != nil {
				t.Error(err)
			}
			return
		case <-deadline:
			t.Fatal("the subscription stayed silent")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The address holds a password; what is said about it does not.
func TestAddressIsNotSaid(t *testing.T) {
	for _, url := range []string{"http://:geheim@h", "redis://:geheim@h:x", "geheim"} {
		_, err := New(ccci.NewSecret(url))
		if ccci.CodeOf(err) != ccci.CodeInvalid || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", url, err)
		}
	}
	b, err := New(ccci.NewSecret("redis://:geheim@127.0.0.1:1/3"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Publish(t.Context(), "t", "m"); err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "127.0.0.1:1, database 3") {
		t.Errorf("publishing: %v", err)
	}
}
