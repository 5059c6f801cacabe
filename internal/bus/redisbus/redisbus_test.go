package redisbus

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

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

func TestC11_BusAtASocket(t *testing.T) {
	server := redis.StartAtSocket(t)
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

func TestAddress(t *testing.T) {
	for url, want := range map[string]string{
		"unix://:geheim@/run/redis/redis.sock":      "unix /run/redis/redis.sock",
		"unix://:geheim@/run/redis/redis.sock?db=1": "unix /run/redis/redis.sock",
		"redis://:geheim@10.1.2.3:6380/0":           "tcp 10.1.2.3:6380",
		"rediss://:geheim@redis.example.org":        "tcp redis.example.org:6379",
	} {
		if network, address, err := Address(ccci.NewSecret(url)); err != nil || network+" "+address != want {
			t.Errorf("%s: %s %s, %v", url, network, address, err)
		}
	}
	if _, _, err := Address(ccci.NewSecret("geheim")); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("%v", err)
	}
}

// At a Unix socket bridge and dashboard have Redis to themselves: who may not enter its folder opens no
// connection, so no number of idle ones takes the lease away. At a port each connection counts, also one
// that never says the password.
func TestN3_IdleConnectionsTakeNoLease(t *testing.T) {
	for _, tc := range []struct {
		name  string
		start func(testing.TB, ...string) *redis.Server
		holds bool
	}{{"at a port they do", redis.Start, false}, {"at a socket there are none", redis.StartAtSocket, true}} {
		t.Run(tc.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("becoming somebody else needs root")
			}
			server := tc.start(t, "--requirepass", "geheim", "--maxclients", "100")
			bus, err := New(ccci.NewSecret(strings.Replace(server.URL, "//", "//:geheim@", 1)))
			if err != nil {
				t.Fatal(err)
			}
			defer bus.Close()
			idle := flood(t, server.URL, 300)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			lease, err := bus.Locker().Acquire(ctx, "forge", time.Minute)
			if holds := err == nil; holds != tc.holds || tc.holds && idle > 0 {
				t.Fatalf("with %d idle connections there is a lease: %t, %v", idle, holds, err)
			}
			if err == nil {
				if err := errors.Join(bus.Publish(ctx, "topic", "message"), lease.Release()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// flood opens connections as an app would, which is nobody on this machine, and leaves them idle. It
// returns how many are open.
func flood(t *testing.T, url string, n int) int {
	t.Helper()
	network, address, err := Address(ccci.NewSecret(url))
	if err != nil {
		t.Fatal(err)
	}
	open := make(chan []net.Conn)
	go func() {
		runtime.LockOSThread() // which ends with this goroutine, being nobody
		const nobody = 65534
		var all []net.Conn
		defer func() { open <- all }()
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
			if _, _, failed := unix.RawSyscall(call[0], call[1], call[2], call[3]); failed != 0 {
				t.Errorf("becoming nobody: %v", failed)
				return
			}
		}
		for range n {
			if conn, err := net.Dial(network, address); err == nil {
				all = append(all, conn)
			}
		}
	}()
	all := <-open
	t.Cleanup(func() {
		for _, conn := range all {
			conn.Close()
		}
	})
	return len(all)
}
